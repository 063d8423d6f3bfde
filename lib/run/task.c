/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/task.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/task_private.h"
#include "lib/run/task_switch.h"

#if defined(POSTERN_SANITIZERS) && defined(HAVE_SANITIZER_COMMON_INTERFACE_DEFS_H)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBERS 1
#endif

/* How tasks follow each other. The loop switches to the first ready task; a task that waits switches straight to the
 * next ready one, and the last of them back to the loop. A task that has ended can't free the stack it stands on: it
 * leaves itself in `dead`, for whoever runs next. Tasks that yield stand aside until the next turn, and so do all when
 * TURN_BUDGET switches have been made, so that descriptors and timers are looked at even if tasks keep waking each
 * other. */
enum { TURN_BUDGET = 4096, TASK_MAGIC = 0x5441534b, GROUP_MAGIC = 0x47525550 };

/* Every SWEEP_TIME the stacks of tasks that waited for longer than that are trimmed, once for each such wait. */
static const usec_t SWEEP_TIME = SECONDS(1);

static struct {
    struct task *current; /* NULL: the loop */
    struct task *dead;
    struct list ready, yielded, all;
    unsigned count, budget;
    bool ending; /* tasks that are spawned now are cancelled at once */
    void *loop_sp;
    unsigned sweep;
    bool sweep_wanted;
    struct loop_timer sweep_timer;
#ifdef FIBERS
    void *loop_fake_stack;
    const void *loop_low;
    size_t loop_size;
#endif
} run;

/* --- switching ------------------------------------------------------------------------------------------------- */

#ifdef FIBERS
static void
fiber_leave(struct task *from, const struct task *to, bool forever)
{
    void **fake = from ? &from->fake_stack : &run.loop_fake_stack;
    const void *low = to ? to->low : run.loop_low;
    size_t size = to ? (size_t)(to->start - to->low) : run.loop_size;
    __sanitizer_start_switch_fiber(forever ? NULL : fake, low, size);
}

static void
fiber_arrive(struct task *self)
{
    __sanitizer_finish_switch_fiber(self ? self->fake_stack : run.loop_fake_stack, NULL, NULL);
}

static void
fiber_init(void)
{
    pthread_attr_t attr;
    void *low;
    check(pthread_getattr_np(pthread_self(), &attr) == 0);
    check(pthread_attr_getstack(&attr, &low, &run.loop_size) == 0);
    run.loop_low = low;
    pthread_attr_destroy(&attr);
}

/* Frames that were left by a task's end are not there for the stack's next user. */
static void
fiber_forget(struct task *task)
{
    ASAN_UNPOISON_MEMORY_REGION(task->low, (size_t)(task->start - task->low));
}
#else
static void
fiber_leave(struct task *from, const struct task *to, bool forever)
{
    (void)from;
    (void)to;
    (void)forever;
}

static void
fiber_arrive(struct task *self)
{
    (void)self;
}

static void
fiber_init(void)
{
}

static void
fiber_forget(struct task *task)
{
    (void)task;
}
#endif

static void
bury_dead(void)
{
    struct task *dead = run.dead;
    if (!dead)
        return;
    run.dead = NULL;
    fiber_forget(dead);
    task_stack_give(dead);
}

/* The next task to run, taken off the ready list; NULL: back to the loop. */
static struct task *
next_ready(void)
{
    if (list_is_empty(&run.ready) || run.budget == 0)
        return NULL;
    run.budget--;
    struct task *task = LIST_ENTRY(list_pop(&run.ready), struct task, link);
    task->state = TASK_RUNNING;
    return task;
}

/* From the current task (NULL: the loop) to whoever is next; returns when it is our turn again. */
static void
switch_away(struct task *self, bool forever)
{
    struct task *next = next_ready();
    if (next == self && !forever)
        return;
    run.current = next;
    fiber_leave(self, next, forever);
    task_switch(self ? &self->sp : &run.loop_sp, next ? next->sp : run.loop_sp);
    fiber_arrive(self);
    bury_dead();
}

static void task_end(struct task *self) NORETURN;

/* Where every task begins. */
static void
task_entry(void)
{
    struct task *self = run.current;
    fiber_arrive(self);
    bury_dead();
    self->fn(self->arg);
    task_end(self);
}

