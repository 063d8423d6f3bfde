/* SPDX-License-Identifier: Apache-2.0 */
/* tools/queue_command.h: what the commands that work on the queue share: main.cf, the log, the queue directory as the
 * current one, and talking to qmgr. */
#ifndef TOOLS_QUEUE_COMMAND_H
#define TOOLS_QUEUE_COMMAND_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/conf/settings_tools.h"
#include "lib/mail/queue_dir.h"

struct queue_command {
    const char *name; /* "postqueue" */
    struct arena *arena;
    struct conf *conf;
    struct tools_settings settings;
    struct queue_dir dir;
};

/* Reads main.cf (config_directory NULL: as usual), opens the log, goes to the queue directory; open_queue: and opens it.
 * Fatal if anything is wrong. argv0 for messages. */
void queue_command_begin(struct queue_command *, const char *argv0, const char *config_directory, bool open_queue);

/* Frees what it holds. */
void queue_command_end(struct queue_command *);

/* May the user work on the queue's files: root, or the owner of the queue directory? */
bool queue_command_is_owner(void);

/* For good, if run by root: the queue's directories are mail_owner's, who could lead root's hands elsewhere; and what is
 * made there must be his. */
void queue_command_become_owner(struct queue_command *);

/* Sends trigger bytes to qmgr. False: it is not there. */
bool queue_command_trigger(const struct queue_command *, const char *bytes);

/* The same to another service in public/. errno says why not. */
bool queue_command_send(const char *service, const char *bytes);

/* Has qmgr make files of what it holds in the journal: of that message, or of all (id NULL). Does nothing when the mail
 * system does not run. */
void queue_command_want_files(struct queue_command *, const char *id);

#endif
