/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/loop.h: the event loop of a daemon, over libevent. One for each process, in its main thread.
 *
 * A turn of the loop: all that became ready is handed to tasks, the tasks run until each waits, then the turn-end hooks
 * run in the order of their priority: the log is flushed first, then links write what tasks have sent. So what happens
 * in one turn costs one write for each destination, and a log line is never behind what it tells of. */
#ifndef LIB_RUN_LOOP_H
#define LIB_RUN_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/clock.h"

struct event_base; /* libevent's, for lib/run and for libraries that join our loop (libunbound) */

void loop_init(void); /* fatal if it fails; also ignores SIGPIPE */
void loop_release(void);
/* In a forked child that goes on with the loop, before it runs: nothing of it is shared with the parent any more. */
void loop_after_fork(void);

/* Runs until loop_stop(); tasks that are left, and those that they start, are cancelled and joined before it returns. */
void loop_run(void);
void loop_stop(void);

/* One turn, waiting for events at most until the time given: for tests and commands. */
void loop_turn(usec_t max_wait);

/* The time as of the start of this turn: no system call. */
usec_t loop_now(void);      /* monotonic */
usec_t loop_now_wall(void); /* since 1970 */

struct event_base *loop_base(void);

/* Calls fn(arg) at the end of each turn in which loop_want_turn_end(hook) was called, and then once; hooks run in the
 * order in which they were asked for. One asked for by another hook runs at the end of the next turn, which then does
 * not wait. loop_drop_turn_end() before the hook's memory goes. */
struct loop_hook {
    void (*fn)(void *arg);
    void *arg;
    bool wanted;
    struct loop_hook *next;
};
void loop_want_turn_end(struct loop_hook *);
void loop_drop_turn_end(struct loop_hook *);

/* A timer that calls fn(arg) once in the loop (not in a task: fn must not wait; it may wake tasks and set the timer
 * again). Zero-fill, then loop_timer_set(). Timers stand in a heap of our own, of which libevent sees one event, and are
 * moved lazily: setting one later than it was set, or resting it, costs nothing; what is then called too early is put
 * back. A timer of a process that runs no loop yet may be set after loop_init(). */
struct loop_timer {
    usec_t due;   /* 0: not set */
    usec_t armed; /* its place in the heap, never later than due */
    size_t slot;  /* in the heap; 0: not there */
    void (*fn)(void *arg);
    void *arg;
};
void loop_timer_set(struct loop_timer *, usec_t due, void (*fn)(void *), void *arg);
void loop_timer_rest(struct loop_timer *);  /* not set any more, but likely to be again: keeps its place in the heap */
void loop_timer_clear(struct loop_timer *); /* takes it out of the heap: before its memory goes */

/* Calls fn(arg) in the loop whenever the signal arrives. */
void loop_on_signal(int signal, void (*fn)(void *arg), void *arg);

#endif
