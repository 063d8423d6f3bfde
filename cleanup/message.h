/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/message.h: a message on its way through cleanup. Each step is a file; message.c has them in their order. What
 * virtual aliases, canonical addresses, header checks and milters will do to a message are steps between these. */
#ifndef CLEANUP_MESSAGE_H
#define CLEANUP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cleanup/measure.h"
#include "lib/base/arena.h"
#include "lib/base/compiler.h"
#include "lib/base/slice.h"
#include "lib/mail/messages.h"

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

    /* What becomes of the front: pieces of it and of what is added, in wire form. */
    struct iovec *pieces;
    unsigned piece_count, piece_room;

    unsigned headers; /* HAS_... */
    unsigned hops;    /* Received headers */
    struct measure measure;

    /* The answer. code 0: nothing speaks against the message so far. */
    struct msg_submitted answer;
};

/* Sets the answer; the first word counts. Returns -1. */
int message_refuse(struct message *, int code, const char *enhanced, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Adds bytes to the pieces; they must stay as long as the message. */
void message_add_piece(struct message *, const char *bytes, size_t len);

/* header.c: goes through the header section of the front: notes what is in it, drops what message_drop_headers names, cuts
 * what is too long, completes it (complete.c), and makes the pieces. -1: refused. */
int header_scan(struct message *) MUST_USE;

/* complete.c: adds headers that a message must have to the pieces. */
void header_complete(struct message *);

/* recipients.c: removes duplicates, fills in what was left to us. */
void recipients_clean(struct message *);

#endif
