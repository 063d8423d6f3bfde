/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/key_sort.h"

#include <string.h>

enum { FEW = 24, AHEAD = 8 };

static void
sort_few(struct key_sort *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct key_sort item = items[i];
        size_t at = i;
        for (; at > 0 && items[at - 1].value > item.value; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

/* Stable, by one byte of the values. */
static void
sort_by_byte(const struct key_sort *from, struct key_sort *to, size_t count, unsigned shift)
{
    uint32_t places[256] = {0}, place = 0;

    for (size_t i = 0; i < count; i++)
        places[from[i].value >> shift & 255]++;
    for (unsigned i = 0; i < 256; i++) {
        uint32_t n = places[i];
        places[i] = place;
        place += n;
    }
    for (size_t i = 0; i < count; i++)
        to[places[from[i].value >> shift & 255]++] = from[i];
}

void
key_sort_values(struct key_sort *items, struct key_sort *spare, size_t count)
{
    struct key_sort *from = items, *to = spare;
    uint64_t differ = 0;

    if (count <= FEW) {
        sort_few(items, count);
        return;
    }
    for (size_t i = 1; i < count; i++)
        differ |= items[i].value ^ items[0].value;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!(differ >> shift & 255))
            continue;
        sort_by_byte(from, to, count, shift);
        struct key_sort *swap = from;
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, count * sizeof *items);
}

/* The first byte is the most significant one; behind the NUL come zeroes. */
static uint64_t
eight_bytes(const char *text)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++) {
        value = value << 8 | (unsigned char)*text;
        text += *text != '\0';
    }
    return value;
}

struct text_sort {
    const char *(*key)(const void *ctx, uint32_t index);
    const void *ctx;
};

/* All are the same in their first depth bytes, and have as many. */
static void
sort_from(const struct text_sort *s, struct key_sort *items, struct key_sort *spare, size_t count, size_t depth)
{
    for (size_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(s->key(s->ctx, items[i + AHEAD].index) + depth);
        items[i].value = eight_bytes(s->key(s->ctx, items[i].index) + depth);
    }
    key_sort_values(items, spare, count);
    for (size_t from = 0, to; from < count; from = to) {
        uint64_t value = items[from].value;
        for (to = from + 1; to < count && items[to].value == value; to++)
            ;
        if (to - from > 1 && (value & 255) != 0)
            sort_from(s, items + from, spare, to - from, depth + 8);
    }
}

void
key_sort_texts(struct key_sort *items, struct key_sort *spare, size_t count,
               const char *(*key)(const void *ctx, uint32_t index), const void *ctx)
{
    const struct text_sort s = {key, ctx};

    sort_from(&s, items, spare, count, 0);
}
