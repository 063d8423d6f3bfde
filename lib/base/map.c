/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/siphash.h"

/* Open addressing with linear probing. A removed entry leaves its slot marked, so that those behind it are still found
 * and none moves while somebody visits all; the marks go when the table is made anew. */
struct entry {
    void *value;
    size_t len;
    char key[];
};

struct slot {
    uint64_t hash;
    struct entry *entry; /* NULL: never used */
};

struct map {
    struct siphash_key key;
    size_t size;  /* slots, a power of two; 0 before the first entry */
    size_t count; /* entries */
    size_t used;  /* entries and marks */
    struct slot *slots;
};

enum { SMALLEST = 16 };

static struct entry removed; /* the mark; only its address counts */

static void *
must_alloc(size_t size)
{
    void *p = calloc(1, size);
    if (!p)
        fatal("out of memory: %zu bytes", size);
    return p;
}

struct map *
map_new(void)
{
    struct map *map = must_alloc(sizeof(*map));
    map->key = siphash_random_key();
    return map;
}

void
map_free(struct map **map, void (*release)(void *value))
{
    if (!*map)
        return;
    for (size_t i = 0; i < (*map)->size; i++) {
        struct entry *entry = (*map)->slots[i].entry;
        if (!entry || entry == &removed)
            continue;
        if (release)
            release(entry->value);
        free(entry);
    }
    free((*map)->slots);
    free(*map);
    *map = NULL;
}

static bool
slot_matches(const struct slot *slot, uint64_t hash, struct slice key)
{
    return slot->hash == hash && slot->entry != &removed &&
           slice_equal(slice_make(slot->entry->key, slot->entry->len), key);
}

/* The key's slot, or NULL. */
static struct slot *
map_find(const struct map *map, uint64_t hash, struct slice key)
{
    if (!map->size)
        return NULL;
    for (size_t i = hash & (map->size - 1);; i = (i + 1) & (map->size - 1)) {
        struct slot *slot = &map->slots[i];
        if (!slot->entry)
            return NULL;
        if (slot_matches(slot, hash, key))
            return slot;
    }
}

static void
map_insert(struct map *map, struct slot slot)
{
    size_t i = slot.hash & (map->size - 1);
    while (map->slots[i].entry)
        i = (i + 1) & (map->size - 1);
    map->slots[i] = slot;
    map->used++;
}

/* Makes the table anew with room for as many entries again. */
static void
map_rebuild(struct map *map)
{
    struct slot *old = map->slots;
    size_t old_size = map->size;
    map->size = SMALLEST;
    while (map->size < 3 * (map->count + 1))
        map->size *= 2;
    map->slots = must_alloc(map->size * sizeof(*map->slots));
    map->used = 0;
    for (size_t i = 0; i < old_size; i++)
        if (old[i].entry && old[i].entry != &removed)
            map_insert(map, old[i]);
    free(old);
}

static uint64_t
map_hash(const struct map *map, struct slice key)
{
    return siphash(&map->key, key.ptr, key.len);
}

void *
map_get(const struct map *map, struct slice key)
{
    struct slot *slot = map->count ? map_find(map, map_hash(map, key), key) : NULL;
    return slot ? slot->entry->value : NULL;
}

void *
map_put(struct map *map, struct slice key, void *value)
{
    uint64_t hash = map_hash(map, key);
    struct slot *slot = map_find(map, hash, key);
    check(value);
    if (slot) {
        void *old = slot->entry->value;
        slot->entry->value = value;
        return old;
    }
    if ((map->used + 1) * 4 > map->size * 3)
        map_rebuild(map);
    struct entry *entry = must_alloc(sizeof(*entry) + key.len);
    entry->value = value;
    entry->len = key.len;
    if (key.len)
        memcpy(entry->key, key.ptr, key.len);
    map_insert(map, (struct slot){.hash = hash, .entry = entry});
    map->count++;
    return NULL;
}

void *
map_remove(struct map *map, struct slice key)
{
    struct slot *slot = map_find(map, map_hash(map, key), key);
    if (!slot)
        return NULL;
    void *value = slot->entry->value;
    free(slot->entry);
    slot->entry = &removed;
    map->count--;
    return value;
}

void *
map_get_text(const struct map *map, const char *key)
{
    return map_get(map, slice_from(key));
}

void *
map_put_text(struct map *map, const char *key, void *value)
{
    return map_put(map, slice_from(key), value);
}

void *
map_remove_text(struct map *map, const char *key)
{
    return map_remove(map, slice_from(key));
}

size_t
map_count(const struct map *map)
{
    return map->count;
}

bool
map_next(const struct map *map, size_t *position, struct slice *key, void **value)
{
    while (*position < map->size) {
        struct entry *entry = map->slots[(*position)++].entry;
        if (!entry || entry == &removed)
            continue;
        if (key)
            *key = slice_make(entry->key, entry->len);
        if (value)
            *value = entry->value;
        return true;
    }
    return false;
}
