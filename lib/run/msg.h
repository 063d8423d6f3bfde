/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/msg.h: messages between our processes: struct <-> bytes, from a table of fields.
 *
 * On the wire a message is its fields as name NUL value NUL, in the order of the table, ended by an empty name (one
 * NUL). Absent is the same as empty: a field with its empty value ("" or 0) is not sent. A message type may end in one
 * list: a group of fields that repeats; the first field of the group is always sent and starts an item.
 * The same form keeps an envelope in a journal image.
 *
 * A message type is described once, in a .def file (lib/mail/messages.def), as a C struct and a table that point at
 * each other; encoder and decoder are the same for all. Decoding never trusts: unknown names, names out of the table's
 * order, a wrong number, a string over the field's limit, too many items: ERR_SYNTAX, and the caller ends the link. */
#ifndef LIB_RUN_MSG_H
#define LIB_RUN_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum msg_field_kind {
    MSG_TEXT, /* const char *, NUL-ended, never NULL after decoding */
    MSG_INT,  /* int64_t, decimal on the wire */
};

struct msg_field {
    const char *name;
    enum msg_field_kind kind;
    size_t offset; /* in the message's struct, or in the item's */
    int64_t min;   /* MSG_INT: range. MSG_TEXT: min is unused, max the longest length in bytes */
    int64_t max;
};

struct msg_type {
    const char *name; /* "deliver", for logs and dumps */
    uint16_t code;    /* on the wire; unique; from 16 on (0..15 are the link's own) */
    uint32_t senders; /* bit mask of roles that may send it: who is who is in messages.def */
    size_t size;      /* of the struct */
    const struct msg_field *fields;
    unsigned field_count;
    /* The list at the end; item_size 0: none. The struct holds a pointer to the items and a size_t count. */
    size_t item_size;
    size_t items_offset, count_offset;
    const struct msg_field *item_fields;
    unsigned item_field_count;
    size_t item_max;
};

/* A text longer than its row allows is cut there, so that what a peer made too long costs a text's end, not the link. */
void msg_encode(const struct msg_type *, const void *message, struct buf *out);

/* Decodes from the front of bytes; *rest gets what follows (the payload). The result lives in the arena, but its texts
 * point into bytes, which must stay as long (they are NUL-ended there). NULL on error. */
void *msg_decode(struct arena *, const struct msg_type *, struct slice bytes, struct slice *rest,
                 struct err *) MUST_USE;

/* One line of text with all fields, for panics and verbose logs. */
void msg_dump(const struct msg_type *, const void *message, struct buf *out);

#endif
