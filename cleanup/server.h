/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/server.h: what the process holds: settings, the journal, the link to qmgr.
 *
 * cleanup takes messages in (message.c), makes them durable in its journal, answers, and announces them to qmgr
 * (announce.c), which says when an image is needed no more. When qmgr can't be reached for a while, or the message is to be
 * held, it becomes a queue file here (spool.c). */
#ifndef CLEANUP_SERVER_H
#define CLEANUP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/settings_cleanup.h"
#include "lib/mail/addr_rewrite.h"
#include "lib/mail/journal.h"
#include "lib/mail/queue_dir.h"
#include "lib/run/link.h"
#include "lib/run/task.h"

struct server {
    struct cleanup_settings settings;
    struct queue_dir queue_dir;
    struct addr_rewriter *rewriter;
    const struct rewrite_settings *remote_form; /* for headers of others' mail; NULL: they are left alone */
    bool has_copies;                            /* some message may get one */
    struct journal *journal;

    unsigned messages;         /* being taken in */
    struct task_cond taken_in; /* one less */
    bool stopping;             /* qmgr says that the system stops: take nothing more */
};

extern struct server server;

/* Hands out numbers for queue ids; a handler of links. */
void ids_give(struct link_request *, struct link_message *, void *ctx);

/* Takes a message in; a handler of links. */
void message_take(struct link_request *, struct link_message *, void *ctx);

#endif
