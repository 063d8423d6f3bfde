/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/loop.h"

#include <event2/event.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "lib/base/check.h"
#include "lib/base/compiler.h"
#include "lib/base/log.h"
#include "lib/run/task_private.h"

static const usec_t LOG_RETRY = 5000; /* when the log did not take all lines */

struct signal_watch {
    struct signal_watch *next;
    struct event *event;
    void (*fn)(void *arg);
    void *arg;
};

static struct {
    struct event_base *base;
    bool stopping, in_turn;
    usec_t now, now_wall; /* 0: not read yet in this turn */
    struct loop_hook *hooks, **hooks_end;
    struct signal_watch *signals;
    struct loop_timer log_timer;
    /* Timers: a binary heap from slot 1 on, the earliest first; and the one libevent event that stands for them. */
    struct loop_timer **heap;
    size_t heap_count, heap_size;
    struct event *alarm;
    usec_t alarm_at; /* INT64_MAX: not set */
} loop;

/* --- time ------------------------------------------------------------------------------------------------------ */

usec_t
loop_now(void)
{
    if (!loop.now)
        loop.now = clock_monotonic();
    return loop.now;
}

usec_t
loop_now_wall(void)
{
    if (!loop.now_wall)
        loop.now_wall = clock_wall();
    return loop.now_wall;
}

/* --- timers ---------------------------------------------------------------------------------------------------- */

static void
heap_place(struct loop_timer *timer, size_t slot)
{
    loop.heap[slot] = timer;
    timer->slot = slot;
}

static void
heap_up(struct loop_timer *timer, size_t slot)
{
    for (; slot > 1 && loop.heap[slot / 2]->armed > timer->armed; slot /= 2)
        heap_place(loop.heap[slot / 2], slot);
    heap_place(timer, slot);
}

static void
heap_down(struct loop_timer *timer, size_t slot)
{
    size_t child;
    for (; (child = 2 * slot) <= loop.heap_count; slot = child) {
        if (child < loop.heap_count && loop.heap[child + 1]->armed < loop.heap[child]->armed)
            child++;
        if (loop.heap[child]->armed >= timer->armed)
            break;
        heap_place(loop.heap[child], slot);
    }
    heap_place(timer, slot);
}

static void
heap_insert(struct loop_timer *timer, usec_t at)
{
    if (loop.heap_count + 2 > loop.heap_size) {
        loop.heap_size = loop.heap_size ? 2 * loop.heap_size : 64;
        loop.heap = realloc(loop.heap, loop.heap_size * sizeof(*loop.heap));
        if (!loop.heap)
            fatal("out of memory");
    }
    timer->armed = at;
    heap_up(timer, ++loop.heap_count);
}

static void
heap_remove(struct loop_timer *timer)
{
    size_t slot = timer->slot;
    check(slot <= loop.heap_count && loop.heap[slot] == timer);
    struct loop_timer *last = loop.heap[loop.heap_count--];
    timer->slot = 0;
    if (last == timer)
        return;
    if (slot > 1 && loop.heap[slot / 2]->armed > last->armed)
        heap_up(last, slot);
    else
        heap_down(last, slot);
}

void
loop_timer_set(struct loop_timer *timer, usec_t due, void (*fn)(void *), void *arg)
{
    timer->due = due > 0 ? due : 1;
    timer->fn = fn;
    timer->arg = arg;
    if (timer->slot && timer->armed <= timer->due)
        return;
    if (timer->slot)
        heap_remove(timer);
    heap_insert(timer, timer->due);
}

void
loop_timer_rest(struct loop_timer *timer)
{
    timer->due = 0;
}

void
loop_timer_clear(struct loop_timer *timer)
{
    timer->due = 0;
    if (timer->slot)
        heap_remove(timer);
}

/* Calls those that are due. One that a called function sets for now has its turn the next time. */
static void
timers_run(void)
{
    usec_t now = loop_now();
    for (size_t budget = loop.heap_count; budget > 0 && loop.heap_count > 0 && loop.heap[1]->armed <= now; budget--) {
        struct loop_timer *timer = loop.heap[1];
        usec_t due = timer->due;
        heap_remove(timer);
        if (due > now) {
            heap_insert(timer, due);
        } else if (due) {
            timer->due = 0;
            timer->fn(timer->arg);
        }
    }
}

static void
alarm_called(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    loop.alarm_at = INT64_MAX;
}

/* Has libevent wake us when the first timer is due, or at `limit`. An alarm that is too early does no harm. libevent's
 * clock is coarse and may be some milliseconds behind ours; then the alarm is simply set again. */
static void
alarm_set(usec_t limit)
{
    usec_t at = loop.heap_count > 0 && loop.heap[1]->armed < limit ? loop.heap[1]->armed : limit;
    if (at >= loop.alarm_at)
        return;
    usec_t wait = at - clock_monotonic();
    if (wait < 1)
        wait = 1;
    struct timeval tv = {.tv_sec = (time_t)(wait / 1000000), .tv_usec = (suseconds_t)(wait % 1000000)};
    if (event_add(loop.alarm, &tv) < 0)
        fatal("event loop: cannot set a timer");
    loop.alarm_at = at;
}

