/* SPDX-License-Identifier: Apache-2.0 */
/* A single session, on standard input and output. A socket is served as it is. Of files, pipes and terminals, which an event
 * loop can't wait for, or which are two, threads carry the bytes from and to a socket of our own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/service/service_internal.h"

enum { PIECE = 2048 };

struct carrier {
    pthread_t thread;
    int from, to;
};

static bool
write_all(int fd, const char *bytes, ssize_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, (size_t)len);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            bytes += n;
            len -= n;
        }
    }
    return true;
}

/* To the end of the input, or until nobody takes it: both sides are told. */
static void *
carry(void *arg)
{
    const struct carrier *c = arg;
    char bytes[PIECE];
    ssize_t n;

    while ((n = read(c->from, bytes, sizeof bytes)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || !write_all(c->to, bytes, n))
            break;
    }
    (void)shutdown(c->to, SHUT_WR);
    (void)shutdown(c->from, SHUT_RD);
    return NULL;
}

static void
start_carrier(struct carrier *c, int from, int to)
{
    sigset_t all, before;

    c->from = from;
    c->to = to;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    if (pthread_create(&c->thread, NULL, carry, c) != 0)
        fatal("no thread for standard input and output");
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static bool
is_one_socket(void)
{
    struct stat in, out;

    return fstat(STDIN_FILENO, &in) == 0 && S_ISSOCK(in.st_mode) &&
           (fstat(STDOUT_FILENO, &out) < 0 || (in.st_dev == out.st_dev && in.st_ino == out.st_ino));
}

static void
serve_socket(void)
{
    struct net_addr peer = {.len = sizeof(peer) - offsetof(struct net_addr, any)};
    int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

    if (fd < 0 || net_set_nonblocking(fd, true) < 0)
        fatal("standard input: %m");
    if (getpeername(fd, &peer.any, &peer.len) < 0)
        peer = (struct net_addr){.len = sizeof(sa_family_t), .any.sa_family = AF_UNIX};
    service_state.service->serve(fd, &peer, 0);
}

/* What reads our input may wait for ever: it ends with the process. What was said must have gone out before that. */
static void
serve_files(void)
{
    static struct carrier in, out; /* their threads may outlive this task */
    const struct net_addr peer = {.len = sizeof(sa_family_t), .any.sa_family = AF_UNIX};
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || net_set_nonblocking(pair[0], true) < 0)
        fatal("standard input: %m");
    start_carrier(&in, STDIN_FILENO, pair[1]);
    start_carrier(&out, pair[1], STDOUT_FILENO);
    service_state.service->serve(pair[0], &peer, 0);
    (void)pthread_join(out.thread, NULL);
}

static void
serve_once(void *arg)
{
    (void)arg;
    if (is_one_socket())
        serve_socket();
    else
        serve_files();
    service_session_ended();
    service_end(false);
}

void
service_serve_standard_input(void)
{
    service_state.sessions++;
    task_spawn(&service_state.session_tasks, "session", serve_once, NULL);
}
