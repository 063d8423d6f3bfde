/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/{loop,task,pool}: waiting, waking, deadlines, cancelling, joining; in what order, and what must panic. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "tests/unit/with_loop.h"

/* Runs the body of a test as a task. */
static void
in_task(void (*fn)(void *), void *arg)
{
    task_run_main(fn, arg);
    assert_int_equal(task_count(), 0);
}

/* --- order ----------------------------------------------------------------------------------------------------- */

/* A literal as the argument of a task. */
#define TEXT(text) ((void *)(uintptr_t)(text))

static struct buf trace;

static void
trace_name(void *arg)
{
    buf_append_text(&trace, arg);
}

static void
trace_twice(void *arg)
{
    struct err err;
    trace_name(arg);
    assert_int_equal(task_yield(&err), 0);
    trace_name(arg);
}

static void
runs_in_order_body(void *arg)
{
    struct task_group group;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "a", trace_name, TEXT("a"));
    task_spawn(&group, "b", trace_twice, TEXT("b"));
    task_spawn(&group, "c", trace_twice, TEXT("c"));
    task_spawn(&group, "d", trace_name, TEXT("d"));
    buf_append_text(&trace, "-");
    task_group_join(&group);
}

static void
runs_in_order(void **state)
{
    (void)state;
    in_task(runs_in_order_body, NULL);
    assert_string_equal(buf_text(&trace), "-abcdbc");
    buf_release(&trace);
}

static void
hook_traces(void *arg)
{
    trace_name(arg);
}

static void
hooks_run_at_turn_end_body(void *arg)
{
    struct loop_hook first = {.fn = hook_traces, .arg = TEXT("1")}, second = {.fn = hook_traces, .arg = TEXT("2")};
    struct loop_hook never = {.fn = hook_traces, .arg = TEXT("n")};
    struct err err;
    (void)arg;
    loop_want_turn_end(&first);
    loop_want_turn_end(&never);
    loop_want_turn_end(&second);
    loop_want_turn_end(&first);
    loop_drop_turn_end(&never);
    buf_append_text(&trace, "t");
    assert_int_equal(task_yield(&err), 0);
    buf_append_text(&trace, "u");
    assert_int_equal(task_yield(&err), 0);
    loop_want_turn_end(&second);
    assert_int_equal(task_yield(&err), 0);
}

static void
hooks_run_at_turn_end(void **state)
{
    (void)state;
    in_task(hooks_run_at_turn_end_body, NULL);
    assert_string_equal(buf_text(&trace), "t12u2");
    buf_release(&trace);
}

/* --- time ------------------------------------------------------------------------------------------------------ */

static void
sleep_and_trace(void *arg)
{
    const char *name = arg;
    struct err err;
    assert_int_equal(task_sleep((name[0] - '0') * 10000, &err), 0);
    trace_name(arg);
}

static void
sleeps_body(void *arg)
{
    struct task_group group;
    usec_t before = loop_now();
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "3", sleep_and_trace, TEXT("3"));
    task_spawn(&group, "1", sleep_and_trace, TEXT("1"));
    task_spawn(&group, "4", sleep_and_trace, TEXT("4"));
    task_spawn(&group, "2", sleep_and_trace, TEXT("2"));
    task_group_join(&group);
    assert_true(clock_monotonic() - before >= 40000);
}

static void
sleeps(void **state)
{
    (void)state;
    in_task(sleeps_body, NULL);
    assert_string_equal(buf_text(&trace), "1234");
    buf_release(&trace);
}