/* --- hooks ----------------------------------------------------------------------------------------------------- */

void
loop_want_turn_end(struct loop_hook *hook)
{
    if (hook->wanted)
        return;
    hook->wanted = true;
    hook->next = NULL;
    *loop.hooks_end = hook;
    loop.hooks_end = &hook->next;
}

void
loop_drop_turn_end(struct loop_hook *hook)
{
    if (!hook->wanted)
        return;
    hook->wanted = false;
    for (struct loop_hook **at = &loop.hooks; *at; at = &(*at)->next)
        if (*at == hook) {
            *at = hook->next;
            if (loop.hooks_end == &hook->next)
                loop.hooks_end = at;
            return;
        }
}

static void
retry_log(void *arg)
{
    (void)arg;
    log_flush();
    if (log_is_waiting())
        loop_timer_set(&loop.log_timer, loop_now() + LOG_RETRY, retry_log, NULL);
}

/* A log that took no more is left alone for a while: it reads in gulps, and what gathers meanwhile goes in one piece. */
static void
flush_log(void)
{
    if (log_is_waiting() && loop.log_timer.due == 0)
        retry_log(NULL);
}

/* A hook may free others (a link that breaks): each is taken off before it runs, and those that are asked for meanwhile
 * stand behind `last`, for the next turn. */
static void
hooks_run(void)
{
    static struct loop_hook last;
    flush_log();
    if (!loop.hooks)
        return;
    last.wanted = false;
    loop_want_turn_end(&last);
    for (;;) {
        struct loop_hook *hook = loop.hooks;
        loop_drop_turn_end(hook);
        if (hook == &last)
            break;
        hook->fn(hook->arg);
    }
    flush_log(); /* what the hooks said */
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

void
loop_turn(usec_t max_wait)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;
    check(loop.base && !loop.in_turn && !task_current());
    loop.in_turn = true;
    if (max_wait <= 0 || task_is_any_ready() || loop.hooks)
        flags |= EVLOOP_NONBLOCK;
    else
        alarm_set(max_wait == NO_DEADLINE ? NO_DEADLINE : clock_monotonic() + max_wait);
    loop.now = loop.now_wall = 0;
    if (event_base_loop(loop.base, flags) < 0)
        fatal("event loop: the system's event call failed");
    timers_run();
    task_run_ready();
    hooks_run();
    loop.in_turn = false;
}

void
loop_run(void)
{
    loop.stopping = false;
    while (!loop.stopping)
        loop_turn(NO_DEADLINE);
    task_cancel_all();
    while (task_count() > 0)
        loop_turn(NO_DEADLINE);
    loop.stopping = false;
}

void
loop_stop(void)
{
    loop.stopping = true;
}

/* --- signals, start and end ------------------------------------------------------------------------------------ */

static void
signal_called(evutil_socket_t signal, short what, void *arg)
{
    const struct signal_watch *watch = arg;
    (void)signal;
    (void)what;
    watch->fn(watch->arg);
}

void
loop_on_signal(int signal, void (*fn)(void *arg), void *arg)
{
    struct signal_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        fatal("out of memory");
    *watch = (struct signal_watch){.next = loop.signals, .fn = fn, .arg = arg};
    watch->event = evsignal_new(loop.base, signal, signal_called, watch);
    if (!watch->event || event_add(watch->event, NULL) < 0)
        fatal("event loop: cannot catch signal %d", signal);
    loop.signals = watch;
}

struct event_base *
loop_base(void)
{
    return loop.base;
}

/* libevent's own complaints; it makes one for a descriptor that can't be watched, which task_fd.c deals with. */
static void
event_says(int severity, const char *text)
{
    if (severity > EVENT_LOG_WARN)
        log_warning("event loop: %s", text);
    else
        log_debug("event loop: %s", text);
}

void
loop_init(void)
{
    check(!loop.base);
    event_set_log_callback(event_says);
    signal(SIGPIPE, SIG_IGN);
    struct event_config *config = event_config_new();
    if (!config || event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) < 0)
        fatal("event loop: cannot configure it");
    loop.base = event_base_new_with_config(config);
    event_config_free(config);
    if (!loop.base)
        fatal("event loop: cannot make it");
    loop.hooks_end = &loop.hooks;
    loop.alarm = evtimer_new(loop.base, alarm_called, NULL);
    loop.alarm_at = INT64_MAX;
    if (!loop.alarm)
        fatal("out of memory");
    task_init();
}

void
loop_after_fork(void)
{
    loop.now = loop.now_wall = 0;
    if (event_reinit(loop.base) < 0)
        fatal("event loop: cannot be used after a fork");
}

void
loop_release(void)
{
    if (!loop.base)
        return;
    pool_release();
    task_release();
    while (loop.signals) {
        struct signal_watch *watch = loop.signals;
        loop.signals = watch->next;
        event_free(watch->event);
        free(watch);
    }
    event_free(loop.alarm);
    event_base_free(loop.base);
    for (size_t i = 1; i <= loop.heap_count; i++)
        loop.heap[i]->slot = 0;
    free(loop.heap);
    memset(&loop, 0, sizeof(loop));
}
