/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/journal.h"

enum {
    RECIPIENT_BITS = 20,
    RECIPIENT_MASK = (1 << RECIPIENT_BITS) - 1,
    AT_ONCE = 256, /* records in one piece of the stack */
};

struct record {
    uint64_t what; /* little-endian */
    uint64_t sum;
};
_Static_assert(sizeof(struct record) == JOURNAL_DONE_SIZE, "no padding");

static struct record
encode(const struct journal_segment_info *info, const struct journal_done *done)
{
    uint32_t recipient = done->recipient == JOURNAL_DONE_ALL ? 0 : done->recipient + 1;
    struct record r;

    check(recipient <= RECIPIENT_MASK);
    r.what = htole64(done->offset << RECIPIENT_BITS | recipient);
    r.sum = htole64(siphash(&info->key, &r.what, sizeof(r.what)));
    return r;
}

static int
write_all(int fd, const void *bytes, size_t len, struct err *err)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(err, "write to a done-list");
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int
journal_done_append(int done_fd, const struct journal_segment_info *info, const struct journal_done *done, size_t count,
                    struct err *err)
{
    struct record few[AT_ONCE / 4], *records = few;
    int result;

    if (count > ARRAY_LEN(few)) {
        records = reallocarray(NULL, count, sizeof(*records));
        if (!records)
            fatal("out of memory");
    }
    for (size_t i = 0; i < count; i++)
        records[i] = encode(info, &done[i]);
    result = write_all(done_fd, records, count * sizeof(*records), err);
    if (records != few)
        free(records);
    return result;
}

struct done_list {
    struct arena *arena;
    struct journal_done *items;
    size_t count, room;
};

static void
add(struct done_list *list, struct journal_done done)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        struct journal_done *items = arena_array(list->arena, room, sizeof(*items));

        if (list->count)
            memcpy(items, list->items, list->count * sizeof(*items));
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = done;
}

/* A write that was cut short leaves part of a record; what was appended later stands off the grid of 16 bytes. So each
 * byte may begin a record, and the keyed sum tells. Returns how many bytes were looked at for good. */
static size_t
parse(struct done_list *list, const struct siphash_key *key, const unsigned char *bytes, size_t len)
{
    size_t at = 0;

    while (at + JOURNAL_DONE_SIZE <= len) {
        struct record r;

        memcpy(&r, bytes + at, sizeof(r));
        if (le64toh(r.sum) == siphash(key, &r.what, sizeof(r.what))) {
            uint64_t what = le64toh(r.what);
            uint32_t recipient = (uint32_t)(what & RECIPIENT_MASK);

            add(list, (struct journal_done){what >> RECIPIENT_BITS, recipient ? recipient - 1 : JOURNAL_DONE_ALL});
            at += JOURNAL_DONE_SIZE;
        } else {
            at++;
        }
    }
    return at;
}

int
journal_done_read(int done_fd, const struct journal_segment_info *info, struct arena *arena, struct journal_done **done,
                  size_t *count, struct err *err)
{
    struct done_list list = {.arena = arena};
    unsigned char bytes[JOURNAL_DONE_SIZE * AT_ONCE / 2];
    size_t held = 0;
    uint64_t offset = 0;

    for (;;) {
        ssize_t n = pread(done_fd, bytes + held, sizeof(bytes) - held, (off_t)offset);
        size_t used;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "read of a done-list");
        if (n == 0)
            break;
        offset += (uint64_t)n;
        held += (size_t)n;
        used = parse(&list, &info->key, bytes, held);
        memmove(bytes, bytes + used, held - used);
        held -= used;
    }
    *done = list.items;
    *count = list.count;
    return 0;
}
