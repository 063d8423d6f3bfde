/* SPDX-License-Identifier: Apache-2.0 */
/* A parked session is its connection's descriptor, the packet that lets a process of the user go on with it, and the directories
 * that are watched: some hundred bytes, no task. All connections are in one epoll set and all directories in one inotify
 * instance (an instance for each session would meet a limit of 128 for each user id), each with one task that waits for it.
 *
 * Directories come as open descriptors from the user's process, which opened them with the rights of the user: no path is followed
 * here as root, and what the user can't read isn't watched. Between its last look and the watch something may have changed:
 * the time of the last change, which came along, tells.
 *
 * Nothing of what a client sent is read here; that there is something, or the end, wakes the session. Processes that
 * start because of changes are so many at once; a client who says something does not wait behind them.
 *
 * Of a file that comes into the directory of new messages a client is told here, without a process: the number of messages that
 * it knew, and one more. What else happens wakes the session, and what does not fit then (the file may have gone again) is put right by
 * it. The events of one read are one text. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/service/user_process_internal.h"

enum {
    PARKED_MAGIC = 0x5041524b,
    EVENTS_AT_ONCE = 64,
    WOKEN_AT_ONCE = 64,
    OWNER_LIMIT = 1000, /* sessions of a user: its process may have fallen into wrong hands */
    TOLD_MOST = 100,    /* new messages that a session is told of here: without end they wake a process now and then */
};

#define DUE_PAUSE SECONDS(10)

/* One for each user who has sessions here. */
struct owner {
    struct auth_ticket who; /* texts are ours */
    unsigned count;
};

struct watch {
    int wd;
    struct list parked; /* by parked.watched[] */
};

struct watched {
    struct list link;
    struct watch *watch; /* NULL: none */
    struct parked *parked;
};

struct parked {
    unsigned magic;
    struct list link;  /* of all */
    struct list woken; /* of those that wait for a process */
    struct list noted; /* of those to which the events that were just read matter */
    struct owner *owner;
    int fd;
    usec_t due;
    struct watched watched[USER_WATCHES];
    bool tells_new, new_is_recent;
    uint32_t known, recent; /* as it was parked */
    uint32_t news;          /* of the events that were just read */
    bool is_stale;          /* they say more than that */
    struct user_told told;
    size_t len;
    char packet[]; /* R, and room for told */
};

static struct {
    struct map *owners, *watches; /* by login; by wd */
    struct list all, woken, noted;
    struct task_cond wake, changed;
    unsigned count, resuming; /* sessions in all; that are given to a process for a change */
    int epoll, inotify;
    struct task_fd epoll_fd, inotify_fd;
    bool stopped;
} park;

/* ---- owners ---- */

static struct owner *
owner_take(const struct auth_ticket *who)
{
    struct owner *owner = map_get_text(park.owners, who->user);
    if (!owner) {
        owner = calloc(1, sizeof(*owner));
        if (!owner)
            fatal("out of memory");
        owner->who = user_whom_copy(who);
        map_put_text(park.owners, who->user, owner);
    }
    owner->count++;
    return owner;
}

static void
owner_give(struct owner *owner)
{
    if (--owner->count > 0)
        return;
    map_remove_text(park.owners, owner->who.user);
    user_whom_release(&owner->who);
    free(owner);
}

unsigned
user_parking_count(const char *user)
{
    const struct owner *owner = map_get_text(park.owners, user);
    return owner ? owner->count : 0;
}

/* ---- watches ---- */

static struct slice
wd_key(const int *wd)
{
    return slice_make((const char *)wd, sizeof(*wd));
}

