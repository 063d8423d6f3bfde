/* SPDX-License-Identifier: Apache-2.0 */
/* flush/site_log.h: the lists of deferred mail by destination: files in flush/, as Postfix has them. A file's name is the
 * domain in lower case, with "_" for all but letters and digits; in it stands a queue id a line, added each time that the
 * message was deferred, so that ids may come more than once, or be of messages that are gone. A list is emptied when its mail
 * is asked for. Its access time says when that was, or when it began to fill.
 *
 * Two domains may share a file ("a-b.test", "a.b.test"): then the mail of both is tried, which harms none.
 *
 * All calls block for the disk and are safe in threads of the pool. A list is locked (flock) while it is worked on; nothing is synced: a crash may cost an id,
 * whose message is tried when its time comes. */
#ifndef FLUSH_SITE_LOG_H
#define FLUSH_SITE_LOG_H

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/mail/queue_dir.h"

/* What became of it. Begins as zeros. */
struct site_log_outcome {
    unsigned moved;  /* messages that qmgr finds in incoming/ now */
    unsigned failed; /* files that could not be worked on; the others were */
    struct err err;  /* of the last of those */
};

/* Adds the message to the site's list. */
void site_log_add(const struct queue_dir *, struct slice site, const char *queue_id, struct site_log_outcome *);

/* Moves what is in the site's list from deferred/ to incoming/, to be tried at once, and empties the list but for messages that are in active/: other
 * recipients of those are being tried, so that the site's turn may be over, and they are there for the next who asks. */
void site_log_send(const struct queue_dir *, struct slice site, struct site_log_outcome *);

/* The same for one message, which need not be in a list. One that is not in deferred/ is left where it is. */
void site_log_send_message(const struct queue_dir *, const char *queue_id, struct site_log_outcome *);

/* Sends what is in lists that were not asked for in `refresh` seconds; removes lists that were empty for `purge` seconds. now:
 * seconds, wall clock. */
void site_log_refresh(const struct queue_dir *, int64_t now, int64_t refresh, int64_t purge, struct site_log_outcome *);

#endif