static void
deadline_body(void *arg)
{
    struct task_cond never = {0};
    struct err err;
    (void)arg;
    usec_t before = loop_now();
    assert_int_equal(task_wait(&never, loop_now() + 30000, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    assert_true(clock_monotonic() - before >= 30000);
    /* one that has passed already */
    assert_int_equal(task_wait(&never, loop_now() - 1, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    /* a later deadline, while the timer stands at an earlier place; then an earlier one */
    before = loop_now();
    assert_int_equal(task_wait(&never, loop_now() + 60000, &err), -1);
    assert_true(clock_monotonic() - before >= 60000);
    before = loop_now();
    assert_int_equal(task_wait(&never, loop_now() + 10000, &err), -1);
    assert_true(clock_monotonic() - before < SECONDS(10));
}

static void
deadline_ends_a_wait(void **state)
{
    (void)state;
    in_task(deadline_body, NULL);
}

struct many_timers {
    struct loop_timer timer;
    usec_t wanted;
    unsigned *left;
};

static void
many_timers_called(void *arg)
{
    struct many_timers *one = arg;
    assert_true(loop_now() >= one->wanted);
    (*one->left)--;
}

/* Random settings, later and earlier, rests and clears: each is called once, and not before its time. */
static void
timers_keep_their_promise(void **state)
{
    enum { COUNT = 2000 };
    struct many_timers *all = calloc(COUNT, sizeof(*all));
    unsigned left = 0;
    uint64_t seed = 1;
    (void)state;
    assert_non_null(all);
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < COUNT; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned random = (unsigned)(seed >> 40);
            all[i].left = &left;
            all[i].wanted = loop_now() + random % 50000;
            if (random % 7 == 0)
                loop_timer_clear(&all[i].timer);
            else if (random % 7 == 1)
                loop_timer_rest(&all[i].timer);
            else
                loop_timer_set(&all[i].timer, all[i].wanted, many_timers_called, &all[i]);
        }
    for (int i = 0; i < COUNT; i++)
        left += all[i].timer.due != 0;
    assert_true(left > COUNT / 2);
    for (int turn = 0; turn < 10000 && left > 0; turn++)
        loop_turn(1000);
    assert_int_equal(left, 0);
    for (int i = 0; i < COUNT; i++)
        loop_timer_clear(&all[i].timer);
    free(all);
}

static void
spin(void *arg)
{
    bool *stop = arg;
    struct err err;
    while (!*stop)
        assert_int_equal(task_yield(&err), 0);
}

static void
sleep_then_stop(void *arg)
{
    bool *stop = arg;
    struct err err;
    assert_int_equal(task_sleep(20000, &err), 0);
    *stop = true;
}

static struct task_cond ping, pong;

static void
play_ping(void *arg)
{
    bool *stop = arg;
    struct err err;
    while (!*stop) {
        task_wake_all(&pong);
        assert_int_equal(task_wait(&ping, NO_DEADLINE, &err), 0);
    }
    task_wake_all(&pong);
}

static void
play_pong(void *arg)
{
    bool *stop = arg;
    struct err err;
    while (!*stop) {
        task_wake_all(&ping);
        assert_int_equal(task_wait(&pong, NO_DEADLINE, &err), 0);
    }
    task_wake_all(&ping);
}

static void
busy_tasks_body(void *arg)
{
    struct task_group group;
    bool stop = false;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "spin", spin, &stop);
    task_spawn(&group, "ping", play_ping, &stop);
    task_spawn(&group, "pong", play_pong, &stop);
    task_spawn(&group, "stop", sleep_then_stop, &stop);
    task_group_join(&group);
}

static void
busy_tasks_do_not_stop_timers(void **state)
{
    (void)state;
    in_task(busy_tasks_body, NULL);
}

/* --- waking and cancelling ------------------------------------------------------------------------------------- */

struct waiter {
    struct task_cond *cond;
    int status;
    enum err_kind kind;
    bool sleeps_too;
};

static void
wait_on_cond(void *arg)
{
    struct waiter *waiter = arg;
    struct err err = {.kind = ERR_NONE};
    waiter->status = task_wait(waiter->cond, NO_DEADLINE, &err);
    waiter->kind = err.kind;
    if (waiter->sleeps_too) {
        assert_int_equal(task_sleep(SECONDS(1000), &err), -1);
        assert_int_equal(err.kind, ERR_CANCELLED);
        assert_int_equal(task_yield(&err), -1);
        assert_true(task_is_cancelled());
    }
}

static void
wakes_body(void *arg)
{
    struct task_group group;
    struct task_cond cond = {0};
    struct waiter waiters[3] = {{.cond = &cond}, {.cond = &cond}, {.cond = &cond}};
    struct err err;
    (void)arg;
    task_group_init(&group);
    for (int i = 0; i < 3; i++) {
        waiters[i].status = 7;
        task_spawn(&group, "waiter", wait_on_cond, &waiters[i]);
    }
    task_wake_all(&cond); /* nobody waits yet, so nobody is woken */
    assert_int_equal(task_yield(&err), 0);
    task_wake_one(&cond);
    assert_int_equal(task_yield(&err), 0);
    assert_int_equal(waiters[0].status, 0);
    assert_int_equal(waiters[1].status, 7);
    task_wake_all(&cond);
    task_group_join(&group);
    assert_int_equal(waiters[1].status, 0);
    assert_int_equal(waiters[2].status, 0);
}

static void
wakes_one_or_all(void **state)
{
    (void)state;
    in_task(wakes_body, NULL);
}

static void
cancel_body(void *arg)
{
    struct task_group group;
    struct task_cond cond = {0};
    struct waiter waiters[3] = {{.cond = &cond}, {.cond = &cond, .sleeps_too = true}, {.cond = &cond}};
    struct err err;
    (void)arg;
    task_group_init(&group);
    for (int i = 0; i < 3; i++)
        task_spawn(&group, "waiter", wait_on_cond, &waiters[i]);
    assert_int_equal(task_yield(&err), 0);
    task_group_cancel(&group);
    struct waiter late = {.cond = &cond};
    task_cancel(task_spawn(&group, "late", wait_on_cond, &late)); /* before it ever ran */
    task_group_join(&group);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(waiters[i].status, -1);
        assert_int_equal(waiters[i].kind, ERR_CANCELLED);
    }
    assert_int_equal(late.status, -1);
    assert_int_equal(late.kind, ERR_CANCELLED);
}

static void
cancel_ends_waits(void **state)
{
    (void)state;
    in_task(cancel_body, NULL);
}

static void
join_children(void *arg)
{
    struct task_group children;
    int *slept = arg;
    struct err err;
    task_group_init(&children);
    task_spawn(&children, "child", sleep_and_trace, TEXT("2"));
    assert_int_equal(task_sleep(SECONDS(100), &err), -1);
    task_group_join(&children); /* although we are cancelled */
    *slept = 1;
}

static void
join_is_not_cancelled_body(void *arg)
{
    struct task_group group;
    struct err err;
    int slept = 0;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "parent", join_children, &slept);
    assert_int_equal(task_yield(&err), 0);
    task_group_cancel(&group);
    assert_int_equal(task_yield(&err), 0);
    assert_int_equal(slept, 0);
    task_group_join(&group);
    assert_int_equal(slept, 1);
}

