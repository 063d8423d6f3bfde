/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/check.h: the two ways in which a process ends because of a fault.
 *
 * check() is for our own bugs and stays on in production. fatal() is for a process that can't run: out of memory, a bad
 * start-up. Neither may be reachable from a peer's bytes, a file's content or a full disk: those are errors (err.h). */
#ifndef LIB_BASE_CHECK_H
#define LIB_BASE_CHECK_H

#include "lib/base/compiler.h"

/* Panics unless the condition holds. */
#define check(condition)                                                                    \
    do {                                                                                    \
        if (__builtin_expect(!(condition), 0))                                              \
            panic("%s:%d: %s: check failed: %s", __FILE__, __LINE__, __func__, #condition); \
    } while (0)

/* Logs "panic: ..." with what the hook tells, and aborts (leaving a core where limits allow). */
void panic(const char *fmt, ...) NORETURN PRINTF_LIKE(1, 2);

/* Logs "fatal: ..." and exits with status 1. */
void fatal(const char *fmt, ...) NORETURN PRINTF_LIKE(1, 2);

/* hook(text, size) writes what it knows about the running task into text; lib/run sets it. NULL: nothing. */
void panic_set_hook(void (*hook)(char *text, unsigned size));

/* Called by fatal() before it exits, after the log is flushed: commands give the message on standard error instead. */
void fatal_set_status(int status);

#endif
