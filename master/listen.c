/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "master/master.h"

enum {
    BACKLOG = 4096,     /* or what the kernel allows */
    SOCKET_MODE = 0666, /* who may reach it is said by the directory's mode */
    FIFO_MODE = 0622,
    LOG_BUFFER = 1 << 20,
};

static void
add_listener(struct service *s, const struct listener *listener)
{
    s->listeners = realloc(s->listeners, (s->listener_count + 1) * sizeof(*s->listeners));
    if (!s->listeners)
        fatal("out of memory");
    s->listeners[s->listener_count++] = *listener;
}

/* Is it what we made, and under no other name? The directory is mail_owner's, who could put something else there. */
static int
check_made(int fd, const char *path, mode_t kind, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(err, "%s", path);
    if ((st.st_mode & S_IFMT) != kind || st.st_nlink != 1)
        return err_set(err, ERR_PERM, "%s: something else was put in its place", path);
    return 0;
}

/* Root makes the sockets, but they belong to mail_owner, like the directory. */
static int
give_to_owner(const char *path, mode_t kind, struct err *err)
{
    int fd, result;

    if (!master.is_root)
        return 0;
    fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    result = check_made(fd, path, kind, err);
    if (result == 0 && fchownat(fd, "", master.owner_uid, master.owner_gid, AT_EMPTY_PATH) < 0)
        result = err_errno(err, "%s: chown", path);
    close(fd);
    return result;
}

/* --- Unix sockets and FIFOs --- */

static int
open_datagram(const struct net_addr *addr, struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = LOG_BUFFER;

    if (fd < 0)
        return err_errno(err, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (net_bind_unix(fd, addr, SOCKET_MODE) < 0) {
        err_errno(err, "%s", addr->un.sun_path);
        close(fd);
        return -1;
    }
    return fd;
}

static int
open_fifo(const char *path, struct err *err)
{
    struct stat st;
    int fd;

    if (lstat(path, &st) == 0 && !S_ISFIFO(st.st_mode))
        unlink(path);
    if (mkfifo(path, FIFO_MODE) < 0 && errno != EEXIST)
        return err_errno(err, "%s: mkfifo", path);
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(err, "%s", path);
    if (check_made(fd, path, S_IFIFO, err) == 0 && (fchmod(fd, FIFO_MODE) == 0 || err_errno(err, "%s", path) == 0))
        return fd;
    close(fd);
    return -1;
}

static int
open_local(struct service *s, struct err *err)
{
    struct listener listener = {.fd = -1};

    if (net_addr_unix(s->path, &listener.addr, err) < 0)
        return -1;
    if (s->type == SERVICE_FIFO)
        listener.fd = open_fifo(s->path, err);
    else if (s->type == SERVICE_UNIX_DGRAM)
        listener.fd = open_datagram(&listener.addr, err);
    else if ((listener.fd = net_listen(&listener.addr, BACKLOG, SOCKET_MODE, err)) < 0)
        return err_context(err, "%s", s->path);
    if (listener.fd < 0)
        return -1;
    if (give_to_owner(s->path, s->type == SERVICE_FIFO ? S_IFIFO : S_IFSOCK, err) < 0) {
        close(listener.fd);
        return -1;
    }
    add_listener(s, &listener);
    return 0;
}

/* --- TCP --- */

static bool
is_same(const struct net_addr *a, const struct net_addr *b)
{
    return a->any.sa_family == b->any.sa_family && net_addr_equal_host(a, b) && net_addr_port(a) == net_addr_port(b);
}

static bool
is_among(const struct net_addr *addr, const struct net_addr *addrs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_same(addr, &addrs[i]))
            return true;
    return false;
}

static void
close_unwanted(struct service *s, const struct net_addr *addrs, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->listener_count; i++) {
        if (is_among(&s->listeners[i].addr, addrs, count))
            s->listeners[kept++] = s->listeners[i];
        else
            close(s->listeners[i].fd);
    }
    s->listener_count = kept;
}

static bool
has_listener(const struct service *s, const struct net_addr *addr)
{
    for (size_t i = 0; i < s->listener_count; i++)
        if (is_same(&s->listeners[i].addr, addr))
            return true;
    return false;
}

/* Accepted sockets inherit TCP_NODELAY, which saves a system call for each. A host without IPv6 is no error. */
static int
open_inet(struct service *s, const struct net_addr *addr, struct err *err)
{
    struct listener listener = {.addr = *addr, .fd = net_listen(addr, BACKLOG, 0, err)};
    char host[INET6_ADDRSTRLEN];
    int on = 1;

    if (listener.fd < 0 && err->code == EAFNOSUPPORT && addr->any.sa_family == AF_INET6)
        return 0;
    if (listener.fd < 0) {
        net_addr_format(addr, host, sizeof(host));
        return err_context(err, "bind %s port %u", host, net_addr_port(addr));
    }
    (void)setsockopt(listener.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    add_listener(s, &listener);
    return 0;
}

static int
update_inet(struct service *s, struct err *err)
{
    struct net_addr *addrs;
    size_t count;

    if (master_service_addresses(master.conf, master.arena, s->conf, &addrs, &count, err) < 0)
        return -1;
    close_unwanted(s, addrs, count);
    for (size_t i = 0; i < count; i++)
        if (!has_listener(s, &addrs[i]) && open_inet(s, &addrs[i], err) < 0)
            return -1;
    return 0;
}

int
listen_update(struct service *s, struct err *err)
{
    if (s->type == SERVICE_INET)
        return update_inet(s, err);
    return s->listener_count > 0 ? 0 : open_local(s, err);
}

void
listen_close(struct service *s, bool remove_path)
{
    for (size_t i = 0; i < s->listener_count; i++)
        close(s->listeners[i].fd);
    free(s->listeners);
    s->listeners = NULL;
    s->listener_count = 0;
    if (remove_path && s->path)
        unlink(s->path);
}