static void
join_is_not_cancelled(void **state)
{
    (void)state;
    in_task(join_is_not_cancelled_body, NULL);
    assert_string_equal(buf_text(&trace), "2");
    buf_release(&trace);
}

static void
stop_loop(void *arg)
{
    struct err err;
    (void)arg;
    assert_int_equal(task_sleep(10000, &err), 0);
    loop_stop();
}

static void
stopping_cancels_what_is_left(void **state)
{
    struct task_group group;
    struct task_cond cond = {0};
    struct waiter waiter = {.cond = &cond};
    (void)state;
    task_group_init(&group);
    task_spawn(&group, "waiter", wait_on_cond, &waiter);
    task_spawn(&group, "stop", stop_loop, NULL);
    loop_run();
    assert_int_equal(task_count(), 0);
    assert_int_equal(waiter.kind, ERR_CANCELLED);
}

static void
signal_called(void *arg)
{
    (*(int *)arg)++;
}

static void
signals_arrive_in_the_loop(void **state)
{
    int count = 0;
    (void)state;
    loop_on_signal(SIGUSR1, signal_called, &count);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 10 && count == 0; i++)
        loop_turn(10000);
    assert_int_equal(count, 1);
}

/* --- descriptors ----------------------------------------------------------------------------------------------- */

struct pair {
    int fds[2];
    struct task_fd tfd;
    unsigned bytes;
};

