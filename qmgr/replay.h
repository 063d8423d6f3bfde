/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/replay.h: takes over journal segments whose writer has gone: all at the start, and later those of a cleanup
 * process that ended without giving them back. Messages in them that are not struck, not in hand and not in a queue
 * file are taken up; a segment with nothing left in it is removed. */
#ifndef QMGR_REPLAY_H
#define QMGR_REPLAY_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/mail/queue_dir.h"

/* Is there a queue file of that id? Then an image of it is one too many: we died between making the one and striking the other. */
bool replay_has_file(struct arena *, const char *id);

/* journal_fd: the directory journal/. */
void replay_init(const struct queue_dir *, int journal_fd);

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
