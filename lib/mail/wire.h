/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/wire.h: between text form (LF) and wire form (CRLF, dot-stuffed; RFC 5321 section 4.5.2). */
#ifndef LIB_MAIL_WIRE_H
#define LIB_MAIL_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/slice.h"

/* Zero-filled at the start of a content; keeps what was seen over calls. */
struct wire_state {
    bool in_line;  /* not at the start of a line */
    bool after_cr; /* the last byte was CR */
};

/* Text to wire: LF becomes CRLF, a line that starts with '.' gets another. A bare CR becomes a space. */
void wire_encode(struct wire_state *, struct slice text, struct buf *out);
/* Ends an unfinished last line. The final dot line is not added. */
void wire_encode_end(struct wire_state *, struct buf *out);

/* Wire to text. */
void wire_decode(struct wire_state *, struct slice wire, struct buf *out);

/* The same, until out has about `full` bytes; what is left stays in *wire. start(ctx, byte, out) gets the bytes at the beginning of each
 * line, the dot that was stuffed too: true: it has taken the byte; state->in_line, which it sets, tells whether the line begins
 * still. */
void wire_decode_some(struct wire_state *, struct slice *wire, size_t full,
                      bool (*start)(void *ctx, char byte, struct buf *out), void *ctx, struct buf *out);

#endif
