/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/key_sort.h: sorts very many entries of a table that is being made. Comparing keys costs most where they are far
 * apart in memory; so eight bytes of each key go with its number, numbers are sorted by those, and only what is the same in
 * eight bytes is looked at again. */
#ifndef LIB_TABLE_KEY_SORT_H
#define LIB_TABLE_KEY_SORT_H

#include <stddef.h>
#include <stdint.h>

struct key_sort {
    uint64_t value;
    uint32_t index;
};

/* By value; equal ones stay in their order. spare: room for as many. */
void key_sort_values(struct key_sort *items, struct key_sort *spare, size_t count);

/* By the keys of their indexes, bytes compared as unsigned, a key before those that begin with it; equal ones stay in their
 * order. key(): without NULs, with one at its end, valid while the sort lasts. Values are overwritten. */
void key_sort_texts(struct key_sort *items, struct key_sort *spare, size_t count,
                    const char *(*key)(const void *ctx, uint32_t index), const void *ctx);

#endif