static void
task_end(struct task *self)
{
    struct task_group *group = self->group;
    check(self->pins == 0);
    loop_timer_clear(&self->timer);
    list_remove(&self->group_link);
    list_remove(&self->all_link);
    run.count--;
    if (--group->count == 0) {
        struct list *link;
        while ((link = list_pop(&group->joiners)))
            task_make_ready(LIST_ENTRY(link, struct task, link), TASK_WOKEN);
    }
    self->magic = 0;
    run.dead = self;
    switch_away(self, true);
    panic("task %s runs after its end", self->name);
}

bool
task_is_any_ready(void)
{
    return !list_is_empty(&run.ready);
}

void
task_run_ready(void)
{
    struct list *link;
    check(!run.current);
    run.budget = TURN_BUDGET;
    if (task_is_any_ready())
        switch_away(NULL, false);
    while ((link = list_pop(&run.yielded)))
        list_append(&run.ready, link);
}

/* --- waiting --------------------------------------------------------------------------------------------------- */

void
task_make_ready(struct task *task, enum task_wake wake)
{
    check(task->magic == TASK_MAGIC);
    if (task->state != TASK_WAITING)
        return;
    task->state = TASK_READY;
    task->wake = wake;
    list_remove(&task->link);
    list_append(&run.ready, &task->link);
}

static void
timed_out(void *arg)
{
    task_make_ready(arg, TASK_TIMED_OUT);
}

/* Trims the stacks of those who wait long; goes on as long as somebody waits whose stack was not yet. */
static void
sweep_idle(void *arg)
{
    bool again = false;
    (void)arg;
    run.sweep++;
    LIST_EACH(link, &run.all)
    {
        struct task *task = LIST_ENTRY(link, struct task, all_link);
        if (task->state != TASK_WAITING || task->trimmed)
            continue;
        if (run.sweep - task->waits_since >= 2) {
            task_stack_trim(task);
            task->trimmed = true;
        } else {
            again = true;
        }
    }
    task_stack_sweep();
    run.sweep_wanted = again;
    if (again)
        loop_timer_set(&run.sweep_timer, loop_now() + SWEEP_TIME, sweep_idle, NULL);
}

static struct task *
must_be_task(void)
{
    struct task *self = run.current;
    if (!self)
        panic("a wait outside any task");
    if (self->pins)
        panic("task %s waits while it is pinned", self->name);
    return self;
}

/* Waits; the task's link may be on a list. */
static void
wait_for_wake(struct task *self)
{
    self->state = TASK_WAITING;
    self->waits_since = run.sweep;
    self->trimmed = false;
    if (!run.sweep_wanted) {
        run.sweep_wanted = true;
        loop_timer_set(&run.sweep_timer, loop_now() + SWEEP_TIME, sweep_idle, NULL);
    }
    switch_away(self, false);
}

static int
cancelled(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "cancelled");
}

int
task_suspend(usec_t deadline, struct err *err)
{
    struct task *self = must_be_task();
    if (self->cancelled || (deadline != NO_DEADLINE && deadline <= loop_now())) {
        list_remove(&self->link);
        return self->cancelled ? cancelled(err) : err_set(err, ERR_TIMEOUT, "timed out");
    }
    if (deadline != NO_DEADLINE)
        loop_timer_set(&self->timer, deadline, timed_out, self);
    wait_for_wake(self);
    loop_timer_rest(&self->timer);
    switch (self->wake) {
    case TASK_WOKEN: return 0;
    case TASK_TIMED_OUT: return err_set(err, ERR_TIMEOUT, "timed out");
    case TASK_CANCELLED: break;
    }
    return cancelled(err);
}

void
task_suspend_deaf(void)
{
    struct task *self = must_be_task();
    self->deaf = true;
    wait_for_wake(self);
    self->deaf = false;
}

int
task_yield(struct err *err)
{
    struct task *self = must_be_task();
    if (self->cancelled)
        return cancelled(err);
    self->state = TASK_READY;
    list_append(&run.yielded, &self->link);
    switch_away(self, false);
    return self->cancelled ? cancelled(err) : 0;
}

int
task_sleep(usec_t duration, struct err *err)
{
    struct err why;
    usec_t until = loop_now() + duration;
    if (duration <= 0)
        return task_yield(err);
    if (task_suspend(until, &why) == 0 || why.kind == ERR_TIMEOUT)
        return 0;
    return cancelled(err);
}

