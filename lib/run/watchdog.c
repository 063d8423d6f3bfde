/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/watchdog.h"

#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"

enum { STEPS = 3, STACK_SIZE = 64 * 1024 };

static struct {
    volatile sig_atomic_t turned, missed, barking;
    usec_t step;
    struct loop_timer timer;
    char stack[STACK_SIZE]; /* a task's may be nearly used up */
} watchdog;

static void
note_turn(void *arg)
{
    (void)arg;
    watchdog.turned = 1;
    loop_timer_set(&watchdog.timer, loop_now() + watchdog.step / 2, note_turn, NULL);
}

/* We may have been called in the middle of malloc() or of the log itself. If saying it gets stuck, the next signal, which
 * is not blocked meanwhile, ends the process without a word. */
static void
on_alarm(int signal)
{
    (void)signal;
    if (watchdog.barking)
        _exit(1);
    if (watchdog.turned) {
        watchdog.turned = watchdog.missed = 0;
        return;
    }
    if (++watchdog.missed < STEPS)
        return;
    watchdog.barking = 1;
    log_line(LOG_LEVEL_FATAL, "watchdog timeout");
    log_flush_all();
    _exit(1);
}

void
watchdog_start(usec_t limit)
{
    const stack_t stack = {.ss_sp = watchdog.stack, .ss_size = sizeof(watchdog.stack)};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART | SA_NODEFER | SA_ONSTACK};
    struct itimerval interval;

    check(!watchdog.step && limit > 0);
    watchdog.step = limit / STEPS > 0 ? limit / STEPS : 1;
    interval.it_value.tv_sec = (time_t)(watchdog.step / SECONDS(1));
    interval.it_value.tv_usec = (suseconds_t)(watchdog.step % SECONDS(1));
    interval.it_interval = interval.it_value;
    note_turn(NULL);
    if (sigaltstack(&stack, NULL) < 0 || sigaction(SIGALRM, &action, NULL) < 0 ||
        setitimer(ITIMER_REAL, &interval, NULL) < 0)
        fatal("watchdog: %m");
}
