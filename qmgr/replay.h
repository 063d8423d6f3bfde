/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/replay.h: takes over journal segments whose writer has gone: all at the start, and later those of a cleanup
 * process that ended without giving them back. Messages in them that are not struck, not in hand and not in a queue
 * file are taken up; a segment with nothing left in it is removed. */
#ifndef QMGR_REPLAY_H
#define QMGR_REPLAY_H

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/mail/queue_dir.h"
#include "qmgr/message.h"

/* journal_fd: the directory journal/. */
void replay_init(const struct queue_dir *, int journal_fd);

/* Did an earlier life of ours make a queue file of this message, which is from the journal? Then the image is one too many: we died
 * between making the one and striking the other. It counts, too, when the file is done and gone since our start (replay_removed()). */
bool replay_is_filed(const struct message *);

/* The message's file is removed, for it is done. To be called for all messages in files; what need not be remembered is not: only
 * files that are older than we are can have an image that nobody struck, and cleanup announces it again in our first minutes. */
void replay_removed(const struct message *);

/* All that is left there. To be called before the first delivery. */
int may_wait replay_all(struct err *) MUST_USE;

/* Tries to take over the segments that lost their writer, now and then, as a task. */
void replay_watch(void);

/* One try for all of those, now. */
void may_wait replay_orphans(void);

/* What the watch would find within a second, now; in the first seconds after a start also what cleanup processes have yet
 * to announce again. So a list of the queue leaves out nothing that lies there. */
void may_wait replay_now(void);

#endif