int
task_wait(struct task_cond *cond, usec_t deadline, struct err *err)
{
    struct task *self = must_be_task();
    if (!cond->waiters.next)
        list_init(&cond->waiters);
    list_append(&cond->waiters, &self->link);
    return task_suspend(deadline, err);
}

void
task_wait_always(struct task_cond *cond)
{
    struct task *self = must_be_task();
    if (!cond->waiters.next)
        list_init(&cond->waiters);
    list_append(&cond->waiters, &self->link);
    task_suspend_deaf();
}

void
task_wake_one(struct task_cond *cond)
{
    if (cond->waiters.next && !list_is_empty(&cond->waiters))
        task_make_ready(LIST_ENTRY(cond->waiters.next, struct task, link), TASK_WOKEN);
}

void
task_wake_all(struct task_cond *cond)
{
    while (cond->waiters.next && !list_is_empty(&cond->waiters))
        task_wake_one(cond);
}

void
task_pin(void)
{
    if (run.current)
        run.current->pins++;
}

void
task_unpin(void)
{
    if (!run.current)
        return;
    check(run.current->pins > 0);
    run.current->pins--;
}

/* --- tasks and groups ------------------------------------------------------------------------------------------ */

void
task_group_init(struct task_group *group)
{
    list_init(&group->tasks);
    list_init(&group->joiners);
    group->count = 0;
    group->magic = GROUP_MAGIC;
}

struct task *
task_spawn(struct task_group *group, const char *name, void (*fn)(void *arg), void *arg)
{
    check(group->magic == GROUP_MAGIC);
    struct task *task = task_stack_take();
    task->magic = TASK_MAGIC;
    task->state = TASK_READY;
    task->name = name;
    task->fn = fn;
    task->arg = arg;
    task->group = group;
    task->cancelled = run.ending;
    task->sp = task_switch_prepare(task->low, task->start, task_entry);
    list_append(&group->tasks, &task->group_link);
    list_append(&run.all, &task->all_link);
    list_append(&run.ready, &task->link);
    group->count++;
    run.count++;
    return task;
}

void
task_cancel(struct task *task)
{
    check(task->magic == TASK_MAGIC);
    task->cancelled = true;
    if (!task->deaf)
        task_make_ready(task, TASK_CANCELLED);
}

void
task_group_cancel(struct task_group *group)
{
    check(group->magic == GROUP_MAGIC);
    LIST_EACH(link, &group->tasks)
    {
        task_cancel(LIST_ENTRY(link, struct task, group_link));
    }
}

void
task_cancel_all(void)
{
    run.ending = true;
    LIST_EACH(link, &run.all)
    {
        task_cancel(LIST_ENTRY(link, struct task, all_link));
    }
}

void
task_group_join(struct task_group *group)
{
    check(group->magic == GROUP_MAGIC);
    struct task *self = run.current;
    while (group->count > 0) {
        if (!self) {
            loop_turn(NO_DEADLINE);
            continue;
        }
        check(self->group != group);
        list_append(&group->joiners, &self->link);
        task_suspend_deaf();
    }
}

struct task *
task_current(void)
{
    return run.current;
}

bool
task_is_cancelled(void)
{
    return run.current && run.current->cancelled;
}

unsigned
task_count(void)
{
    return run.count;
}

void
task_run_main(void (*fn)(void *arg), void *arg)
{
    struct task_group group;
    task_group_init(&group);
    task_spawn(&group, "main", fn, arg);
    task_group_join(&group);
}

/* --- start and end --------------------------------------------------------------------------------------------- */

static void
tell_panic(char *text, unsigned size)
{
    if (run.current)
        snprintf(text, size, "in task %s, one of %u", run.current->name, run.count);
    else
        snprintf(text, size, "in the loop, with %u tasks", run.count);
}

void
task_init(void)
{
    list_init(&run.ready);
    list_init(&run.yielded);
    list_init(&run.all);
    fiber_init();
    panic_set_hook(tell_panic);
}

void
task_release(void)
{
    check(run.count == 0);
    loop_timer_clear(&run.sweep_timer);
    task_stack_release();
    panic_set_hook(NULL);
    memset(&run, 0, sizeof(run));
}
