/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/journal.h"

enum { PIECE = 128 * 1024 };

/* A window over the file: `at` bytes that were read last, and where they stand. */
struct scan {
    int fd;
    const struct journal_segment_info *info;
    unsigned char *window;
    uint64_t window_at;
    size_t window_len;
    char *envelope; /* of the image looked at */
    size_t envelope_room;
    struct err *err;
};

/* Up to n bytes (at most PIECE) at the offset; fewer only at the end of the file. NULL: can't be read. */
static const unsigned char *
look(struct scan *s, uint64_t offset, size_t n, size_t *got)
{
    if (offset < s->window_at || offset + n > s->window_at + s->window_len) {
        s->window_at = offset;
        s->window_len = 0;
        while (s->window_len < PIECE) {
            ssize_t r = pread(s->fd, s->window + s->window_len, PIECE - s->window_len, (off_t)(offset + s->window_len));

            if (r < 0 && errno == EINTR)
                continue;
            if (r < 0) {
                err_errno(s->err, "read of journal segment %08" PRIX32, s->info->segment);
                return NULL;
            }
            if (r == 0)
                break;
            s->window_len += (size_t)r;
        }
    }
    *got = s->window_len - (size_t)(offset - s->window_at);
    if (*got > n)
        *got = n;
    return s->window + (offset - s->window_at);
}

/* The siphash of a run of the file; bytes are copied to `copy` if it is not NULL. -1: can't be read. */
static int
sum_of(struct scan *s, uint64_t offset, uint64_t length, char *copy, uint64_t *sum)
{
    struct siphash_state state;

    siphash_begin(&state, &s->info->key);
    while (length > 0) {
        size_t want = length < PIECE ? (size_t)length : PIECE, got;
        const unsigned char *bytes = look(s, offset, want, &got);

        if (!bytes)
            return -1;
        if (got == 0)
            break; /* cut short: the sum won't agree */
        siphash_add(&state, bytes, got);
        if (copy) {
            memcpy(copy, bytes, got);
            copy += got;
        }
        offset += got;
        length -= got;
    }
    *sum = siphash_end(&state) + (length > 0);
    return 0;
}

static void
make_room(struct scan *s, size_t n)
{
    if (n <= s->envelope_room)
        return;
    free(s->envelope);
    s->envelope = malloc(n);
    if (!s->envelope)
        fatal("out of memory");
    s->envelope_room = n;
}

/* 1: a complete image, its envelope read; 0: not complete; -1: can't be read. */
static int
check_image(struct scan *s, const struct image_header *h)
{
    uint64_t envelope_at = h->offset + IMAGE_HEADER_SIZE, content_at = envelope_at + h->envelope_length, sum;

    make_room(s, h->envelope_length);
    if (sum_of(s, envelope_at, h->envelope_length, s->envelope, &sum) < 0)
        return -1;
    if (sum != h->envelope_sum)
        return 0;
    if (sum_of(s, content_at, h->content_length + IMAGE_END_SIZE, NULL, &sum) < 0)
        return -1;
    return sum == h->content_sum;
}

static int
scan(struct scan *s, int (*found)(void *, const struct journal_place *, struct slice),
     void (*damaged)(void *, uint64_t), void *ctx)
{
    const struct journal_segment_info *info = s->info;
    uint64_t offset = JOURNAL_HEADER_SIZE;

    while (offset + IMAGE_HEADER_SIZE <= info->size) {
        struct image_header h;
        struct err why;
        size_t got;
        const unsigned char *bytes = look(s, offset, IMAGE_HEADER_SIZE, &got);
        int complete;

        if (!bytes)
            return -1;
        if (got < IMAGE_HEADER_SIZE)
            break;
        if (image_header_decode(bytes, &info->key, info->generation, offset, info->size - offset, &h, &why) < 0) {
            offset += IMAGE_ALIGN; /* no image begins here; one behind a torn write may begin later */
            continue;
        }
        complete = check_image(s, &h);
        if (complete < 0)
            return -1;
        if (complete) {
            struct journal_place place = {info->segment, info->generation, offset, h.length};

            if (found(ctx, &place, slice_make(s->envelope, h.envelope_length)) < 0)
                return err_set(s->err, ERR_CANCELLED, "scan ended by its caller");
            offset += (h.length + IMAGE_ALIGN - 1) / IMAGE_ALIGN * IMAGE_ALIGN;
        } else {
            if (damaged)
                damaged(ctx, offset);
            offset += IMAGE_ALIGN;
        }
    }
    return 0;
}

int
journal_scan(int fd, const struct journal_segment_info *info,
             int (*found)(void *ctx, const struct journal_place *, struct slice envelope),
             void (*damaged)(void *ctx, uint64_t offset), void *ctx, struct err *err)
{
    struct scan s = {.fd = fd, .info = info, .err = err};
    int result;

    s.window = malloc(PIECE);
    if (!s.window)
        fatal("out of memory");
    result = scan(&s, found, damaged, ctx);
    free(s.window);
    free(s.envelope);
    return result;
}
