/* SPDX-License-Identifier: Apache-2.0 */
/* imap/cache.h: what FETCH, SORT and THREAD want of a message's header and structure, from the folder's index; where the index
 * does not know it, the message is read once, and the index remembers. */
#ifndef IMAP_CACHE_H
#define IMAP_CACHE_H

#include "imap/attributes.h"
#include "imap/session.h"
#include "lib/mail/mime.h"

/* 1: *cached is filled, its texts in the arena. 0: the message is gone. -1: it can't be read. */
int cache_get(struct folder *, uint32_t uid, struct arena *, struct index_cached *cached, struct err *) MUST_USE;

/* Identifiers (RFC 8474); results as of cache_get(). EMAILID is made of the content: two messages with the same bytes have the same, wherever
 * they lie. THREADID is made of the first message that References name, or In-Reply-To, or of the message's own Message-ID: so it stays,
 * whatever else comes or goes, in all mailboxes. A message without any of these is a thread of its own. */
int cache_get_email_id(struct folder *, uint32_t uid, struct arena *, char id[OBJECT_ID_SIZE], struct err *) MUST_USE;
int cache_get_thread_id(struct folder *, uint32_t uid, struct arena *, char id[OBJECT_ID_SIZE], struct err *) MUST_USE;

/* Header fields that clients ask for in lists of messages and look for in searches are kept as they stand. */
bool cache_keeps_field(struct slice name);
/* Those fields of a message, in the arena, with an empty line behind; false: not known, give cache_fill_header() the header when it was
 * read. */
bool cache_get_header(struct folder *, uint32_t uid, struct arena *, struct slice *header);
void cache_fill_header(struct folder *, uint32_t uid, struct slice header, struct arena *);

/* Of a message that was read, whole (mime_parse()); remembers it. */
void cache_fill(struct folder *, uint32_t uid, const struct mime_part *, struct arena *, struct index_cached *cached);

#endif
