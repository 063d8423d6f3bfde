/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/task.h: tasks: straight-line code on the event loop.
 *
 * A task is a stackful coroutine: one for each session, message or delivery. It reads top-down like blocking code; when
 * it waits, the loop runs other tasks. All tasks of a process run in its main thread and switch only where they wait.
 *
 * Life: task_spawn() makes it ready; it runs from the loop, returns, and its stack goes back to the pool. Every task
 * has an owner: a task group. Cancelling makes the wait that it is in, and every later one, return with ERR_CANCELLED,
 * so that the stack unwinds through the task's own cleanup. A group is joined before what it works on is freed.
 *
 * Stacks are TASK_STACK_SIZE bytes of address space with a guard page below; frames stay under 4 KiB, so that an idle
 * session holds one or two pages. errno and OpenSSL's error queue do not survive a wait. */
#ifndef LIB_RUN_TASK_H
#define LIB_RUN_TASK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/clock.h"
#include "lib/base/compiler.h"
#include "lib/base/err.h"
#include "lib/base/list.h"

enum { TASK_STACK_SIZE = 128 * 1024 };

#define NO_DEADLINE ((usec_t)INT64_MAX)

struct task;

/* Tasks that belong together. Zero-filled and then task_group_init(). */
struct task_group {
    struct list tasks;
    struct list joiners; /* tasks in task_group_join() */
    unsigned count;
    unsigned magic;
};

void task_group_init(struct task_group *);

/* Cancels all tasks of the group; returns at once. */
void task_group_cancel(struct task_group *);

/* Waits until the group is empty, however long it takes (its tasks have deadlines); not interrupted by a cancel of the
 * caller, since what the tasks work on must stay. The caller is not a member. Outside a task it turns the loop meanwhile
 * (not from a callback). */
void may_wait task_group_join(struct task_group *);

/* Starts fn(arg) as a task of the group, at the end of the ready list. name is kept, not copied; it shows in dumps. */
struct task *task_spawn(struct task_group *, const char *name, void (*fn)(void *arg), void *arg);

struct task *task_current(void); /* NULL in the loop itself */
void task_cancel(struct task *);
bool task_is_cancelled(void); /* the current one */

/* Gives other tasks and the loop a turn. -1: cancelled. */
int may_wait task_yield(struct err *) MUST_USE;

/* Waits for the time to pass. -1: cancelled. */
int may_wait task_sleep(usec_t duration, struct err *) MUST_USE;

/* A place to wait until somebody calls wake. Zero-filled is valid. Wakes are not counted: a task that waits re-checks
 * its condition in a loop. */
struct task_cond {
    struct list waiters;
};

/* Waits until woken. -1: cancelled, or the deadline (loop_now() time) passed: ERR_TIMEOUT. */
int may_wait task_wait(struct task_cond *, usec_t deadline, struct err *) MUST_USE;
/* The same, but neither a cancel nor a time ends it: for when a thread of the pool works on what the caller holds. */
void may_wait task_wait_always(struct task_cond *);
void task_wake_one(struct task_cond *);
void task_wake_all(struct task_cond *);

/* A descriptor that tasks wait on: registered with the loop once, edge-triggered; at most one task reads and one
 * writes. The caller owns the descriptor, made non-blocking, and releases the task_fd before closing it.
 * Edge-triggered: try the system call first, and wait only after EAGAIN; or, on a stream socket, after a read that gave
 * less than was asked for while it was not closing. Waiting to write registers for one edge each time, because a Unix
 * socket gives one whenever the other side reads. */
struct task_fd {
    int fd;
    bool readable, writable; /* an edge came while nobody waited: the next wait returns at once. May be cleared just
                              * before the system call is tried, which then tells the truth */
    bool closing;            /* the other side will send no more, or there was an error: read until the end */
    bool unsure; /* set by the reader after a short read: an end that came together with those bytes may have been
                              * missed, so that the next wait returns after a second, once, for another try */
    void *read_event, *write_event;
    struct task *reader, *writer;
};
void task_fd_init(struct task_fd *, int fd);
void task_fd_release(struct task_fd *); /* nobody may be waiting */
int may_wait task_fd_wait_read(struct task_fd *, usec_t deadline, struct err *) MUST_USE;
int may_wait task_fd_wait_write(struct task_fd *, usec_t deadline, struct err *) MUST_USE;

/* Makes those who wait for it go on as if it had become ready. */
void task_fd_wake(struct task_fd *);

/* Between pin and unpin the current task must not wait; doing so panics (an LMDB transaction pins). They nest. */
void task_pin(void);
void task_unpin(void);

/* Runs fn(arg) in a thread of the pool and waits until it has returned, however long that takes: cancelling does not
 * interrupt it (what arg points to must stay). fn must not touch tasks, arenas of others, or the log. May be called
 * outside a task only by commands (runs fn directly). */
void may_wait task_run_blocking(void (*fn)(void *arg), void *arg);

/* The same without a task: done(arg) is called in the loop when fn(arg) has returned. */
void pool_submit(void (*fn)(void *arg), void (*done)(void *arg), void *arg);

/* Threads in the pool; before the first use. Default 4; they start on demand. */
void pool_set_threads(unsigned count);

/* Waits for what the threads do and ends them; loop_release() does it. Completions that were not yet delivered are dropped. */
void pool_release(void);

/* How many tasks exist; and for tests how many stacks have been made. */
unsigned task_count(void);
unsigned task_stack_count(void);

/* Runs fn(arg) as a task, and the loop until it has returned: for commands and tests. loop_init() must have been called. */
void task_run_main(void (*fn)(void *arg), void *arg);

#endif
