/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/pattern_sieve.h"

#include <string.h>

#include "lib/base/check.h"

enum { LANES = 16, SETS_MOST = 1024 };

/* Patterns side by side. */
struct lanes {
    uint32_t start[LANES];      /* before the first byte */
    uint32_t again[LANES];      /* comes in before each byte: of patterns that may begin anywhere */
    uint32_t repeats[LANES];    /* elements that may stand many times */
    uint32_t run[LANES];        /* places in or behind runs of elements that may be missing, */
    uint32_t run_begin[LANES];  /* the first of each run, */
    uint32_t run_end[LANES];    /* the place behind it */
    uint32_t anywhere[LANES];   /* a match when reached */
    uint32_t at_end[LANES];     /* a match if the subject ends there */
    uint32_t set[LANES][SIEVE_ELEMENTS]; /* indexes into sets */
    unsigned element_count[LANES], rule[LANES];
    uint32_t (*matching)[LANES]; /* for each class of bytes: elements that have it */
    unsigned count;
    struct lanes *next;
};

struct pattern_sieve {
    struct arena *arena;
    struct lanes *first, **end;
    struct lanes *last;
    uint64_t sets[SETS_MOST][4];
    unsigned set_count;
    unsigned char class_of[256];
    unsigned class_count;
};

struct pattern_sieve *
pattern_sieve_new(struct arena *arena)
{
    struct pattern_sieve *sieve = ARENA_NEW(arena, struct pattern_sieve);

    sieve->arena = arena;
    sieve->end = &sieve->first;
    return sieve;
}

/* Its index; SETS_MOST: there are too many. */
static unsigned
set_index(struct pattern_sieve *sieve, const uint64_t set[4])
{
    for (unsigned i = sieve->set_count; i > 0; i--)
        if (memcmp(sieve->sets[i - 1], set, sizeof sieve->sets[0]) == 0)
            return i - 1;
    if (sieve->set_count == SETS_MOST)
        return SETS_MOST;
    memcpy(sieve->sets[sieve->set_count], set, sizeof sieve->sets[0]);
    return sieve->set_count++;
}

/* From each place in a run of elements that may be missing, all places up to the one behind the run are reached. The
 * subtraction lets a borrow travel from the run's beginning to its first place that is set. */
static inline uint32_t
reach(uint32_t state, uint32_t run, uint32_t run_begin, uint32_t run_end)
{
    uint32_t ended = state | run_end;

    return state | (run & (~(ended - run_begin) ^ ended));
}

static void
add_runs(struct lanes *lanes, unsigned lane, const struct sieve_row *row)
{
    for (unsigned i = 0; i < row->count; i++) {
        if (row->element[i].repeats)
            lanes->repeats[lane] |= 1U << i;
        if (!row->element[i].optional)
            continue;
        lanes->run[lane] |= 3U << i;
        if (i == 0 || !row->element[i - 1].optional)
            lanes->run_begin[lane] |= 1U << i;
        if (i + 1 == row->count || !row->element[i + 1].optional)
            lanes->run_end[lane] |= 2U << i;
    }
}

void
pattern_sieve_add(struct pattern_sieve *sieve, const struct sieve_row *row, unsigned rule)
{
    unsigned index[SIEVE_ELEMENTS];
    struct lanes *lanes = sieve->last;

    check(row->count <= SIEVE_ELEMENTS);
    for (unsigned i = 0; i < row->count; i++) {
        index[i] = set_index(sieve, row->element[i].set);
        if (index[i] == SETS_MOST)
            return;
    }
    if (!lanes || lanes->count == LANES) {
        lanes = sieve->last = ARENA_NEW(sieve->arena, struct lanes);
        *sieve->end = lanes;
        sieve->end = &lanes->next;
    }
    unsigned lane = lanes->count++;
    memcpy(lanes->set[lane], index, sizeof index);
    lanes->element_count[lane] = row->count;
    lanes->rule[lane] = rule;
    add_runs(lanes, lane, row);
    lanes->start[lane] = reach(1, lanes->run[lane], lanes->run_begin[lane], lanes->run_end[lane]);
    lanes->again[lane] = row->from_start ? 0 : lanes->start[lane];
    *(row->to_end ? &lanes->at_end[lane] : &lanes->anywhere[lane]) = 1U << row->count;
}

