/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/message.h: a message on its way through cleanup. Each step is a file; message.c has them in their order. */
#ifndef CLEANUP_MESSAGE_H
#define CLEANUP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cleanup/measure.h"
#include "cleanup/room.h"
#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/compiler.h"
#include "lib/base/slice.h"
#include "lib/mail/addr_rewrite.h"
#include "lib/mail/messages.h"

struct mime_walk;
struct stream;

/* What the header section has. */
enum {
    HAS_MESSAGE_ID = 1 << 0,
    HAS_DATE = 1 << 1,
    HAS_FROM = 1 << 2,
    HAS_RECIPIENT = 1 << 3, /* To, Cc, Bcc */
    HAS_RESENT_MESSAGE_ID = 1 << 4,
    HAS_RESENT_DATE = 1 << 5,
    HAS_RESENT_FROM = 1 << 6,
    HAS_RESENT = 1 << 7, /* any header whose name begins so */
};

struct message {
    struct arena *arena;
    struct envelope *envelope;

    /* What came: all of it, or the front and a stream that has the rest. */
    struct slice front;
    struct stream *stream; /* NULL: front is all */
    uint32_t stream_left;
    struct room room; /* for the stream */

    /* What becomes of the front: pieces of it and of what is added, in wire form. */
    struct iovec *pieces;
    unsigned piece_count, piece_room;

    struct buf filtered;             /* what message_strip_characters left of a piece */
    bool in_wire_line, in_text_line; /* where it is: behind the beginning of a line as it came, as it becomes */

    unsigned headers; /* HAS_... */
    unsigned hops;    /* Received headers */
    bool has_utf8_header;
    struct measure measure;

    const struct rewrite_settings *header_form;  /* how addresses in headers are completed; NULL: they are left alone */
    bool checks_are_over;                        /* a check said so */
    const char *last_recipient;                  /* that was handed in, for the log; NULL: none */
    struct slice content_type, content_encoding; /* values, of the header section; "" if there are none */
    struct mime_walk *walk;                      /* NULL: the body passes as it is */

    /* The answer. code 0: nothing speaks against the message so far. */
    struct msg_submitted answer;
};

/* Sets the answer; the first word counts. Returns -1. */
int message_refuse(struct message *, int code, const char *enhanced, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Adds bytes to the pieces; they must stay as long as the message. */
void message_add_piece(struct message *, const char *bytes, size_t len);

/* header.c: goes through the header section of the front: applies header_checks, notes what is in it, drops what
 * message_drop_headers names, cuts what is too long, rewrites addresses (header_rewrite.c), completes it (complete.c), and
 * makes the pieces; the rest of the front goes through the walk of the body (body.c). -1: refused, or discarded. */
int may_wait header_scan(struct message *) MUST_USE;

/* header_rewrite.c: completes and maps the addresses in a header: *all may become another text. -1: a table failed. */
int may_wait header_rewrite(struct message *, enum addr_role, struct slice *all, struct slice value) MUST_USE;

/* complete.c: adds headers that a message must have to the pieces. */
void header_complete(struct message *);

/* recipients.c: the envelope's addresses: canonical form, tables, virtual aliases, copies; removes duplicates, fills in what
 * was left to us. -1: refused. */
int may_wait addresses_clean(struct message *) MUST_USE;

/* One more recipient, of whose fate nobody is told; if the message may have copies at all. */
int may_wait recipients_add_copy(struct message *, const char *address) MUST_USE;

/* Canonical tables and masquerading, if the message is to have them. -1: refused. */
int may_wait message_map_address(struct message *, const char *address, enum addr_role, const char **result) MUST_USE;

#endif
