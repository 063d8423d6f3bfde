/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/content.h: the content of a message, from DATA or BDAT to cleanup. It gathers in memory, and goes from there in one
 * piece; one that grows above LINK_PAYLOAD_INLINE is handed on in pieces as it comes, so that memory stays small.
 * Content that is going to be refused is read to its end, and thrown away. */
#ifndef SMTPD_CONTENT_H
#define SMTPD_CONTENT_H

#include "lib/smtp/reply.h"
#include "smtpd/session.h"

/* Puts the Received: line in front (RFC 5321 section 4.4). */
void content_begin(struct session *);

/* Bytes were appended to the transaction's content: counts them, hands them on when they are many. */
void may_wait content_added(struct session *, size_t before);

/* The same for bytes that did not need to be copied there; for a content that is being handed on. */
void may_wait content_pass(struct session *, struct slice);

/* The content is complete: runs end-of-data restrictions, submits it, and returns the reply. Ends the transaction. */
struct smtp_reply may_wait content_end(struct session *);

/* The reply to a content that has a problem; in the log too. */
struct smtp_reply content_problem_reply(struct session *);

/* Appends the Received: line as it is now. */
void content_received(const struct session *, struct buf *out);

#endif
