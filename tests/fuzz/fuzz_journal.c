/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a journal segment with a good header (a fuzzer finds no checksums), as a done-list, and as an image whose
 * place somebody told us. In the first byte, bit 0: sums of image headers are put right, so that what lies behind them is
 * reached. */
#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/mail/journal.h"
#include "lib/mail/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t segment[1 << 20];

static const struct journal_segment_info info = {.segment = 1, .generation = 7, .key = {3, 4}};

static int
found(void *ctx, const struct journal_place *place, struct slice envelope)
{
    struct arena *arena = arena_new();
    struct slice rest;
    struct err err;

    (void)ctx;
    check(place->offset % IMAGE_ALIGN == 0 && place->length >= IMAGE_HEADER_SIZE + envelope.len);
    (void)!msg_decode(arena, &type_envelope, envelope, &rest, &err);
    arena_free(&arena);
    return 0;
}

static void
damaged(void *ctx, uint64_t offset)
{
    (void)ctx;
    check(offset % IMAGE_ALIGN == 0);
}

static uint64_t
get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, 8);
    return le64toh(value);
}

/* The image at the front, made one of this segment, complete if its lengths allow. */
static void
put_right(uint8_t *at, size_t size)
{
    struct image_header h = {.magic = IMAGE_MAGIC, .generation = info.generation, .offset = JOURNAL_HEADER_SIZE};
    uint64_t body;

    if (size < IMAGE_HEADER_SIZE)
        return;
    h.length = get64(at + 16);
    memcpy(&h.envelope_length, at + 24, 4);
    h.content_length = get64(at + 32);
    body = (uint64_t)h.envelope_length + h.content_length + IMAGE_END_SIZE;
    if (h.content_length < size && body <= size - IMAGE_HEADER_SIZE) {
        h.length = IMAGE_HEADER_SIZE + body;
        h.envelope_sum = siphash(&info.key, at + IMAGE_HEADER_SIZE, h.envelope_length);
        h.content_sum =
            siphash(&info.key, at + IMAGE_HEADER_SIZE + h.envelope_length, (size_t)h.content_length + IMAGE_END_SIZE);
    }
    image_header_encode(&h, &info.key, at);
}

static void
read_source(int fd, uint64_t length)
{
    struct arena *arena = arena_new();
    struct err err;
    struct slice bytes;
    char text[512];
    struct source *source = source_open_image(arena, fd, &info, JOURNAL_HEADER_SIZE, length, &err);

    if (source) {
        while (source_next_wire(source, &bytes, &err) > 0)
            continue;
        source_rewind(source);
        while (source_read_text(source, text, sizeof(text), &err) > 0)
            continue;
    }
    arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_segment_info all = info;
    struct journal_done *done;
    struct arena *arena = arena_new();
    size_t count;
    struct err err;
    int fd = memfd_create("segment", MFD_CLOEXEC);

    if (size > 1 && size < sizeof(segment)) {
        memcpy(segment, data + 1, size - 1);
        if (data[0] & 1)
            put_right(segment, size - 1);
        check(pwrite(fd, segment, size - 1, JOURNAL_HEADER_SIZE) == (ssize_t)size - 1);
        all.size = JOURNAL_HEADER_SIZE + size - 1;
        check(journal_scan(fd, &all, found, damaged, NULL, &err) == 0);
        check(journal_done_read(fd, &all, arena, &done, &count, &err) == 0);
        (void)!journal_segment_read(fd, &all, &err);
        read_source(fd, size - 1);
        if (size > 24)
            read_source(fd, get64(segment + 16));
    }
    close(fd);
    arena_free(&arena);
    return 0;
}
