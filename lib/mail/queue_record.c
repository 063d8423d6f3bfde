/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/queue_record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 5,
    BACK_JUMPS = 10000,
    POINTER_TEXT = 32, /* longest pointer that is looked at */
};

int
queue_cursor_init(struct queue_cursor *c, struct arena *arena, int fd, uint64_t start, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(err, "queue file");
    *c = (struct queue_cursor){.fd = fd, .file_size = (uint64_t)st.st_size, .next = start};
    c->buffer = arena_alloc(arena, QUEUE_CURSOR_BUFFER);
    return 0;
}

/* What is buffered from the offset on; reads if that is nothing. Empty at the end of the file. */
static int
look(struct queue_cursor *c, uint64_t offset, struct slice *bytes, struct err *err)
{
    if (offset < c->buffer_at || offset >= c->buffer_at + c->buffer_len) {
        ssize_t n;

        do
            n = pread(c->fd, c->buffer, QUEUE_CURSOR_BUFFER, (off_t)offset);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return err_errno(err, "read of a queue file");
        c->buffer_at = offset;
        c->buffer_len = (size_t)n;
    }
    size_t skip = (size_t)(offset - c->buffer_at);
    *bytes = slice_make(c->buffer + skip, c->buffer_len - skip);
    return 0;
}

static int
byte_at(struct queue_cursor *c, uint64_t offset, unsigned char *byte, struct err *err)
{
    struct slice bytes;

    if (look(c, offset, &bytes, err) < 0)
        return -1;
    if (bytes.len == 0)
        return err_set(err, ERR_SYNTAX, "queue file ends at %" PRIu64 ", within its records", offset);
    *byte = (unsigned char)bytes.ptr[0];
    return 0;
}

int
queue_record_next(struct queue_cursor *c, struct queue_record *r, struct err *err)
{
    unsigned char byte = 0;

    *r = (struct queue_record){.offset = c->next, .data = c->next + 1};
    if (byte_at(c, r->offset, &r->type, err) < 0)
        return -1;
    for (unsigned i = 0;; i++) {
        if (i == LENGTH_BYTES)
            return err_set(err, ERR_SYNTAX, "queue file: length of a record at %" PRIu64, r->offset);
        if (byte_at(c, r->data++, &byte, err) < 0)
            return -1;
        r->length |= (uint64_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80)
            break;
    }
    if (r->data > c->file_size || r->length > c->file_size - r->data)
        return err_set(err, ERR_SYNTAX, "queue file: the record at %" PRIu64 " goes beyond the end", r->offset);
    c->next = r->data + r->length;
    return 0;
}

int
queue_record_data(struct queue_cursor *c, const struct queue_record *r, uint64_t from, struct slice *bytes,
                  struct err *err)
{
    if (look(c, r->data + from, bytes, err) < 0)
        return -1;
    if (bytes->len == 0)
        return err_set(err, ERR_SYNTAX, "queue file became shorter");
    if (bytes->len > r->length - from)
        bytes->len = (size_t)(r->length - from);
    return 0;
}

static int
copy_data(struct queue_cursor *c, const struct queue_record *r, char *to, struct err *err)
{
    for (uint64_t from = 0; from < r->length;) {
        struct slice bytes;

        if (queue_record_data(c, r, from, &bytes, err) < 0)
            return -1;
        memcpy(to + from, bytes.ptr, bytes.len);
        from += bytes.len;
    }
    return 0;
}

int
queue_record_text(struct queue_cursor *c, const struct queue_record *r, struct arena *arena, char **text,
                  struct err *err)
{
    if (r->length > QUEUE_RECORD_LIMIT)
        return err_set(err, ERR_SYNTAX, "queue file: %" PRIu64 " bytes in an envelope's record at %" PRIu64, r->length,
                       r->offset);
    *text = arena_alloc(arena, (size_t)r->length + 1);
    return copy_data(c, r, *text, err);
}

int
queue_record_follow(struct queue_cursor *c, const struct queue_record *r, struct err *err)
{
    unsigned long long target;
    char text[POINTER_TEXT];

    if (r->length > sizeof(text))
        return err_set(err, ERR_SYNTAX, "queue file: pointer at %" PRIu64, r->offset);
    if (copy_data(c, r, text, err) < 0)
        return -1;
    if (slice_to_u64(slice_trim(slice_make(text, (size_t)r->length)), INT64_MAX, &target) < 0 || target > c->file_size)
        return err_set(err, ERR_SYNTAX, "queue file: pointer at %" PRIu64 " to nowhere", r->offset);
    if (target == 0)
        return 0;
    if (target <= c->highest && ++c->back_jumps > BACK_JUMPS)
        return err_set(err, ERR_SYNTAX, "queue file: pointers go round");
    c->next = c->highest = target;
    return 0;
}

uint64_t
queue_record_size(uint64_t length)
{
    uint64_t size = 2 + length;

    for (uint64_t rest = length >> 7; rest > 0; rest >>= 7)
        size++;
    return size;
}

void
queue_record_put_head(struct buf *out, unsigned char type, uint64_t length)
{
    buf_append_byte(out, (char)type);
    do {
        unsigned char low = length & 0x7f;

        length >>= 7;
        buf_append_byte(out, (char)(length ? low | 0x80 : low));
    } while (length);
}

void
queue_record_put(struct buf *out, unsigned char type, struct slice data)
{
    queue_record_put_head(out, type, data.len);
    buf_append_slice(out, data);
}
