/* SPDX-License-Identifier: Apache-2.0 */
/* imap/attributes.h: what is told of messages and mailboxes beside what stands in them: identifiers that stay (OBJECTID, RFC 8474), when a
 * message came into its mailbox (SAVEDATE, RFC 8514), the begin of its text (PREVIEW, RFC 8970). */
#ifndef IMAP_ATTRIBUTES_H
#define IMAP_ATTRIBUTES_H

#include <stdbool.h>
#include <time.h>

#include "lib/base/buf.h"
#include "lib/mail/mime.h"
#include "lib/store/folder.h"

enum { OBJECT_ID_SIZE = 48, PREVIEW_LENGTH = 200 };

/* Behind this letter a digest of the bytes. */
void attributes_object_id(char kind, struct slice bytes, char id[OBJECT_ID_SIZE]);
/* Stays when the mailbox gets another name; "" if the folder knows none. */
void attributes_mailbox_id(const struct folder *, char id[OBJECT_ID_SIZE]);

/* When the message was put into this mailbox, which the name of its file tells; false: it does not. */
bool attributes_save_date(struct folder *, struct folder_message *, time_t *);

/* The first PREVIEW_LENGTH characters of the text that a reader would see first, as UTF-8 on one line; none: nothing is appended. */
void attributes_preview(const struct mime_part *, struct buf *out);

#endif
