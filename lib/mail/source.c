/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/source.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/wire.h"

enum {
    WHOLE_LIMIT = 128 * 1024, /* an image up to this size is read with one call */
    PIECE = 64 * 1024,
};

struct source {
    struct arena *arena;
    struct envelope *envelope;
    int fd;

    /* An image: its content with the final dot line, all of it in memory or read in pieces. */
    uint64_t content_at, content_size, content_sum;
    struct siphash_key key;
    struct siphash_state sum; /* of the pieces so far */
    const char *whole; /* NULL: in pieces */
    uint64_t position; /* in the content */

    /* A queue file. */
    struct queue_file_reader *reader;

    char *piece; /* PIECE bytes, made when needed */
    struct wire_state wire;
    struct buf converted; /* wire form of a file's text, or text of an image's wire form */
    size_t given;         /* of converted */
    bool ended;
};

static void
release(void *arg)
{
    struct source *s = arg;

    buf_release(&s->converted);
}

static struct source *
source_new(struct arena *arena, int fd)
{
    struct source *s = ARENA_NEW(arena, struct source);

    s->arena = arena;
    s->fd = fd;
    arena_defer(arena, release, s);
    return s;
}

/* Reads exactly n bytes. */
static int
read_at(int fd, uint64_t offset, void *bytes, size_t n, struct err *err)
{
    char *at = bytes;

    while (n > 0) {
        ssize_t got = pread(fd, at, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "read of an image");
        if (got == 0)
            return err_set(err, ERR_SYNTAX, "image cut short");
        at += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* ---- images ---- */

static int
check_sum(uint64_t sum, uint64_t wanted, const char *of_what, struct err *err)
{
    return sum == wanted ? 0 : err_set(err, ERR_SYNTAX, "%s of an image is damaged, or another's", of_what);
}

static struct envelope *
told_envelope(struct arena *arena, const struct source_hint *hint, struct err *err)
{
    struct slice rest;

    return msg_decode(arena, &type_envelope, hint->envelope, &rest, err);
}

/* The envelope of an image that is not read whole. */
static int
read_envelope(struct source *s, const struct image_header *h, uint64_t at, const struct source_hint *hint,
              struct err *err)
{
    struct slice rest;
    char *bytes;

    if (hint && hint->envelope.len > 0) {
        s->envelope = told_envelope(s->arena, hint, err);
        return s->envelope ? 0 : -1;
    }
    bytes = arena_alloc(s->arena, h->envelope_length);
    if (read_at(s->fd, at, bytes, h->envelope_length, err) < 0 ||
        check_sum(siphash(&s->key, bytes, h->envelope_length), h->envelope_sum, "envelope", err) < 0)
        return -1;
    s->envelope = msg_decode(s->arena, &type_envelope, slice_make(bytes, h->envelope_length), &rest, err);
    return s->envelope ? 0 : -1;
}

static int
take_whole(struct source *s, const struct image_header *h, const char *envelope, struct err *err)
{
    struct slice rest;

    s->whole = envelope + h->envelope_length;
    if (check_sum(siphash(&s->key, envelope, h->envelope_length), h->envelope_sum, "envelope", err) < 0 ||
        check_sum(siphash(&s->key, s->whole, (size_t)s->content_size), s->content_sum, "content", err) < 0)
        return -1;
    s->envelope = msg_decode(s->arena, &type_envelope, slice_make(envelope, h->envelope_length), &rest, err);
    return s->envelope ? 0 : -1;
}

static int
open_image(struct source *s, const struct journal_segment_info *segment, uint64_t offset, uint64_t length,
           const struct source_hint *hint, struct err *err)
{
    size_t front = length <= WHOLE_LIMIT ? (size_t)length : IMAGE_HEADER_SIZE;
    char *bytes = arena_alloc(s->arena, front);
    struct image_header h;

    if (length < IMAGE_HEADER_SIZE)
        return err_set(err, ERR_SYNTAX, "image of %" PRIu64 " bytes", length);
    if (read_at(s->fd, offset, bytes, front, err) < 0)
        return -1;
    if (image_header_decode((unsigned char *)bytes, &segment->key, segment->generation, offset, length, &h, err) < 0)
        return -1;
    if (h.length != length)
        return err_set(err, ERR_SYNTAX, "image of another length");
    s->content_at = offset + IMAGE_HEADER_SIZE + h.envelope_length;
    s->content_size = h.content_length + IMAGE_END_SIZE;
    s->content_sum = h.content_sum;
    s->key = segment->key;
    siphash_begin(&s->sum, &s->key);
    if (front == length)
        return take_whole(s, &h, bytes + IMAGE_HEADER_SIZE, err);
    return read_envelope(s, &h, offset + IMAGE_HEADER_SIZE, hint, err);
}

struct source *
source_open_image_told(struct arena *arena, int segment_fd, const struct journal_segment_info *segment, uint64_t offset,
                       uint64_t length, const struct source_hint *hint, struct err *err)
{
    struct source *s = source_new(arena, segment_fd);

    return open_image(s, segment, offset, length, hint, err) < 0 ? NULL : s;
}

struct source *
source_open_image(struct arena *arena, int segment_fd, const struct journal_segment_info *segment, uint64_t offset,
                  uint64_t length, struct err *err)
{
    return source_open_image_told(arena, segment_fd, segment, offset, length, NULL, err);
}

/* The next piece of an image that is not in memory. The end of data never comes alone. */
static int
read_piece(struct source *s, struct slice *bytes, struct err *err)
{
    uint64_t left = s->content_size - s->position;
    size_t n = left < PIECE ? (size_t)left : left < PIECE + IMAGE_END_SIZE ? PIECE / 2 : PIECE;
    struct siphash_state sum;

    if (!s->piece)
        s->piece = arena_alloc(s->arena, PIECE);
    if (read_at(s->fd, s->content_at + s->position, s->piece, n, err) < 0)
        return -1;
    siphash_add(&s->sum, s->piece, n);
    sum = s->sum;
    if (n == left && check_sum(siphash_end(&sum), s->content_sum, "content", err) < 0)
        return -1;
    *bytes = slice_make(s->piece, n);
    return 0;
}

/* The next bytes of an image's content, the final dot line included. */
static int
next_of_image(struct source *s, struct slice *bytes, struct err *err)
{
    uint64_t left = s->content_size - s->position;

    if (left == 0)
        return 0;
    if (s->whole) {
        *bytes = slice_make(s->whole + s->position, (size_t)left);
    } else if (read_piece(s, bytes, err) < 0) {
        return -1;
    }
    s->position += bytes->len;
    return 1;
}

/* ---- queue files ---- */

struct source *
source_open_file_told(struct arena *arena, int fd, const struct source_hint *hint, struct err *err)
{
    struct source *s = source_new(arena, fd);
    uint64_t content_offset;

    if (hint && hint->envelope.len > 0 && hint->content_offset > 0) {
        content_offset = hint->content_offset;
        s->envelope = told_envelope(arena, hint, err);
        if (!s->envelope)
            return NULL;
    } else {
        s->envelope = ARENA_NEW(arena, struct envelope);
        if (queue_file_read(fd, arena, s->envelope, &content_offset, err) < 0)
            return NULL;
    }
    s->reader = queue_file_reader_new(arena, fd, content_offset, err);
    return s->reader ? s : NULL;
}

struct source *
source_open_file(struct arena *arena, int fd, struct err *err)
{
    return source_open_file_told(arena, fd, NULL, err);
}

static int
next_of_file(struct source *s, struct slice *bytes, struct err *err)
{
    ssize_t n;

    if (s->ended)
        return 0;
    if (!s->piece)
        s->piece = arena_alloc(s->arena, PIECE);
    n = queue_file_reader_read(s->reader, s->piece, PIECE, err);
    if (n < 0)
        return -1;
    buf_clear(&s->converted);
    if (n > 0) {
        wire_encode(&s->wire, slice_make(s->piece, (size_t)n), &s->converted);
    } else {
        wire_encode_end(&s->wire, &s->converted);
        buf_append(&s->converted, ".\r\n", IMAGE_END_SIZE);
        s->ended = true;
    }
    *bytes = buf_slice(&s->converted);
    return 1;
}

/* ---- both ---- */

const struct envelope *
source_envelope(struct source *s)
{
    return s->envelope;
}

int
source_next_wire(struct source *s, struct slice *bytes, struct err *err)
{
    return s->reader ? next_of_file(s, bytes, err) : next_of_image(s, bytes, err);
}

/* Refills converted with text of an image; nothing more: the end. */
static int
convert_image(struct source *s, struct err *err)
{
    while (s->given == s->converted.len && s->position < s->content_size - IMAGE_END_SIZE) {
        uint64_t text_left = s->content_size - IMAGE_END_SIZE - s->position;
        struct slice bytes;

        if (next_of_image(s, &bytes, err) < 0)
            return -1;
        if (bytes.len > text_left)
            bytes.len = (size_t)text_left;
        buf_clear(&s->converted);
        s->given = 0;
        wire_decode(&s->wire, bytes, &s->converted);
    }
    return 0;
}

ssize_t
source_read_text(struct source *s, void *bytes, size_t size, struct err *err)
{
    size_t n;

    if (s->reader)
        return queue_file_reader_read(s->reader, bytes, size, err);
    if (convert_image(s, err) < 0)
        return -1;
    n = s->converted.len - s->given;
    if (n > size)
        n = size;
    if (n > 0)
        memcpy(bytes, s->converted.ptr + s->given, n);
    s->given += n;
    return (ssize_t)n;
}

ssize_t
source_read_content(void *ctx, void *bytes, size_t size, struct err *err)
{
    return source_read_text(ctx, bytes, size, err);
}

void
source_rewind(struct source *s)
{
    s->position = 0;
    if (!s->reader)
        siphash_begin(&s->sum, &s->key);
    s->wire = (struct wire_state){0};
    buf_clear(&s->converted);
    s->given = 0;
    s->ended = false;
    if (s->reader)
        queue_file_reader_rewind(s->reader);
}

struct slice
source_whole_wire(struct source *s, size_t max)
{
    if (!s->whole || s->content_size > max)
        return slice_make(NULL, 0);
    return slice_make(s->whole, (size_t)s->content_size);
}
