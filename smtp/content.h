/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/content.h: sends a message's content and its final dot. */
#ifndef SMTP_CONTENT_H
#define SMTP_CONTENT_H

#include <stdbool.h>

#include "lib/mail/source.h"
#include "smtp/session.h"

/* Must the message be made 7-bit for this server (downgrade.h)? Then its size is not known before. */
bool content_is_converted(const struct session *, struct source *);

/* -1: *unreadable says whether the message could not be read; else it is the stream's error. */
int may_wait content_send(struct session *, struct source *, bool *unreadable, struct err *) MUST_USE;

/* Breaks long lines. Zero-filled: at the start of a line. */
struct line_folder {
    size_t column;
};

/* Appends bytes (wire form) to out with no line longer than limit (CRLF not counted): a longer one is broken by CRLF and
 * a blank, so that in a header it is a continuation, and nothing that follows can be taken for a dot line. */
void content_fold(struct line_folder *, struct slice bytes, size_t limit, struct buf *out);

#endif
