/* SPDX-License-Identifier: Apache-2.0 */
/* imap/search_text.h: the text of a message as searches see it: folded, in pieces. A scan and the full-text index get the same pieces
 * from here, so the one finds what the other does. */
#ifndef IMAP_SEARCH_TEXT_H
#define IMAP_SEARCH_TEXT_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/mail/mime.h"

/* Text for comparing without regard to case: UTF-8 in, folded UTF-8 appended. */
void search_fold(struct slice, struct buf *out);

/* A header field's value: unfolded, its encoded words decoded, folded; in the arena. */
struct slice search_text_value(struct arena *, struct slice value);

/* Calls take for each field of the message's header (if with_top; is_top), then of its parts and of messages within ("name: value"), and for
 * each part that is text: decoded, as UTF-8; all folded. true from take: that is enough. A piece is good until take returns. */
typedef bool search_text_take(void *ctx, bool is_top, struct slice piece);
void search_text_walk(struct arena *, struct slice content, bool with_top, search_text_take *, void *ctx);

/* Says how all this is done: texts of another form may differ from those made now. */
const char *search_text_form(struct arena *);

#endif
