/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "master/master.h"

enum {
    LOAD_FOR_ANOTHER = 300, /* sessions in each process of a service, before it gets one more */
    LIMIT_FOR_ONE = 500,    /* a service that may hold no more sessions than that has one process, so that the limit
                             * that the administrator wrote is kept exactly */
};

#define REST_TIME SECONDS(3)
#define REST_LOOK 5000

/* --- how many --- */

unsigned
service_worker_limit(const struct service *s)
{
    int64_t limit = master.settings.worker_processes_limit;

    if (!s->many_workers || (s->conf->maxproc_is_given && s->conf->maxproc > 0 && s->conf->maxproc <= LIMIT_FOR_ONE))
        return 1;
    if (limit == 0)
        limit = sysconf(_SC_NPROCESSORS_ONLN);
    return limit < 1 ? 1 : (unsigned)limit;
}

static bool
is_serving(const struct child *child)
{
    return !child->retiring && !child->told_to_end;
}

static unsigned
count_serving(const struct service *s)
{
    unsigned count = 0;

    LIST_EACH(at, &s->children)
    {
        count += is_serving(LIST_ENTRY(at, struct child, link));
    }
    return count;
}

/* Each of its processes has plenty to do. */
static bool
is_loaded(const struct service *s)
{
    LIST_EACH(at, &s->children)
    {
        const struct child *child = LIST_ENTRY(at, struct child, link);

        if (is_serving(child) && child->load < LOAD_FOR_ANOTHER)
            return false;
    }
    return true;
}

/* May another process be started while this one lives? Where the administrator wants one delivery at a time, not even
 * while it finishes its last. */
static bool
may_stand_beside(const struct service *s, const struct child *child)
{
    bool one_at_a_time = s->delivers && s->conf->maxproc_is_given && s->conf->maxproc == 1;

    if (is_serving(child))
        return s->many_workers;
    return child->handed_over || ((s->many_workers || s->overlaps) && !one_at_a_time);
}

static bool
may_start(const struct service *s)
{
    if (!s->conf || s->stopping || s->not_before > loop_now() || s->listener_count == 0)
        return false;
    LIST_EACH(at, &s->children)
    {
        if (!may_stand_beside(s, LIST_ENTRY(at, struct child, link)))
            return false;
    }
    return true;
}

/* --- sockets --- */

struct watcher {
    struct watcher *next;
    struct service *service;
    struct task_fd tfd;
};

static bool
is_readable(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};

    return poll(&look, 1, 0) > 0;
}

static void
set_watch(struct service *s, bool watch)
{
    if (s->watch == watch)
        return;
    s->watch = watch;
    task_wake_all(&s->watch_changed);
    if (!watch)
        for (struct watcher *w = s->watcher_list; w; w = w->next)
            task_fd_wake(&w->tfd);
}

/* The descriptor is known to the loop only while it is watched: else each connection would wake us, too. */
static int may_wait
watch_once(struct watcher *w, struct err *err)
{
    struct service *s = w->service;

    /* A reload that takes the service away may be under way: it will cancel us. */
    if (!s->watch || !s->conf) {
        int fd = w->tfd.fd;

        task_fd_release(&w->tfd);
        task_fd_init(&w->tfd, fd);
        return task_wait(&s->watch_changed, NO_DEADLINE, err);
    }
    if (!is_readable(w->tfd.fd))
        return task_fd_wait_read(&w->tfd, NO_DEADLINE, err);
    set_watch(s, false);
    child_start(s);
    return 0;
}

