/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/queue_record.h: the records that a queue file consists of, one after the other in the order in which a reader
 * sees them (queue_file(5)). Used by queue_file_*.c, and by tools that show a file's records. */
#ifndef LIB_MAIL_QUEUE_RECORD_H
#define LIB_MAIL_QUEUE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Types: the byte that begins a record. */
enum {
    REC_SIZE = 'C',
    REC_TIME = 'T',
    REC_ATTRIBUTE = 'A',
    REC_FILTER = 'L', /* in an envelope; in the content: text without its newline */
    REC_INSPECTOR = 'I',
    REC_FULL_NAME = 'F',
    REC_SENDER = 'S',
    REC_VERP = 'V',
    REC_WARN = 'W',
    REC_ORIGINAL = 'O',
    REC_RECIPIENT = 'R',
    REC_DONE = 'D',
    REC_CANCELLED = '/',
    REC_KILLED = 'K',
    REC_REDIRECT = '>',
    REC_POINTER = 'p',
    REC_CONTENT = 'M',
    REC_TEXT = 'N',
    REC_TEXT_PART = 'L',
    REC_PADDING = 'w',
    REC_EXTRACTED = 'X',
    REC_END = 'E',
};

enum {
    QUEUE_RECORD_LIMIT = 64 * 1024, /* longest record of an envelope */
    QUEUE_SIZE_RECORD = 97,         /* bytes of the first record with its head */
};

struct queue_record {
    uint64_t offset; /* of the type byte */
    uint64_t data;   /* of the first data byte */
    uint64_t length; /* of the data */
    unsigned char type;
};

/* Where a reader stands in a file; zero-filled but for fd, buffer and file_size. */
struct queue_cursor {
    int fd;
    uint64_t file_size;
    uint64_t next;    /* offset of the next record */
    uint64_t highest; /* target of the last pointer: one to no higher place goes back */
    unsigned back_jumps;
    unsigned char *buffer; /* of QUEUE_CURSOR_BUFFER bytes */
    uint64_t buffer_at;
    size_t buffer_len;
};
enum { QUEUE_CURSOR_BUFFER = 16 * 1024 };

/* -1 if the file's size can't be found out. The buffer lives in the arena. */
int queue_cursor_init(struct queue_cursor *, struct arena *, int fd, uint64_t start, struct err *) MUST_USE;

/* The head of the next record. ERR_SYNTAX: the file ends, or the length is malformed or goes beyond the file.
 * ERR_IO: it can't be read. */
int queue_record_next(struct queue_cursor *, struct queue_record *, struct err *) MUST_USE;

/* Some of the record's data, from `from` on: shows at least one byte of what is left, as many as are buffered. Valid until
 * the next call. from < length. */
int queue_record_data(struct queue_cursor *, const struct queue_record *, uint64_t from, struct slice *bytes,
                      struct err *) MUST_USE;

/* The data as text (up to the first NUL, as all readers of envelopes take it), appended to the arena. */
int queue_record_text(struct queue_cursor *, const struct queue_record *, struct arena *, char **text,
                      struct err *) MUST_USE;

/* Follows a pointer record. ERR_SYNTAX: no number, past the end, too many that go back. */
int queue_record_follow(struct queue_cursor *, const struct queue_record *, struct err *) MUST_USE;

/* Bytes that a record of so much data takes. */
uint64_t queue_record_size(uint64_t length);

/* Appends a record, or its head only. */
void queue_record_put(struct buf *, unsigned char type, struct slice data);
void queue_record_put_head(struct buf *, unsigned char type, uint64_t length);

#endif