/* -1: it can't be watched; 1: it has changed since. */
static int
watch_directory(struct parked *parked, unsigned at, int fd, int64_t changed)
{
    const uint32_t events =
        IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF;
    char path[64];
    struct stat st;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || (flags & O_PATH)) /* it was not opened for reading */
        return -1;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int wd = inotify_add_watch(park.inotify, path, events);
    if (wd < 0) {
        log_warning("watch a mailbox: %m");
        return -1;
    }
    struct watch *watch = map_get(park.watches, wd_key(&wd));
    if (!watch) {
        watch = calloc(1, sizeof(*watch));
        if (!watch)
            fatal("out of memory");
        watch->wd = wd;
        list_init(&watch->parked);
        map_put(park.watches, wd_key(&wd), watch);
    }
    struct watched *watched = &parked->watched[at];
    watched->watch = watch;
    watched->parked = parked;
    list_append(&watch->parked, &watched->link);
    if (fstat(fd, &st) < 0)
        return -1;
    return st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == changed ? 0 : 1;
}

static void
unwatch(struct watched *watched)
{
    struct watch *watch = watched->watch;
    if (!watch)
        return;
    watched->watch = NULL;
    list_remove(&watched->link);
    if (!list_is_empty(&watch->parked))
        return;
    inotify_rm_watch(park.inotify, watch->wd);
    map_remove(park.watches, wd_key(&watch->wd));
    free(watch);
}

/* ---- a parked session ---- */

/* From here on nothing wakes it; its descriptor and packet stay. */
static void
silence(struct parked *parked)
{
    for (unsigned i = 0; i < USER_WATCHES; i++)
        unwatch(&parked->watched[i]);
    (void)epoll_ctl(park.epoll, EPOLL_CTL_DEL, parked->fd, NULL);
}