static void
watch_socket(void *arg)
{
    struct watcher *w = arg;
    struct err err;

    while (watch_once(w, &err) == 0)
        continue;
    task_fd_release(&w->tfd);
    for (struct watcher **at = &w->service->watcher_list; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    free(w);
}

void
demand_start_watching(struct service *s)
{
    for (size_t i = 0; i < s->listener_count; i++) {
        struct watcher *w = calloc(1, sizeof(*w));

        if (!w)
            fatal("out of memory");
        w->service = s;
        task_fd_init(&w->tfd, s->listeners[i].fd);
        w->next = s->watcher_list;
        s->watcher_list = w;
        task_spawn(&s->watchers, "watch", watch_socket, w);
    }
}

void may_wait
demand_stop_watching(struct service *s)
{
    task_group_cancel(&s->watchers);
    task_group_join(&s->watchers);
}

static bool
has_input(const struct service *s)
{
    for (size_t i = 0; i < s->listener_count; i++)
        if (is_readable(s->listeners[i].fd))
            return true;
    return false;
}

static bool
is_ready(const struct service *s)
{
    LIST_EACH(at, &s->children)
    if (LIST_ENTRY(at, struct child, link)->ready)
        return true;
    return false;
}

void may_wait
demand_serve_rest(struct service *s)
{
    usec_t deadline = loop_now() + REST_TIME;
    struct err err;

    while (s->child_count > 0 && count_serving(s) == 0)
        if (task_wait(&master.child_died, deadline, &err) < 0)
            return;
    if (s->child_count == 0 && (!s->conf || !has_input(s)))
        return;
    if (s->child_count == 0)
        child_start(s);
    while (s->child_count > 0 && !is_ready(s) && loop_now() < deadline)
        if (task_sleep(REST_LOOK, &err) < 0)
            return;
}

static void
throttle_is_over(void *arg)
{
    struct service *s = arg;

    s->not_before = 0;
    service_update(s);
}

void
service_update(struct service *s)
{
    unsigned serving = count_serving(s);

    if (s->not_before > loop_now())
        loop_timer_set(&s->throttle_timer, s->not_before, throttle_is_over, s);
    set_watch(s, serving == 0 && may_start(s));
    if (serving > 0 && may_start(s) && is_loaded(s) && serving < service_worker_limit(s))
        child_start(s);
}

/* --- wake-ups --- */

/* The word that every service which can be woken knows. */
static const char wake_up[] = "W";

/* The connection waits in the socket's queue if nobody serves it yet, which starts a process. -1: none could be made. */
static int
connect_to(const struct service *s)
{
    const struct net_addr *addr = &s->listeners[0].addr;
    int fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, &addr->any, addr->len) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void
poke_socket(const struct service *s)
{
    int fd = connect_to(s);

    if (fd < 0)
        return;
    (void)!send(fd, wake_up, 1, MSG_NOSIGNAL);
    close(fd);
}

/* A service of type pass takes connections from somebody who has accepted them: here is one, with the word in it. */
static void
pass_connection(const struct service *s)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    char byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int))};
    int pair[2], fd;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    fd = connect_to(s);
    memcpy(CMSG_DATA(&control.head), &pair[0], sizeof(int));
    if (fd >= 0 && send(pair[1], wake_up, 1, MSG_NOSIGNAL) == 1)
        (void)!sendmsg(fd, &msg, MSG_NOSIGNAL);
    if (fd >= 0)
        close(fd);
    close(pair[0]);
    close(pair[1]);
}

void
service_wake(struct service *s)
{
    if (s->listener_count == 0 || s->stopping)
        return;
    switch (s->type) {
    case SERVICE_FIFO: (void)!write(s->listeners[0].fd, wake_up, 1); break;
    case SERVICE_UNIX:
    case SERVICE_INET: poke_socket(s); break;
    case SERVICE_PASS: pass_connection(s); break;
    case SERVICE_UNIX_DGRAM: break; /* nobody can tell the word from what others send */
    }
}

static void
on_wakeup(void *arg)
{
    struct service *s = arg;

    if (!s->conf || s->conf->wakeup == 0)
        return;
    if (s->was_used || !s->conf->wakeup_if_used)
        service_wake(s);
    loop_timer_set(&s->wakeup_timer, loop_now() + SECONDS(s->conf->wakeup), on_wakeup, s);
}

/* The first time at once. */
void
service_set_wakeup(struct service *s)
{
    if (s->conf->wakeup > 0)
        on_wakeup(s);
    else
        loop_timer_clear(&s->wakeup_timer);
}
