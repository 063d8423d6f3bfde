/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/arena.h: memory that is freed whole.
 *
 * One arena for the process, a session, a command, a transaction. What is allocated lives until the arena is reset or
 * freed. Allocation never fails to its caller (out of memory is fatal); sizes from outside are checked before. Blocks
 * start small (512 bytes) and double up to 16 KiB, so an arena that holds little costs little; larger requests get a
 * block of their own. An arena is used by one task at a time. */
#ifndef LIB_BASE_ARENA_H
#define LIB_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "lib/base/compiler.h"
#include "lib/base/slice.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena **);

/* Frees all that was allocated and runs the deferred releases, newest first; the arena can be used again. */
void arena_reset(struct arena *);

/* size zeroed bytes, aligned for any type. size 0 gives a valid pointer. */
void *arena_alloc(struct arena *, size_t size);

/* An array of count zeroed elements; fatal if the product overflows. */
void *arena_array(struct arena *, size_t count, size_t size);

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))

/* Copies; the results end in NUL (not counted in a slice's len). */
char *arena_strdup(struct arena *, const char *text);
char *arena_strndup(struct arena *, const void *ptr, size_t len);
struct slice arena_slice(struct arena *, struct slice);
char *arena_printf(struct arena *, const char *fmt, ...) PRINTF_LIKE(2, 3);
char *arena_vprintf(struct arena *, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

/* Runs fn(arg) when the arena is reset or freed: releases descriptors and library objects that live as long. */
void arena_defer(struct arena *, void (*fn)(void *), void *arg);

/* Bytes held from the system, for limits and tests. */
size_t arena_size(const struct arena *);

#endif
