/* SPDX-License-Identifier: Apache-2.0 */
/* tools/simple_command.h: what the small commands (postlock, postlog, postkick, postmulti) share. */
#ifndef TOOLS_SIMPLE_COMMAND_H
#define TOOLS_SIMPLE_COMMAND_H

#include "lib/base/arena.h"
#include "lib/conf/conf.h"
#include "lib/conf/settings_tools.h"

struct simple_command {
    struct arena *arena;
    struct conf *conf;
    struct tools_settings settings;
};

/* Reads main.cf (directory NULL: MAIL_CONFIG, else the built-in one). -1: *err says why. */
int simple_command_load(struct simple_command *, const char *directory, struct err *) MUST_USE;
void simple_command_release(struct simple_command *);

/* Runs a program to its end (found as the shell finds it): its exit status, 128 more than the signal that ended it, or -1 with
 * *err if it can't be run. environment NULL: ours. */
int simple_command_run(char *const *argv, char *const *environment, struct err *) MUST_USE;

#endif
