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
    bool can_log;    /* settings could be read, so that it is known where the log goes */
    uid_t owner;     /* of the queue: mail_owner, or whoever runs the command */
    gid_t owner_group;
    gid_t submit_group; /* setgid_group */
};

/* One line each, to the log and to standard error. */
void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
void say_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
void say_fatal(const char *fmt, ...) PRINTF_LIKE(1, 2); /* says so only: the caller ends */

/* From now on these print JSON, a line each with the members level and text, to standard output only. */
void say_json(void);

/* From now on these go to standard error alone, which is where a log goes that nobody opened. */
void say_by_log_alone(void);

/* Where the log goes, as main.cf says: to postlogd if it runs, else into maillog_file itself, else to the system log. */
void open_log(struct control *);

/* Whom the queue belongs to. -1: there is no such user or group (said already). */
int find_owners(struct control *);

/* --- the running system (postfix_master.c) --- */

pid_t running_master(struct control *); /* master's process id; 0: it does not run */
int not_running(void);                  /* says so; 1 */
const char *daemon_path(struct control *, const char *name);
void pause_ms(unsigned ms);

/* For run() and exec(): one of our programs with -c and our configuration directory, then the words, NULL at the end. */
char **program_arguments(struct control *, const char *path, const char *const *words);

/* Runs a program to its end; returns its exit status, 127 if it can't be run. */
int run(char *const *argv);

/* All checks that a start needs. 1: can't run (said already). */
int prepare(struct control *, bool tell_effects);

/* Edits main.cf with postconf: "name=value"..., NULL at the end. Returns its exit status. */
int edit_settings(struct control *, char *const *settings);

/* --- the commands: args are the words behind the command's name, NULL at the end --- */

int command_start(struct control *, char **args);
int command_start_fg(struct control *, char **args);
int command_stop(struct control *, char **args);
int command_abort(struct control *, char **args);
int command_reload(struct control *, char **args);
int command_status(struct control *, char **args);
int command_logrotate(struct control *, char **args);     /* postfix_logrotate.c */
int command_user(struct control *, char **args);          /* postfix_user.c */
int command_tls(struct control *, char **args);           /* postfix_tls.c */
int command_trace_address(struct control *, char **args); /* trace_address.c */

/* Makes what is missing of the queue's and the data directory; warns of wrong owners and modes. -1: can't run (said
 * already). repair: also puts owners and modes right. */
int check_directories(struct control *, bool repair);

/* Warns of settings that can't be used. -1: there are some. With tell_effects also of those without effect, of values that the
 * programs will not take, of restrictions that are unknown, and of tables that can't be opened or are older than their source.
 * (postfix_settings.c, postfix_values.c, postfix_tables.c) */
int check_settings(struct control *, bool tell_effects);

/* Makes tables anew that have only a file of Berkeley DB, from their text source (postfix_convert.c). */
void convert_tables(struct control *);

/* Warns of programs that others may change, of commands without the group that they need, and of queue files that are not the
 * owner's. */
void check_program_files(struct control *);

#endif
