/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/downgrade.h: 8-bit content for a server without 8BITMIME (RFC 6152 section 3). Each part whose
 * Content-Transfer-Encoding is 8bit or binary becomes quoted-printable; multiparts and attached messages, which hold others and
 * must not be encoded themselves, become 7bit. A part that does not own up to its 8-bit bytes stays as it is, as with Postfix: nobody
 * knows what they mean. */
#ifndef SMTP_DOWNGRADE_H
#define SMTP_DOWNGRADE_H

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/settings_smtp.h"
#include "lib/mail/mime_walk.h"

struct downgrade;

/* Lives in the arena; released with it. Memory: a line, a header and 64 KiB, however large the content. sink: where it goes. */
struct downgrade *downgrade_new(struct arena *, const struct smtp_settings *, const struct mime_sink *);

/* Takes the whole message's wire form in pieces cut anywhere. -1: emit() failed. */
int may_wait downgrade_add(struct downgrade *, struct slice wire) MUST_USE;

/* The end of the content, its final dot included. */
int may_wait downgrade_end(struct downgrade *) MUST_USE;

#endif
