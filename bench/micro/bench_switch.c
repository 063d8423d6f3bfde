/* SPDX-License-Identifier: Apache-2.0 */
/* What tasks cost: a bare switch of stacks, a wake and a wait, a turn of the loop, a task's life, a trip through the
 * thread pool. Prints a table; CPU time, best of five. */
#include <stdio.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/run/task_switch.h"

enum { BEST_OF = 5 };

struct result {
    const char *what;
    double nanoseconds;
};

/* --- the bare switch ------------------------------------------------------------------------------------------- */

static struct {
    void *main, *other;
} contexts;

static void
bounce(void)
{
    for (;;)
        task_switch(&contexts.other, contexts.main);
}

static void
bare_switches(unsigned count)
{
    static char stack[64 * 1024];
    contexts.other = task_switch_prepare(stack, stack + sizeof(stack), bounce);
    for (unsigned i = 0; i < count; i += 2)
        task_switch(&contexts.main, contexts.other);
}

/* --- tasks ----------------------------------------------------------------------------------------------------- */

static struct {
    struct task_cond ping, pong;
    unsigned left;
} game;

static void
play_ping(void *arg)
{
    struct err err;
    (void)arg;
    while (game.left > 0) {
        game.left--;
        task_wake_one(&game.pong);
        if (task_wait(&game.ping, NO_DEADLINE, &err) < 0)
            return;
    }
    task_wake_one(&game.pong);
}

static void
play_pong(void *arg)
{
    struct err err;
    (void)arg;
    while (game.left > 0) {
        game.left--;
        task_wake_one(&game.ping);
        if (task_wait(&game.pong, loop_now() + SECONDS(300), &err) < 0)
            return;
    }
    task_wake_one(&game.ping);
}

static void
wakes_and_waits(unsigned count)
{
    struct task_group group;
    game.left = count;
    task_group_init(&group);
    task_spawn(&group, "ping", play_ping, NULL);
    task_spawn(&group, "pong", play_pong, NULL);
    task_group_join(&group);
}

static void
yields(unsigned count)
{
    struct err err;
    while (count-- > 0)
        if (task_yield(&err) < 0)
            return;
}

static void
nothing(void *arg)
{
    (void)arg;
}

static void
lives(unsigned count)
{
    struct task_group group;
    task_group_init(&group);
    for (unsigned i = 0; i < count; i++) {
        task_spawn(&group, "short", nothing, NULL);
        if (i % 64 == 63)
            task_group_join(&group);
    }
    task_group_join(&group);
}

static void
blocking_calls(unsigned count)
{
    while (count-- > 0)
        task_run_blocking(nothing, NULL);
}

/* Of this thread, so that what else the machine does counts little. */
static double
cpu_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double
measure(void (*fn)(unsigned count), unsigned count)
{
    double best = 0;
    for (int i = 0; i < BEST_OF; i++) {
        double before = cpu_nanoseconds();
        fn(count);
        double each = (cpu_nanoseconds() - before) / count;
        if (i == 0 || each < best)
            best = each;
    }
    return best;
}

static void
run_all(void *arg)
{
    (void)arg;
    printf("| what | ns |\n| --- | --- |\n");
    printf("| switch of stacks alone | %.1f |\n", measure(bare_switches, 10000000));
    printf("| wake another task, wait (with a deadline), switch | %.1f |\n", measure(wakes_and_waits, 4000000));
    printf("| spawn, run and end a task | %.1f |\n", measure(lives, 1000000));
    printf("| yield: a whole turn of the loop, with its epoll_wait | %.0f |\n", measure(yields, 200000));
    printf("| call in a thread of the pool: what it costs the loop | %.0f |\n", measure(blocking_calls, 20000));
}

int
main(void)
{
    log_init("bench");
    loop_init();
    task_run_main(run_all, NULL);
    loop_release();
    return 0;
}
