/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/pattern_filter.h"

#include <string.h>

#include "lib/base/text.h"

enum { HASH_BITS = 16, HASH_SIZE = 1 << HASH_BITS };

struct text {
    struct slice text;
    unsigned rule, place; /* of the run that stands for it */
    struct text *next;    /* in the list of all */
    struct text *chain;   /* with the same hash */
};

struct pattern_filter {
    struct arena *arena;
    struct text *texts, **chains;
    uint64_t present[HASH_SIZE / 64]; /* small enough for the nearest cache */
    unsigned char lower[256];
};

struct pattern_filter *
pattern_filter_new(struct arena *arena)
{
    struct pattern_filter *filter = ARENA_NEW(arena, struct pattern_filter);

    filter->arena = arena;
    for (unsigned i = 0; i < 256; i++)
        filter->lower[i] = (unsigned char)text_lower((char)i);
    return filter;
}

void
pattern_filter_add(struct pattern_filter *filter, struct slice text, unsigned rule)
{
    struct text *entry = ARENA_NEW(filter->arena, struct text);

    entry->text = text;
    entry->rule = rule;
    entry->next = filter->texts;
    filter->texts = entry;
}

static unsigned
hash_of(uint32_t three_bytes)
{
    return (three_bytes * 2654435761U) >> (32 - HASH_BITS);
}

static unsigned
hash_at(const char *p)
{
    return hash_of((uint32_t)(unsigned char)p[0] << 16 | (uint32_t)(unsigned char)p[1] << 8 | (unsigned char)p[2]);
}

void
pattern_filter_complete(struct pattern_filter *filter)
{
    unsigned *counts = arena_array(filter->arena, HASH_SIZE, sizeof *counts);

    filter->chains = arena_array(filter->arena, HASH_SIZE, sizeof *filter->chains);
    for (struct text *t = filter->texts; t; t = t->next)
        for (size_t i = 0; i + 3 <= t->text.len; i++)
            counts[hash_at(t->text.ptr + i)]++;
    for (struct text *t = filter->texts; t; t = t->next) {
        for (unsigned i = 1; i + 3 <= t->text.len; i++)
            if (counts[hash_at(t->text.ptr + i)] < counts[hash_at(t->text.ptr + t->place)])
                t->place = i;
        unsigned hash = hash_at(t->text.ptr + t->place);
        t->chain = filter->chains[hash];
        filter->chains[hash] = t;
        filter->present[hash / 64] |= UINT64_C(1) << (hash % 64);
    }
}

static bool
is_there(const struct pattern_filter *filter, const struct text *t, struct slice subject, size_t at)
{
    if (at < t->place || subject.len - (at - t->place) < t->text.len)
        return false;
    const char *p = subject.ptr + at - t->place;
    for (size_t i = 0; i < t->text.len; i++)
        if ((char)filter->lower[(unsigned char)p[i]] != t->text.ptr[i])
            return false;
    return true;
}

void
pattern_filter_mark(const struct pattern_filter *filter, struct slice subject, uint64_t *bits)
{
    const unsigned char *lower = filter->lower, *p = (const unsigned char *)subject.ptr;

    if (!filter->texts || subject.len < 3)
        return;
    uint32_t run = (uint32_t)lower[p[0]] << 8 | lower[p[1]];
    for (size_t i = 2; i < subject.len; i++) {
        run = (run << 8 | lower[p[i]]) & 0xffffff;
        unsigned hash = hash_of(run);
        if (!(filter->present[hash / 64] >> (hash % 64) & 1))
            continue;
        for (const struct text *t = filter->chains[hash]; t; t = t->chain)
            if (!(bits[t->rule / 64] >> (t->rule % 64) & 1) && is_there(filter, t, subject, i - 2))
                bits[t->rule / 64] |= UINT64_C(1) << (t->rule % 64);
    }
}
