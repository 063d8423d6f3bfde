/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/map.h: a hash table from a text or byte key to a pointer. Keys are copied; values are the caller's. Keyed
 * with a random SipHash key, so nobody outside can make its chains long. Not ordered. */
#ifndef LIB_BASE_MAP_H
#define LIB_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/slice.h"

struct map;

struct map *map_new(void);

/* release (may be NULL) is called for each value. */
void map_free(struct map **, void (*release)(void *value));

/* The value, or NULL. Values are never NULL. */
void *map_get(const struct map *, struct slice key);
void *map_get_text(const struct map *, const char *key);

/* Sets it; returns the value that it replaces, or NULL. */
void *map_put(struct map *, struct slice key, void *value);
void *map_put_text(struct map *, const char *key, void *value);

/* Takes it out; returns the value, or NULL. */
void *map_remove(struct map *, struct slice key);
void *map_remove_text(struct map *, const char *key);

size_t map_count(const struct map *);

/* Visits all: start with *position = 0; false at the end. The visited entry, and no other, may be removed. */
bool map_next(const struct map *, size_t *position, struct slice *key, void **value);

#endif
