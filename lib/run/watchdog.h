/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/watchdog.h: ends a process whose loop does not turn any more, because a task computes for ever or sits in a system
 * call: with "fatal: watchdog timeout" and exit status 1. Tasks that wait are none of its business: each wait has a
 * deadline.
 *
 * An interval timer of the kernel (SIGALRM) counts how often it came without a turn in between. So a process that was stopped, with its
 * machine or alone, is not ended when it goes on. Children do not inherit it. */
#ifndef LIB_RUN_WATCHDOG_H
#define LIB_RUN_WATCHDOG_H

#include "lib/base/clock.h"

/* After loop_init(), before the sandbox. The process ends when the loop has not turned for that time, or up to a third
 * more. Once in a process. */
void watchdog_start(usec_t limit);

#endif
