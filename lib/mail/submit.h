/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/submit.h: hands a message to cleanup: for smtpd, pickup, bounce, local. */
#ifndef LIB_MAIL_SUBMIT_H
#define LIB_MAIL_SUBMIT_H

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/mail/messages.h"
#include "lib/run/link.h"

struct submitter;

/* path: the socket of the cleanup service; kept. One for each process and cleanup service. */
struct submitter *submitter_new(const char *path);
void submitter_free(struct submitter **);

/* A queue id that no message had: its number and text (QUEUE_ID_SIZE). Numbers are fetched in batches; waits only when
 * none is left. */
int may_wait submitter_new_id(struct submitter *, bool long_form, int64_t *number, char *id, struct err *) MUST_USE;

/* A content that is complete in memory, in wire form, without the final dot line, its last line ended by CRLF. It is
 * released, before the answer comes. *answer lives in the arena. -1: cleanup can't be reached, or went away before it
 * answered (451). */
int may_wait submitter_send(struct submitter *, struct arena *, const struct envelope *, struct buf *content,
                            struct msg_submitted *answer, struct err *) MUST_USE;

/* The value of receive_override_options: words to SUBMIT_NO_... flags; *unlisted: no_unknown_recipient_checks. */
int receive_overrides_parse(const char *list, unsigned *flags, bool *unlisted, struct err *) MUST_USE;

/* SUBMIT_DETECT_UTF8 if mail of the class ("smtpd", "sendmail") is one of smtputf8_autodetect_classes, else 0. */
unsigned smtputf8_autodetect(const char *classes, const char *class);

/* A larger one, or one of unknown size, in pieces (wire form). finish gives the answer, which lives in the arena; abort
 * throws it away. Both end the submission. When cleanup refuses in the midst of it, further writes do nothing, and finish
 * tells what it said. */
struct submission;
struct submission *may_wait submission_begin(struct submitter *, struct arena *, const struct envelope *, struct err *);
int may_wait submission_write(struct submission *, struct slice, struct err *) MUST_USE;
int may_wait submission_finish(struct submission *, struct msg_submitted *answer, struct err *) MUST_USE;
void may_wait submission_abort(struct submission *);

#endif
