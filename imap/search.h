/* SPDX-License-Identifier: Apache-2.0 */
/* imap/search.h: search keys (RFC 3501 section 6.4.4, RFC 9051, WITHIN of RFC 5032): a tree made from the command, and the
 * question whether a message matches it. */
#ifndef IMAP_SEARCH_H
#define IMAP_SEARCH_H

#include "imap/session.h"

enum { SEARCH_KEYS = 2000, SEARCH_DEPTH = 50 };

struct search;

/* Takes the keys (after the charset) up to the end of the line. charset: of the strings; "" is UTF-8. NULL: in.err. */
struct search *may_wait search_parse(struct session *, struct slice charset);

/* The UIDs that match, ascending, in the command's arena. Gives other tasks a turn now and then. -1: *err. */
int may_wait search_run(struct session *, struct search *, uint32_t **uids, size_t *count, struct err *) MUST_USE;

#endif
