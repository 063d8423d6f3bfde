/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/letter.h: a message on its way into a mailbox, and its conversion from wire form (CRLF, dot-stuffed) to
 * what stands in files (LF), a piece at a time: memory does not grow with the message. Every byte that is no line end
 * stays: NUL, 8-bit, a CR of its own, lines of any length. */
#ifndef LIB_STORE_LETTER_H
#define LIB_STORE_LETTER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/mail/wire.h"
#include "lib/store/fault.h"

struct letter {
    const char *sender; /* external form; "" for the null sender: MAILER-DAEMON in a From_ line */
    time_t arrival;     /* for the From_ line: now */
    struct slice head;  /* lines that go before the content: Return-Path, X-Original-To, Delivered-To; LF ends */
    int64_t size_hint;  /* bytes of content, 0: unknown */

    /* The content in wire form without the final dot line. An empty piece ends it; a piece stays valid until the next
     * call. -1: it broke off: nothing of the letter must stay. */
    int (*next)(void *ctx, struct slice *wire, struct err *);
    void *ctx;
};

enum {
    LETTER_FROM_LINE = 1,  /* "From sender Tue Nov 24 05:20:11 2026" before all */
    LETTER_QUOTE_FROM = 2, /* '>' before lines that begin with "From " */
    LETTER_BLANK_END = 4,  /* an empty line after all */
    LETTER_MBOX = LETTER_FROM_LINE | LETTER_QUOTE_FROM | LETTER_BLANK_END,
};

/* Reads a letter as file bytes. Zero-fill, then letter_begin(). */
struct letter_reader {
    struct letter *letter;
    unsigned flags;
    bool begun, ended;
    struct wire_state state; /* at the end of what was decoded so far */
    bool after_dot;
    struct slice wire;          /* not decoded yet */
    struct buf start;           /* the beginning of a line that may turn out to be "From " */
    uint64_t bytes, wire_bytes; /* given so far, and as they would be with CRLF: Dovecot's S= and W= */
};
void letter_begin(struct letter_reader *, struct letter *, unsigned flags);
void letter_end(struct letter_reader *);

/* Appends about `want` bytes to out; *done at the end of the letter. */
int letter_read(struct letter_reader *, size_t want, struct buf *out, bool *done, struct store_fault *) MUST_USE;

/* "From sender date\n" */
void letter_from_line(const struct letter *, struct buf *out);

#endif
