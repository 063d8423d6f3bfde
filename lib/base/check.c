/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/log.h"

static struct {
    void (*hook)(char *text, unsigned size);
    int fatal_status;
    bool panicking;
} ending = {.fatal_status = 1};

void
panic_set_hook(void (*hook)(char *text, unsigned size))
{
    ending.hook = hook;
}

void
fatal_set_status(int status)
{
    ending.fatal_status = status;
}

void
panic(const char *fmt, ...)
{
    char text[1024];
    va_list args;
    if (ending.panicking) /* the dump itself failed */
        abort();
    ending.panicking = true;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_line(LOG_LEVEL_PANIC, text);
    log_flush_all();
    if (ending.hook) {
        text[0] = '\0';
        ending.hook(text, sizeof(text));
        log_line(LOG_LEVEL_PANIC, text);
        log_flush_all();
    }
    abort();
}

void
fatal(const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_line(LOG_LEVEL_FATAL, text);
    log_flush_all();
    exit(ending.fatal_status);
}
