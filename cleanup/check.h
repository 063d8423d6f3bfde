/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/check.h: header_checks(5) and its kin: a table's answer to a header or to a line of the body, and what is done
 * about it. */
#ifndef CLEANUP_CHECK_H
#define CLEANUP_CHECK_H

#include "cleanup/message.h"
#include "lib/conf/conf.h"
#include "lib/mail/mime_walk.h"

/* Opens the tables; called once. */
int checks_open(struct arena *, const struct conf *, struct err *) MUST_USE;

/* Are there tables of that kind? */
bool checks_has(enum check_kind);

/* Is the content of this message looked at at all? */
bool checks_want(const struct message *);

/* text: a header with LF between its lines and none at the end, or a line of the body. -1: the message ends here: it is
 * refused, or discarded (SUBMIT_DISCARD). */
int may_wait check_text(struct message *, enum check_kind, struct slice text, struct check_result *) MUST_USE;

/* Refuses because of the byte at `at`; the line in which it stands is logged. -1. */
int check_refuse_content(struct message *, struct slice wire, size_t at, const char *why);

/* Refuses for a reason that MIME gives: "MIME nesting exceeds safety limit". what: the text it is about. -1. */
int check_mime_error(struct message *, const char *why, struct slice what);

#endif