static void
pair_read_all(void *arg)
{
    struct pair *pair = arg;
    char bytes[16];
    struct err err;
    ssize_t n;
    while ((n = read(pair->fds[0], bytes, sizeof(bytes))) != 0) {
        if (n > 0)
            pair->bytes += (unsigned)n;
        else
            assert_int_equal(task_fd_wait_read(&pair->tfd, loop_now() + SECONDS(5), &err), 0);
    }
}

static void
pair_open(struct pair *pair)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair->fds), 0);
    task_fd_init(&pair->tfd, pair->fds[0]);
    pair->bytes = 0;
}

static void
pair_close(struct pair *pair)
{
    task_fd_release(&pair->tfd);
    close(pair->fds[0]);
}

static void
descriptors_body(void *arg)
{
    struct pair pair;
    struct task_group group;
    struct err err;
    (void)arg;
    pair_open(&pair);
    task_group_init(&group);
    task_spawn(&group, "reader", pair_read_all, &pair);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(write(pair.fds[1], "0123456789abcdef0123", 20), 20);
        if (i % 3)
            assert_int_equal(task_yield(&err), 0);
        if (i % 10 == 0)
            assert_int_equal(task_sleep(1000, &err), 0);
    }
    close(pair.fds[1]);
    task_group_join(&group);
    assert_int_equal(pair.bytes, 2000);
    pair_close(&pair);
}

static void
descriptors_wake_their_reader(void **state)
{
    (void)state;
    in_task(descriptors_body, NULL);
}

static void
write_until_full(void *arg)
{
    struct pair *pair = arg;
    char bytes[2048] = {0};
    struct err err;
    for (unsigned done = 0; done < 1000000;) {
        ssize_t n = write(pair->fds[0], bytes, sizeof(bytes));
        if (n > 0)
            done += (unsigned)n;
        else
            assert_int_equal(task_fd_wait_write(&pair->tfd, loop_now() + SECONDS(5), &err), 0);
    }
    shutdown(pair->fds[0], SHUT_WR);
}

