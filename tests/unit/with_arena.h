/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/with_arena.h: each test has an arena. For one .c file. */
#ifndef TESTS_UNIT_WITH_ARENA_H
#define TESTS_UNIT_WITH_ARENA_H

#include "lib/base/arena.h"

static struct arena *arena;

static int
setup(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

#endif