static void
release(struct parked *parked)
{
    check(parked->magic == PARKED_MAGIC);
    const struct linger none = {0}; /* what its process set must not hold us up */
    silence(parked);
    list_remove(&parked->link);
    list_remove(&parked->woken);
    list_remove(&parked->noted);
    (void)setsockopt(parked->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    close(parked->fd);
    owner_give(parked->owner);
    park.count--;
    parked->magic = 0;
    free(parked);
    task_wake_all(&park.changed);
}

static void
say_goodbye(struct parked *parked, const char *text)
{
    if (text && send(parked->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("goodbye to user %s: %m", parked->owner->who.user);
    release(parked);
}

/* It is on no list any more, and belongs to the caller: a stop does not find it. */
static void
take_out(struct parked *parked)
{
    silence(parked);
    list_remove(&parked->link);
    list_remove(&parked->woken);
    list_remove(&parked->noted);
}

/* Gives it to a process of its user. */
static void may_wait
resume(struct parked *parked, bool for_change)
{
    struct err err;
    struct slice packet = slice_make(parked->packet, parked->len);
    memcpy(parked->packet + 1, &parked->told, sizeof(parked->told));
    if (user_starter_send(&parked->owner->who, packet, parked->fd, for_change, &err) < 0) {
        log_warning("session of user %s lost: %s", parked->owner->who.user, err.text);
        say_goodbye(parked, user_program->stop_text);
    } else {
        release(parked);
    }
}

static void
resume_task(void *arg)
{
    resume(arg, false);
}

/* Each in a task of its own: a process that takes nothing holds nobody else's up. */
static void
resume_for_change(void *arg)
{
    const struct parked *parked = arg;
    resume(arg, parked->packet[0] == 'R'); /* one that can't be parked again is no short visit */
    park.resuming--;
    task_wake_all(&park.wake);
}

/* The client said something, or has gone. */
static void
wake_for_client(struct parked *parked)
{
    take_out(parked);
    task_spawn(service_tasks(), "wake", resume_task, parked);
}

static void
wake_for_change(struct parked *parked)
{
    for (unsigned i = 0; i < USER_WATCHES; i++) /* what the client says is still heard while it waits for its turn */
        unwatch(&parked->watched[i]);
    if (!list_is_linked(&parked->woken))
        list_append(&park.woken, &parked->woken);
    task_wake_all(&park.wake);
}

/* ---- tasks ---- */

static void
start_woken(void *arg)
{
    struct err err;
    (void)arg;
    for (;;) {
        if (!list_is_empty(&park.woken) && user_starter_woken() + park.resuming < WOKEN_AT_ONCE) {
            struct parked *parked = LIST_ENTRY(park.woken.next, struct parked, woken);
            take_out(parked);
            park.resuming++;
            task_spawn(service_tasks(), "wake", resume_for_change, parked);
        } else if (task_wait(&park.wake, NO_DEADLINE, &err) < 0) {
            return;
        }
    }
}

void
user_parking_process_ended(void)
{
    task_wake_all(&park.wake);
    task_wake_all(&park.changed);
}

static void
watch_clients(void *arg)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    struct err err;
    (void)arg;
    for (;;) {
        int n = epoll_wait(park.epoll, events, EVENTS_AT_ONCE, 0);
        for (int i = 0; i < n; i++) {
            struct parked *parked = events[i].data.ptr;
            check(parked->magic == PARKED_MAGIC);
            wake_for_client(parked);
        }
        if (n <= 0 && task_fd_wait_read(&park.epoll_fd, NO_DEADLINE, &err) < 0)
            break;
    }
    task_fd_release(&park.epoll_fd);
}

/* False: what is new is not told here. */
static bool
tell_news(struct parked *parked)
{
    char text[USER_NEWS_LIMIT];
    uint32_t messages = parked->told.messages + parked->news;
    if (!parked->tells_new || messages > TOLD_MOST)
        return false;
    size_t len =
        user_program->news(parked->known + messages, parked->recent + (parked->new_is_recent ? messages : 0), text);
    ssize_t sent = send(parked->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0)
        return false;
    if ((size_t)sent < len) { /* to a client that takes nothing: half a line can't be taken back */
        log_parked_ends(parked->owner->who.user, "client does not read");
        say_goodbye(parked, NULL);
        return true;
    }
    parked->told.messages = messages;
    parked->told.bytes += (uint32_t)len;
    parked->news = 0;
    return true;
}

static void
note(struct watched *watched, bool is_arrival)
{
    struct parked *parked = watched->parked;
    if (is_arrival && watched == &parked->watched[USER_WATCH_NEW])
        parked->news++;
    else
        parked->is_stale = true;
    if (!list_is_linked(&parked->noted))
        list_append(&park.noted, &parked->noted);
}

static void
take_event(const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) { /* whose is not known: all look */
        LIST_EACH(link, &park.all)
        wake_for_change(LIST_ENTRY(link, struct parked, link));
        return;
    }
    struct watch *watch = map_get(park.watches, wd_key(&event->wd));
    bool is_arrival = (event->mask & (IN_CREATE | IN_MOVED_TO)) && !(event->mask & IN_ISDIR) && event->len > 0 &&
                      event->name[0] != '.';
    if (watch)
        LIST_EACH(link, &watch->parked)
    note(LIST_ENTRY(link, struct watched, link), is_arrival);
}

static void
act_on_noted(void)
{
    struct list *link;
    while ((link = list_pop(&park.noted))) {
        struct parked *parked = LIST_ENTRY(link, struct parked, noted);
        if (parked->is_stale || !tell_news(parked))
            wake_for_change(parked);
    }
}

/* Returns when nothing is left. */
static void
read_events(void)
{
    char bytes[2048] __attribute__((aligned(8)));
    ssize_t n;
    while ((n = read(park.inotify, bytes, sizeof(bytes))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const void *)(bytes + at);
            at += (ssize_t)(sizeof(*event) + event->len);
            take_event(event);
        }
        act_on_noted();
    }
}

static void
watch_mailboxes(void *arg)
{
    struct err err;
    (void)arg;
    do
        read_events();
    while (task_fd_wait_read(&park.inotify_fd, NO_DEADLINE, &err) == 0);
    task_fd_release(&park.inotify_fd);
}

static void
watch_clock(void *arg)
{
    struct err err;
    (void)arg;
    while (task_sleep(DUE_PAUSE, &err) == 0)
        LIST_EACH(link, &park.all)
        {
            struct parked *parked = LIST_ENTRY(link, struct parked, link);
            if (loop_now() >= parked->due) {
                log_parked_ends(parked->owner->who.user, "idle timeout");
                say_goodbye(parked, user_program->idle_text);
            }
        }
}