static void
writers_body(void *arg)
{
    struct pair pair;
    struct task_group group;
    struct err err;
    char bytes[2500];
    unsigned got = 0;
    ssize_t n;
    (void)arg;
    pair_open(&pair);
    task_group_init(&group);
    task_spawn(&group, "writer", write_until_full, &pair);
    while ((n = read(pair.fds[1], bytes, sizeof(bytes))) != 0)
        if (n > 0)
            got += (unsigned)n;
        else
            assert_int_equal(task_yield(&err), 0);
    assert_in_range(got, 1000000, 1000000 + 2048);
    task_group_join(&group);
    close(pair.fds[1]);
    /* nobody reads: the wait ends by its deadline */
    pair_close(&pair);
    pair_open(&pair);
    while (write(pair.fds[0], bytes, sizeof(bytes)) > 0)
        ;
    assert_int_equal(task_fd_wait_write(&pair.tfd, loop_now() + 10000, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    close(pair.fds[1]);
    pair_close(&pair);
}

static void
descriptors_wake_their_writer(void **state)
{
    (void)state;
    in_task(writers_body, NULL);
}

/* --- the pool -------------------------------------------------------------------------------------------------- */

static void
block_for_a_while(void *arg)
{
    usleep(20000);
    (*(int *)arg)++;
}

static void
call_blocking(void *arg)
{
    task_run_blocking(block_for_a_while, arg);
}

static void
pool_body(void *arg)
{
    struct task_group group;
    struct err err;
    int counts[8] = {0};
    (void)arg;
    usec_t before = loop_now();
    task_group_init(&group);
    for (int i = 0; i < 8; i++)
        task_spawn(&group, "blocking", call_blocking, &counts[i]);
    assert_int_equal(task_yield(&err), 0);
    task_group_cancel(&group); /* does not interrupt what threads do */
    task_group_join(&group);
    for (int i = 0; i < 8; i++)
        assert_int_equal(counts[i], 1);
    assert_true(clock_monotonic() - before >= 40000); /* four threads, eight jobs */
}

static void
pool_runs_what_blocks(void **state)
{
    (void)state;
    in_task(pool_body, NULL);
}

/* --- stacks ---------------------------------------------------------------------------------------------------- */

/* Uses about depth KiB of stack, waits at the bottom, and finds everything unchanged. */
static unsigned
go_deep(unsigned depth)
{
    volatile unsigned char frame[1024];
    struct err err;
    unsigned sum = 0;
    memset((void *)(uintptr_t)frame, (int)(depth & 255), sizeof(frame));
    if (depth == 0)
        assert_int_equal(task_sleep(2500, &err), 0);
    else
        sum = go_deep(depth - 1);
    for (size_t i = 0; i < sizeof(frame); i++)
        sum += frame[i] == (unsigned char)(depth & 255);
    return sum;
}

static void
deep_task(void *arg)
{
    enum { DEPTH = 64 };
    (void)arg;
    assert_int_equal(go_deep(DEPTH), (DEPTH + 1) * 1024);
}

static void
deep_stacks_survive_waits(void **state)
{
    struct task_group group;
    (void)state;
    task_group_init(&group);
    for (int i = 0; i < 50; i++)
        task_spawn(&group, "deep", deep_task, NULL);
    task_group_join(&group);
}

static void
sleep_long(void *arg)
{
    struct err err;
    unsigned *done = arg;
    unsigned char page[3000];
    memset(page, 42, sizeof(page));
    assert_int_equal(task_sleep(SECONDS(3), &err), 0);
    for (size_t i = 0; i < sizeof(page); i++)
        assert_int_equal(page[i], 42);
    (*done)++;
}

/* The part of the stack in use is untouched when what lies below is given back. */
static void
long_waits_keep_their_frames(void **state)
{
    struct task_group group;
    unsigned done = 0;
    (void)state;
    task_group_init(&group);
    for (int i = 0; i < 20; i++)
        task_spawn(&group, "long", sleep_long, &done);
    task_group_join(&group);
    assert_int_equal(done, 20);
}

struct crowd {
    struct task_cond go;
    unsigned waiting, done;
};

static void
join_crowd(void *arg)
{
    struct crowd *crowd = arg;
    struct err err;
    crowd->waiting++;
    assert_int_equal(task_wait(&crowd->go, loop_now() + SECONDS(100), &err), 0);
    crowd->done++;
}

static void
ten_thousand_tasks(void **state)
{
    enum { COUNT = 10000 };
    struct task_group group;
    struct crowd crowd = {0};
    (void)state;
    for (int round = 0; round < 2; round++) {
        crowd = (struct crowd){0};
        task_group_init(&group);
        for (int i = 0; i < COUNT; i++)
            task_spawn(&group, "one of many", join_crowd, &crowd);
        while (crowd.waiting < COUNT)
            loop_turn(0);
        assert_int_equal(task_count(), COUNT);
        task_wake_all(&crowd.go);
        task_group_join(&group);
        assert_int_equal(crowd.done, COUNT);
    }
}

static void
stacks_are_used_again_body(void *arg)
{
    struct task_group group;
    (void)arg;
    task_group_init(&group);
    unsigned before = 0;
    for (int i = 0; i < 100; i++) {
        task_spawn(&group, "a", trace_name, TEXT(""));
        task_group_join(&group);
        if (i == 0)
            before = task_stack_count();
    }
    assert_int_equal(task_stack_count(), before);
}

static void
stacks_are_used_again(void **state)
{
    (void)state;
    in_task(stacks_are_used_again_body, NULL);
    buf_release(&trace);
}

/* --- what must panic ------------------------------------------------------------------------------------------- */

static void
wait_while_pinned(void *arg)
{
    struct err err;
    (void)arg;
    task_pin();
    if (task_yield(&err) == 0)
        _exit(0);
}

static void
end_while_pinned(void *arg)
{
    (void)arg;
    task_pin();
}

static void
run_off_the_stack(void *arg)
{
    volatile char *stack = (volatile char *)__builtin_frame_address(0);
    (void)arg;
    for (size_t i = 0; i < 2 * (size_t)TASK_STACK_SIZE; i += 512)
        *(stack - i) = 1;
    _exit(0);
}

static void
join_own_group_body(void *arg)
{
    task_group_join(arg);
}

/* The signal that ended a child which ran fn as a task. */
static int
dies_by(void (*fn)(void *))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct task_group group;
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        loop_init();
        task_group_init(&group);
        task_spawn(&group, "victim", fn, &group);
        task_group_join(&group);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void
our_own_bugs_panic(void **state)
{
    (void)state;
    assert_int_equal(dies_by(wait_while_pinned), SIGABRT);
    assert_int_equal(dies_by(end_while_pinned), SIGABRT);
    assert_int_equal(dies_by(join_own_group_body), SIGABRT);
#ifndef POSTERN_SANITIZERS
    assert_int_equal(dies_by(run_off_the_stack), SIGSEGV);
#else
    (void)run_off_the_stack;
#endif
}

static void
pins_allow_work_body(void *arg)
{
    struct err err;
    (void)arg;
    task_pin();
    task_pin();
    task_unpin();
    task_unpin();
    assert_int_equal(task_yield(&err), 0);
}

static void
balanced_pins_do_no_harm(void **state)
{
    (void)state;
    in_task(pins_allow_work_body, NULL);
}

/* --- the log --------------------------------------------------------------------------------------------------- */

static int
open_datagrams(const char *path, bool listens)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    if (listens)
        assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    else
        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* The log takes no more: lines wait, whatever else the loop does, and go by themselves, all and in order, when it reads again. */
static void
slow_log_body(void *arg)
{
    const char *path = arg;
    int log = open_datagrams(path, true), other = open_datagrams(path, false);
    char got[1500], *second;
    struct err err;
    ssize_t n = -1;

    assert_int_equal(log_to_postlog(path), 0);
    while (send(other, "x", 1, 0) == 1)
        continue;
    log_info("the first");
    assert_int_equal(task_yield(&err), 0);
    log_info("the second");
    assert_int_equal(task_sleep(20000, &err), 0);
    assert_true(log_is_waiting());
    while ((n = recv(log, got, sizeof(got), 0)) == 1)
        continue;
    assert_int_equal(n, -1);
    for (usec_t end = loop_now() + SECONDS(20); log_is_waiting() && loop_now() < end;)
        assert_int_equal(task_sleep(1000, &err), 0);
    n = recv(log, got, sizeof(got) - 1, 0);
    assert_true(n > 0);
    got[n] = '\0';
    assert_non_null(strstr(got, "the first"));
    second = strstr(got, "the second");
    assert_true(second && second > strstr(got, "the first"));
    log_info("the third"); /* at once, at the end of this turn */
    assert_int_equal(task_yield(&err), 0);
    assert_true(recv(log, got, sizeof(got), 0) > 0);
    log_to_fd(2, false);
    close(log);
    close(other);
}

static void
lines_wait_for_a_slow_log(void **state)
{
    char directory[] = "/tmp/test_task.XXXXXX", path[100];
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/postlog", directory);
    task_run_main(slow_log_body, path);
    unlink(path);
    rmdir(directory);
}

int
main(void)
{
    const struct CMUnitTest dying[] = {cmocka_unit_test(our_own_bugs_panic)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(runs_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(hooks_run_at_turn_end, setup, teardown),
        cmocka_unit_test_setup_teardown(sleeps, setup, teardown),
        cmocka_unit_test_setup_teardown(deadline_ends_a_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_keep_their_promise, setup, teardown),
        cmocka_unit_test_setup_teardown(busy_tasks_do_not_stop_timers, setup, teardown),
        cmocka_unit_test_setup_teardown(wakes_one_or_all, setup, teardown),
        cmocka_unit_test_setup_teardown(cancel_ends_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(join_is_not_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(stopping_cancels_what_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(signals_arrive_in_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptors_wake_their_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptors_wake_their_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(pool_runs_what_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_wait_for_a_slow_log, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_stacks_survive_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(long_waits_keep_their_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(ten_thousand_tasks, setup, teardown),
        cmocka_unit_test_setup_teardown(stacks_are_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(balanced_pins_do_no_harm, setup, teardown),
    };
    log_init("postfix/test");
    int failed = cmocka_run_group_tests_name("bugs", dying, NULL, NULL);
    return failed + cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
