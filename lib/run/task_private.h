/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/task_private.h: what the files of the task system share; for lib/run/{loop,task*,pool}.c alone.
 *
 * A task's struct lies at the top of its stack, so that task and stack are one piece of memory, and an idle task is one
 * or two resident pages. Its `link` is on one list at a time: the ready list, the list of those that yielded, or the
 * waiters of a condition; a task that waits for a descriptor, a timer or the pool is on none. */
#ifndef LIB_RUN_TASK_PRIVATE_H
#define LIB_RUN_TASK_PRIVATE_H

#include "lib/run/loop.h"
#include "lib/run/task.h"

enum task_state { TASK_READY, TASK_RUNNING, TASK_WAITING };

/* Why a wait ended. */
enum task_wake { TASK_WOKEN, TASK_TIMED_OUT, TASK_CANCELLED };

struct task {
    unsigned magic;
    enum task_state state;
    enum task_wake wake;
    bool cancelled;
    bool deaf;    /* in a wait that cancelling does not end */
    bool trimmed; /* the unused part of the stack was given back while it waits */
    unsigned pins;
    unsigned waits_since; /* sweep in which the wait began */
    struct list link;
    void *sp;         /* where its registers are, while it does not run */
    void *fake_stack; /* AddressSanitizer's */
    struct loop_timer timer;
    struct task_group *group;
    struct list group_link, all_link;
    const char *name;
    void (*fn)(void *arg);
    void *arg;
    /* the stack's memory */
    char *low;   /* lowest usable byte, above the guard page */
    char *start; /* where the stack begins, below this struct */
    unsigned valgrind_id;
};

/* For loop.c. */
void task_init(void);
void task_release(void);
bool task_is_any_ready(void);
void task_run_ready(void); /* runs ready tasks until none is, or they had enough for one turn */
void task_cancel_all(void);

/* Makes a waiting task ready; nothing if it is ready already. */
void task_make_ready(struct task *, enum task_wake);

/* Lets the current task wait until task_make_ready(); deaf: not even a cancel ends it, and there is no deadline. */
int may_wait task_suspend(usec_t deadline, struct err *) MUST_USE;
void may_wait task_suspend_deaf(void);

/* task_stack.c: memory for a task, from the pool; all but the stack's fields zeroed. */
struct task *task_stack_take(void);
void task_stack_give(struct task *);
void task_stack_trim(struct task *); /* gives back the pages below those in use */
void task_stack_sweep(void);         /* unmaps pooled stacks that were not needed since the last sweep */
void task_stack_release(void);       /* unmaps all that are pooled */

#endif
