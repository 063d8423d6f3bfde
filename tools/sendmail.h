/* SPDX-License-Identifier: Apache-2.0 */
/* tools/sendmail.h: sendmail(1): options (sendmail.c), and a message on its way from standard input to postdrop
 * (sendmail_message.c). */
#ifndef TOOLS_SENDMAIL_H
#define TOOLS_SENDMAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/conf/settings_tools.h"

struct sendmail {
    const char *name; /* "sendmail" */
    struct arena *arena;
    const char *config_directory; /* NULL: as usual */
    struct tools_settings settings;

    const char *sender;    /* -f; NULL: the user */
    const char *full_name; /* -F; NULL: NAME, or what passwd says */
    const char *envelope_id;
    const char *encoding; /* "7bit", "8bit" or "" */
    const char *verp;     /* NULL: none */
    int64_t notify;       /* NOTIFY_...; 0: not given */
    int64_t ret;          /* RET_... */
    int64_t trace;        /* TRACE_... */
    bool ignore_dots, extract_recipients, is_gateway, is_verification;
    char **recipients; /* NULL-ended */
};

enum { TRACE_VERIFY = 512, TRACE_RECORD = 1024 };

/* Reads the message, and becomes postdrop, which says how it ended. Does not return. */
void sendmail_submit(const struct sendmail *) NORETURN;

/* Runs a command of command_directory in our place. words: NULL-ended, the first is its name. -c is put in where a
 * configuration directory was given. */
void sendmail_execute(const struct sendmail *, const char *const *words) NORETURN;

#endif
