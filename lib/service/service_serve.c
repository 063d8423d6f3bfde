/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/service/master_protocol.h"
#include "lib/service/service_internal.h"

enum { ACCEPTS_IN_A_ROW = 64 }; /* then the sessions get a turn */

#define PASS_TIME SECONDS(10)

struct connection {
    int fd;
    unsigned socket;
    struct net_addr peer;
};

/* --- sessions --- */

void
service_session_ended(void)
{
    struct service_state *s = &service_state;

    if (--s->sessions == 0)
        service_note_quiet();
    task_wake_all(&s->session_ended);
    service_note_activity();
}

/* The first, or -1; more than one are not wanted. */
static int
first_descriptor(struct msghdr *msg)
{
    int first = -1;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (first < 0)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

/* The descriptor that a `pass` service gets over its socket; -1: none came. */
static int may_wait
receive_passed(int fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct task_fd tfd;
    struct err err;
    ssize_t n;

    task_fd_init(&tfd, fd);
    while ((n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0 && errno == EAGAIN)
        if (task_fd_wait_read(&tfd, loop_now() + PASS_TIME, &err) < 0)
            break;
    task_fd_release(&tfd);
    return n < 0 ? -1 : first_descriptor(&msg);
}

static void
take_passed(struct connection *connection)
{
    int fd = receive_passed(connection->fd);

    close(connection->fd);
    connection->fd = fd;
    if (fd < 0) {
        log_warning("%s: a connection passed no descriptor", service_state.name);
        return;
    }
    connection->peer.len = sizeof(connection->peer) - offsetof(struct net_addr, any);
    if (getpeername(fd, &connection->peer.any, &connection->peer.len) < 0 || net_set_nonblocking(fd, true) < 0) {
        close(fd);
        connection->fd = -1;
    }
}

static void
run_session(void *arg)
{
    struct connection connection = *(struct connection *)arg;

    free(arg);
    if (service_state.type == SOCKET_PASS)
        take_passed(&connection);
    if (connection.fd >= 0)
        service_state.service->serve(connection.fd, &connection.peer, connection.socket);
    service_session_ended();
}

static void
start_session(const struct connection *from)
{
    struct service_state *s = &service_state;
    struct connection *connection = malloc(sizeof(*connection));

    if (!connection)
        fatal("out of memory");
    *connection = *from;
    s->sessions++;
    s->used++;
    task_spawn(&s->session_tasks, "session", run_session, connection);
    service_note_activity();
    if (s->use_limit && s->used >= s->use_limit)
        service_end(false);
}

/* --- listening sockets --- */

/* Accepts one connection. 0: none there now; -1: waiting was cancelled. */
static int may_wait
accept_one(int listener, unsigned socket, struct err *err)
{
    struct connection connection = {.socket = socket};

    connection.peer.len = sizeof(connection.peer) - offsetof(struct net_addr, any);
    connection.fd = accept4(listener, &connection.peer.any, &connection.peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection.fd >= 0) {
        start_session(&connection);
        return 1;
    }
    if (errno == EAGAIN)
        return 0;
    if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO || errno == EPERM || errno == ENETUNREACH)
        return 1; /* that connection has gone already */
    log_warning("%s: accept connection: %s", service_state.name, strerror(errno));
    return task_sleep(SECONDS(1), err) < 0 ? -1 : 1;
}

static int may_wait
accept_loop(int listener, unsigned socket, struct task_fd *tfd, struct err *err)
{
    struct service_state *s = &service_state;
    unsigned in_a_row = 0;

    for (;;) {
        int got;

        if (s->sessions >= s->process_limit) {
            if (task_wait(&s->session_ended, NO_DEADLINE, err) < 0)
                return -1;
            continue;
        }
        got = accept_one(listener, socket, err);
        if (got < 0 || s->ending)
            return -1;
        if (got == 0) {
            in_a_row = 0;
            if (task_fd_wait_read(tfd, NO_DEADLINE, err) < 0)
                return -1;
        } else if (++in_a_row >= ACCEPTS_IN_A_ROW) {
            in_a_row = 0;
            if (task_yield(err) < 0)
                return -1;
        }
    }
}

static int may_wait
readable_loop(int fd, struct task_fd *tfd, struct err *err)
{
    for (;;) {
        service_state.service->readable(fd);
        service_note_activity();
        if (task_fd_wait_read(tfd, NO_DEADLINE, err) < 0) {
            service_state.service->readable(fd); /* what came before the end */
            return -1;
        }
    }
}

static void
watch_socket(void *arg)
{
    unsigned socket = (unsigned)(uintptr_t)arg;
    int fd = MASTER_LISTEN_FD + (int)socket;
    struct task_fd tfd;
    struct err err;

    task_fd_init(&tfd, fd);
    if (service_state.service->readable)
        (void)!readable_loop(fd, &tfd, &err);
    else
        (void)!accept_loop(fd, socket, &tfd, &err);
    task_fd_release(&tfd);
    close(fd);
}

void
service_listen(void)
{
    struct service_state *s = &service_state;

    for (unsigned i = 0; i < s->socket_count; i++) {
        if (net_set_nonblocking(MASTER_LISTEN_FD + (int)i, true) < 0)
            fatal("socket %u: %m", i);
        task_spawn(&s->acceptors, "accept", watch_socket, (void *)(uintptr_t)i);
    }
}
