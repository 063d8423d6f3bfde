/* SPDX-License-Identifier: Apache-2.0 */
/* imap/structure.h: ENVELOPE and BODYSTRUCTURE (RFC 3501 section 7.4.2) from a message's parts. */
#ifndef IMAP_STRUCTURE_H
#define IMAP_STRUCTURE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/mail/mime.h"

void structure_put_envelope(struct arena *, struct slice header, bool utf8, struct buf *out);

/* extended: BODYSTRUCTURE; else BODY. */
void structure_put_body(struct arena *, const struct mime_part *, bool extended, bool utf8, struct buf *out);

/* The part that a section names ("1.2"), NULL: there is none. No numbers: the message itself. */
const struct mime_part *structure_find(const struct mime_part *, const uint32_t *numbers, unsigned count);

#endif
