/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/filing.h: work on queue files, in the thread pool. One job at a time for a message (message->filing). The jobs
 * work on a snapshot of what is known when they are started. */
#ifndef QMGR_FILING_H
#define QMGR_FILING_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/mail/queue_dir.h"
#include "qmgr/message.h"

/* What became of a job. The message is no longer `filing`. */
enum filing_result {
    FILING_DONE,
    FILING_FAILED, /* all is as it was */
    FILING_GONE,   /* there is no such file any more: somebody removed or moved it */
};

/* with_old_form: backwards_bounce_logfile_compatibility. */
void filing_init(const struct queue_dir *, bool with_old_form);

/* Writes the image to a file in active/, where the message lives on (message->in_file is set when it is done, the
 * offsets of recipients are known). The image is not struck. */
void filing_write_active(struct message *, void (*done)(struct message *, enum filing_result, const struct err *));

/* Makes a file of it in another queue, or moves its file there: "deferred", "incoming", "hold". next_attempt: seconds,
 * wall clock; becomes the file's modification time. For "deferred" the reasons are logged first. */
void filing_leave(struct message *, const char *queue, int64_t next_attempt,
                  void (*done)(struct message *, enum filing_result, const struct err *));

/* Logs the reasons of those deferred, and reads the recipients of the next pass, `most` at most; they are the message's
 * when it is done. */
void filing_next_pass(struct message *, size_t most,
                      void (*done)(struct message *, enum filing_result, const struct err *));

/* Removes its file from active/. */
void filing_remove(struct message *, void (*done)(struct message *, enum filing_result, const struct err *));

/* At once, in the loop: */
/* Opens its file in active/. -1 with err.code ENOENT: it has gone. */
int filing_open(const struct message *, int flags, struct err *) MUST_USE;
/* Opens it and locks it, until the descriptor is closed. -1 with err.code EWOULDBLOCK: somebody else has it. */
int filing_lock(const struct message *, struct err *) MUST_USE;
/* Marks a recipient as done in the file. */
int filing_mark_done(const struct message *, size_t recipient, struct err *) MUST_USE;
/* Notes in the file that the sender was told of the delay. */
int filing_mark_warned(const struct message *, struct err *) MUST_USE;

/* Jobs under way. */
unsigned filing_active(void);

#endif
