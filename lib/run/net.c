/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

/* --- addresses ------------------------------------------------------------------------------------------------- */

int
net_addr_parse(const char *text, unsigned port, struct net_addr *addr, struct err *err)
{
    memset(addr, 0, sizeof(*addr));
    if (port > 65535)
        return err_set(err, ERR_SYNTAX, "bad port: %u", port);
    if (inet_pton(AF_INET, text, &addr->in4.sin_addr) == 1) {
        addr->in4.sin_family = AF_INET;
        addr->in4.sin_port = htons((uint16_t)port);
        addr->len = sizeof(addr->in4);
        return 0;
    }
    if (inet_pton(AF_INET6, text, &addr->in6.sin6_addr) == 1) {
        addr->in6.sin6_family = AF_INET6;
        addr->in6.sin6_port = htons((uint16_t)port);
        addr->len = sizeof(addr->in6);
        net_addr_unmap(addr);
        return 0;
    }
    return err_set(err, ERR_SYNTAX, "not a numeric address: %s", text);
}

int
net_addr_unix(const char *path, struct net_addr *addr, struct err *err)
{
    size_t len = strlen(path);
    memset(addr, 0, sizeof(*addr));
    if (len >= sizeof(addr->un.sun_path))
        return err_set(err, ERR_SYNTAX, "name of a socket is too long: %s", path);
    addr->un.sun_family = AF_UNIX;
    memcpy(addr->un.sun_path, path, len);
    addr->len = sizeof(addr->un);
    return 0;
}

void
net_addr_format(const struct net_addr *addr, char *text, size_t size)
{
    const char *shown = NULL;
    if (addr->any.sa_family == AF_INET)
        shown = inet_ntop(AF_INET, &addr->in4.sin_addr, text, (socklen_t)size);
    else if (addr->any.sa_family == AF_INET6)
        shown = inet_ntop(AF_INET6, &addr->in6.sin6_addr, text, (socklen_t)size);
    if (!shown)
        snprintf(text, size, "unknown");
}

unsigned
net_addr_port(const struct net_addr *addr)
{
    if (addr->any.sa_family == AF_INET)
        return ntohs(addr->in4.sin_port);
    return addr->any.sa_family == AF_INET6 ? ntohs(addr->in6.sin6_port) : 0;
}

bool
net_addr_equal_host(const struct net_addr *a, const struct net_addr *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
    if (a->any.sa_family == AF_INET6)
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0 &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id;
    return false;
}

void
net_addr_unmap(struct net_addr *addr)
{
    if (addr->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr))
        return;
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = addr->in6.sin6_port};
    memcpy(&in4.sin_addr, &addr->in6.sin6_addr.s6_addr[12], sizeof(in4.sin_addr));
    addr->in4 = in4;
    addr->len = sizeof(in4);
}

void
net_addr_network(const struct net_addr *addr, unsigned v4_bits, unsigned v6_bits, char *text, size_t size)
{
    struct net_addr network = *addr;
    net_addr_unmap(&network);
    bool v4 = network.any.sa_family == AF_INET;
    unsigned char *bytes = v4 ? (unsigned char *)&network.in4.sin_addr : (unsigned char *)&network.in6.sin6_addr;
    unsigned all = v4 ? 32 : 128, bits = v4 ? v4_bits : v6_bits;
    if ((!v4 && network.any.sa_family != AF_INET6) || bits >= all) {
        net_addr_format(&network, text, size);
        return;
    }
    for (unsigned i = bits; i < all; i++)
        bytes[i / 8] = (unsigned char)(bytes[i / 8] & ~(0x80U >> (i % 8)));
    net_addr_format(&network, text, size);
    snprintf(text + strlen(text), size - strlen(text), "/%u", bits);
}

/* --- sockets --------------------------------------------------------------------------------------------------- */

int
net_set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -1;
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return wanted == flags ? 0 : fcntl(fd, F_SETFL, wanted);
}

static int
make_socket(const struct net_addr *addr)
{
    return socket(addr->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int
reason(struct err *err)
{
    return err_errno(err, "%s", "");
}

static int
close_failed(int fd, struct err *err)
{
    int status = reason(err);
    close(fd);
    return status;
}

/* The connection is under way: waits for its outcome. */
static int
wait_connected(int fd, usec_t deadline, struct err *err)
{
    struct task_fd tfd;
    int why = 0;
    socklen_t len = sizeof(why);
    task_fd_init(&tfd, fd);
    int status = task_fd_wait_write(&tfd, deadline, err);
    task_fd_release(&tfd);
    if (status < 0) {
        if (err && err->kind == ERR_TIMEOUT)
            err_set(err, ERR_TIMEOUT, "Connection timed out");
        return -1;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) < 0)
        return reason(err);
    errno = why;
    return why ? reason(err) : 0;
}

static int
connect_socket(int fd, const struct net_addr *addr, usec_t deadline, struct err *err)
{
    enum { RETRY = 5000 };
    while (connect(fd, &addr->any, addr->len) < 0) {
        if (errno == EINPROGRESS || errno == EINTR)
            return wait_connected(fd, deadline, err);
        if (errno != EAGAIN || addr->any.sa_family != AF_UNIX)
            return reason(err);
        if (loop_now() >= deadline)
            return err_set(err, ERR_TIMEOUT, "Connection timed out");
        if (task_sleep(RETRY, err) < 0) /* a Unix socket whose queue is full gives no event when it is not */
            return -1;
    }
    return 0;
}

int
net_connect(const struct net_addr *addr, const struct net_addr *bind_to, usec_t deadline, struct err *err)
{
    static const int on = 1;
    struct err why;
    int fd = make_socket(addr);
    if (fd < 0)
        return reason(err);
    if (addr->any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind_to && bind(fd, &bind_to->any, bind_to->len) < 0)
        return close_failed(fd, err);
    if (connect_socket(fd, addr, deadline, &why) < 0) {
        close(fd);
        if (err)
            *err = why;
        return -1;
    }
    return fd;
}

int
net_bind_unix(int fd, const struct net_addr *addr, unsigned mode)
{
    struct stat st;
    if (lstat(addr->un.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && unlink(addr->un.sun_path) < 0)
        return -1;
    mode_t before = umask((mode_t)(0777 & ~mode));
    int status = bind(fd, &addr->any, addr->len);
    umask(before);
    return status;
}

static int
bind_inet(int fd, const struct net_addr *addr)
{
    static const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (addr->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* accepted sockets inherit it */
    return bind(fd, &addr->any, addr->len);
}

int
net_listen(const struct net_addr *addr, int backlog, unsigned mode, struct err *err)
{
    int fd = make_socket(addr);
    if (fd < 0)
        return reason(err);
    int status = addr->any.sa_family == AF_UNIX ? net_bind_unix(fd, addr, mode) : bind_inet(fd, addr);
    if (status < 0 || listen(fd, backlog) < 0)
        return close_failed(fd, err);
    return fd;
}
