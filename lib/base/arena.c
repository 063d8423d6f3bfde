/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

/* The arena itself lies at the front of its first block, so that an arena that holds little is one allocation. The
 * sanitizers see exact bounds: with them every request gets a block of its own. */
enum {
    ALIGNMENT = 16,
    FIRST_BLOCK = 512,
    LARGEST_BLOCK = 16 * 1024,
#ifdef POSTERN_SANITIZERS
    OWN_BLOCK_FROM = 0,
#else
    OWN_BLOCK_FROM = 4 * 1024,
#endif
    ARENA_MAGIC = 0x41524e41,
};

struct block {
    struct block *next;
    size_t size; /* with this head */
};

struct defer {
    struct defer *next;
    void (*fn)(void *);
    void *arg;
};

struct arena {
    unsigned magic;
    size_t next_size; /* of the block that is made when this one is full */
    size_t held;
    char *free, *end; /* what is left of the newest shared block */
    struct block *blocks;
    struct defer *defers; /* newest first */
};

static size_t
round_up(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static void
arena_begin(struct arena *arena)
{
    arena->next_size = 2 * (size_t)FIRST_BLOCK;
    arena->held = FIRST_BLOCK;
    arena->free = (char *)arena + round_up(sizeof(*arena));
    arena->end = (char *)arena + FIRST_BLOCK;
    arena->blocks = NULL;
    arena->defers = NULL;
}

struct arena *
arena_new(void)
{
    struct arena *arena = malloc(FIRST_BLOCK);
    if (!arena)
        fatal("out of memory");
    arena->magic = ARENA_MAGIC;
    arena_begin(arena);
    return arena;
}

static void
arena_drop(struct arena *arena)
{
    check(arena->magic == ARENA_MAGIC);
    while (arena->defers) {
        struct defer *defer = arena->defers;
        arena->defers = defer->next;
        defer->fn(defer->arg);
    }
    while (arena->blocks) {
        struct block *block = arena->blocks;
        arena->blocks = block->next;
        free(block);
    }
}

void
arena_free(struct arena **arena)
{
    if (!*arena)
        return;
    arena_drop(*arena);
    (*arena)->magic = 0;
    free(*arena);
    *arena = NULL;
}

void
arena_reset(struct arena *arena)
{
    arena_drop(arena);
    arena_begin(arena);
}

static struct block *
arena_add_block(struct arena *arena, size_t size)
{
    struct block *block = malloc(size);
    if (!block)
        fatal("out of memory: %zu bytes", size);
    block->size = size;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->held += size;
    return block;
}

static void *
arena_take(struct arena *arena, size_t size)
{
    const size_t head = round_up(sizeof(struct block));
    check(arena->magic == ARENA_MAGIC);
    if (size > SIZE_MAX / 2)
        fatal("out of memory: %zu bytes", size);
    if (size + 1 > OWN_BLOCK_FROM)
        return (char *)arena_add_block(arena, head + (size ? size : 1)) + head;
    size = size ? round_up(size) : ALIGNMENT;
    if (size > (size_t)(arena->end - arena->free)) {
        struct block *block = arena_add_block(arena, arena->next_size < head + size ? head + size : arena->next_size);
        arena->free = (char *)block + head;
        arena->end = (char *)block + block->size;
        if (arena->next_size < LARGEST_BLOCK)
            arena->next_size *= 2;
    }
    void *taken = arena->free;
    arena->free += size;
    return taken;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
    return memset(arena_take(arena, size), 0, size);
}

void *
arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        fatal("out of memory: %zu times %zu bytes", count, size);
    return arena_alloc(arena, bytes);
}

char *
arena_strndup(struct arena *arena, const void *ptr, size_t len)
{
    char *copy = arena_take(arena, len + 1);
    if (len)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}

char *
arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

struct slice
arena_slice(struct arena *arena, struct slice slice)
{
    return slice_make(arena_strndup(arena, slice.ptr, slice.len), slice.len);
}

char *
arena_vprintf(struct arena *arena, const char *fmt, va_list args)
{
    char small[256];
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(small, sizeof(small), fmt, args);
    check(len >= 0);
    size_t size = (size_t)len + 1;
    char *text = arena_take(arena, size);
    if (size <= sizeof(small))
        memcpy(text, small, size);
    else
        check(vsnprintf(text, size, fmt, again) == len);
    va_end(again);
    return text;
}

char *
arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = arena_vprintf(arena, fmt, args);
    va_end(args);
    return text;
}

void
arena_defer(struct arena *arena, void (*fn)(void *), void *arg)
{
    struct defer *defer = ARENA_NEW(arena, struct defer);
    *defer = (struct defer){.next = arena->defers, .fn = fn, .arg = arg};
    arena->defers = defer;
}

size_t
arena_size(const struct arena *arena)
{
    return arena->held;
}
