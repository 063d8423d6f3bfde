/* SPDX-License-Identifier: Apache-2.0 */
/* tools/postfix_command.h: what the parts of the postfix command share. */
#ifndef TOOLS_POSTFIX_COMMAND_H
#define TOOLS_POSTFIX_COMMAND_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/conf/conf.h"
#include "lib/conf/settings_tools.h"

struct control {
    struct arena *arena;
    struct conf *conf;
    struct tools_settings settings;
    bool privileged; /* run by root */
    bool verbose;    /* -v */
    uid_t owner;     /* of the queue: mail_owner, or whoever runs the command */
    gid_t owner_group;
    gid_t submit_group; /* setgid_group */
};

/* One line each, to the log and to standard error. */
void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
void say_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
void say_fatal(const char *fmt, ...) PRINTF_LIKE(1, 2); /* says so only: the caller ends */

/* Where the log goes, as main.cf says: to postlogd if it runs, else into maillog_file itself, else to the system log. */
void open_log(struct control *);

/* Whom the queue belongs to. -1: there is no such user or group (said already). */
int find_owners(struct control *);

/* Makes what is missing of the queue's and the data directory; warns of wrong owners and modes. -1: can't run (said
 * already). repair: also puts owners and modes right. */
int check_directories(struct control *, bool repair);

/* Warns of settings that can't be used or have no effect. -1: some can't be used. */
int check_settings(struct control *, bool tell_effects);

#endif