static bool
set_has(const uint64_t set[4], unsigned byte)
{
    return set[byte / 64] >> (byte % 64) & 1;
}

/* Bytes that no set tells apart are a class. */
static void
make_classes(struct pattern_sieve *sieve)
{
    sieve->class_count = 1;
    for (unsigned s = 0; s < sieve->set_count; s++) {
        unsigned char inside[256] = {0}; /* of a class: its new number for bytes in the set; 0: none yet */
        bool has_outside[256] = {false};
        for (unsigned b = 0; b < 256; b++)
            if (!set_has(sieve->sets[s], b))
                has_outside[sieve->class_of[b]] = true;
        for (unsigned b = 0; b < 256; b++) {
            unsigned char *class = &sieve->class_of[b];
            if (!set_has(sieve->sets[s], b) || !has_outside[*class])
                continue;
            if (!inside[*class])
                inside[*class] = (unsigned char)sieve->class_count++;
            *class = inside[*class];
        }
    }
}

static void
fill_lanes(const struct pattern_sieve *sieve, struct lanes *lanes)
{
    unsigned char member[256] = {0}; /* a byte of each class */

    for (unsigned b = 0; b < 256; b++)
        member[sieve->class_of[b]] = (unsigned char)b;
    lanes->matching = arena_array(sieve->arena, sieve->class_count, sizeof *lanes->matching);
    for (unsigned class = 0; class < sieve->class_count; class++)
        for (unsigned lane = 0; lane < lanes->count; lane++)
            for (unsigned i = 0; i < lanes->element_count[lane]; i++)
                if (set_has(sieve->sets[lanes->set[lane][i]], member[class]))
                    lanes->matching[class][lane] |= 1U << i;
}

void
pattern_sieve_complete(struct pattern_sieve *sieve)
{
    make_classes(sieve);
    for (struct lanes *lanes = sieve->first; lanes; lanes = lanes->next)
        fill_lanes(sieve, lanes);
}

/* One byte; what was reached goes to *seen. False: no pattern here can match any more, nor begin. */
static inline bool
step(const struct lanes *restrict lanes, const uint32_t *restrict matching, uint32_t *restrict state,
     uint32_t *restrict seen)
{
    uint32_t alive = 0;

    for (unsigned i = 0; i < LANES; i++) {
        uint32_t here = state[i] & matching[i], next = (here << 1) | (here & lanes->repeats[i]);
        next = reach(next, lanes->run[i], lanes->run_begin[i], lanes->run_end[i]) | lanes->again[i];
        state[i] = next;
        seen[i] |= next;
        alive |= next;
    }
    return alive != 0;
}

static void
strike(const struct lanes *lanes, const unsigned char *classes, size_t len, bool ends_in_newline, uint64_t *bits)
{
    uint32_t state[LANES], seen[LANES];

    memcpy(state, lanes->start, sizeof state);
    memcpy(seen, state, sizeof seen);
    for (size_t i = 0; i < len && step(lanes, lanes->matching[classes[i]], state, seen); i++)
        ;
    for (unsigned i = 0; i < lanes->count; i++) {
        /* '$' may also stand before a newline at the end. */
        uint32_t ended = ends_in_newline ? seen[i] : state[i];
        if (!(seen[i] & lanes->anywhere[i]) && !(ended & lanes->at_end[i]))
            bits[lanes->rule[i] / 64] &= ~(UINT64_C(1) << (lanes->rule[i] % 64));
    }
}

void
pattern_sieve_strike(const struct pattern_sieve *sieve, struct arena *arena, struct slice subject, uint64_t *bits)
{
    unsigned char *classes = arena_alloc(arena, subject.len + 1);

    for (size_t i = 0; i < subject.len; i++)
        classes[i] = sieve->class_of[(unsigned char)subject.ptr[i]];
    bool ends_in_newline = subject.len > 0 && subject.ptr[subject.len - 1] == '\n';
    for (const struct lanes *lanes = sieve->first; lanes; lanes = lanes->next)
        strike(lanes, classes, subject.len, ends_in_newline, bits);
}