void
user_parking_start(void)
{
    list_init(&park.all);
    list_init(&park.woken);
    list_init(&park.noted);
    park.owners = map_new();
    park.watches = map_new();
    park.epoll = epoll_create1(EPOLL_CLOEXEC);
    park.inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (park.epoll < 0 || park.inotify < 0) {
        log_warning("sessions are not parked: %m");
        return;
    }
    task_fd_init(&park.epoll_fd, park.epoll);
    task_fd_init(&park.inotify_fd, park.inotify);
    task_spawn(service_tasks(), "clients", watch_clients, NULL);
    task_spawn(service_tasks(), "mailboxes", watch_mailboxes, NULL);
    task_spawn(service_tasks(), "clock", watch_clock, NULL);
    task_spawn(service_tasks(), "woken", start_woken, NULL);
}

/* ---- taking one ---- */

static struct parked *
parked_new(const struct auth_ticket *who, const struct msg_parked *message, struct slice rest, int fd)
{
    const size_t head = 1 + sizeof(struct user_told);
    struct parked *parked = calloc(1, sizeof(*parked) + head + rest.len);
    if (!parked)
        fatal("out of memory");
    parked->magic = PARKED_MAGIC;
    parked->owner = owner_take(who);
    parked->fd = fd;
    parked->due = message->due;
    parked->tells_new = message->tells_new && user_program->news;
    parked->known = (uint32_t)message->known;
    parked->recent = (uint32_t)message->recent;
    parked->new_is_recent = message->new_is_recent;
    parked->len = head + rest.len;
    parked->packet[0] = 'R';
    if (rest.len > 0)
        memcpy(parked->packet + head, rest.ptr, rest.len);
    list_append(&park.all, &parked->link);
    park.count++;
    return parked;
}

static bool
is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

bool
user_parking_add(const struct auth_ticket *who, struct user_packet *packet)
{
    struct arena *arena = arena_new();
    struct slice rest;
    struct err err;
    const struct msg_parked *message = msg_decode(arena, &type_parked, packet->bytes, &rest, &err);

    bool makes_sense = message && packet->fd_count > 0 && is_socket(packet->fds[0]);
    if (!makes_sense || park.stopped || park.inotify < 0 || park.epoll < 0 ||
        user_parking_count(who->user) >= OWNER_LIMIT) {
        if (!park.stopped)
            log_warning("user %s: a session that can't be parked", who->user);
        user_packet_close_fds(packet);
        arena_free(&arena);
        return makes_sense;
    }
    read_events(); /* those of before are not about this session, which knows all that they tell */
    struct parked *parked = parked_new(who, message, rest, packet->fds[0]);
    const int64_t changed[USER_WATCHES] = {message->changed_1, message->changed_2};
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.ptr = parked};
    int result = 0;
    for (unsigned i = 1; i < packet->fd_count; i++) {
        if (result >= 0) {
            int one = watch_directory(parked, i - 1, packet->fds[i], changed[i - 1]);
            result = one ? one : result;
        }
        close(packet->fds[i]);
    }
    packet->fd_count = 0;
    if (epoll_ctl(park.epoll, EPOLL_CTL_ADD, parked->fd, &event) < 0) {
        log_warning("park a session: %m");
        result = -1;
    }
    if (result < 0)
        parked->packet[0] = 'N';
    if (result != 0)
        wake_for_change(parked);
    arena_free(&arena);
    return true;
}

/* ---- the end ---- */

static void
stop_all(void)
{
    park.stopped = true;
    LIST_EACH(link, &park.all)
    say_goodbye(LIST_ENTRY(link, struct parked, link), user_program->stop_text);
}

void
user_parking_drain(void)
{
    struct err err;
    if (!park.owners)
        return;
    while (!service_is_terminating() && (park.count > 0 || user_starter_children() > 0))
        if (task_wait(&park.changed, loop_now() + SECONDS(1), &err) < 0 && err.kind != ERR_TIMEOUT)
            break;
    if (service_is_terminating())
        stop_all();
}
