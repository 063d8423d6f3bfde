/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/arena.h"

static void
memory_is_zeroed_and_apart(void **state)
{
    struct arena *arena = arena_new();
    unsigned char *all[200];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        size_t size = i * i;
        all[i] = arena_alloc(arena, size);
        assert_true((uintptr_t)all[i] % 16 == 0);
        for (size_t k = 0; k < size; k++)
            assert_int_equal(all[i][k], 0);
        memset(all[i], (int)i, size);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < i * i; k++)
            assert_int_equal(all[i][k], i);
    arena_free(&arena);
    assert_null(arena);
    arena_free(&arena);
}

static void
little_costs_little(void **state)
{
    struct arena *arena = arena_new();
    (void)state;
    assert_true(arena_size(arena) <= 512);
    for (int i = 0; i < 5; i++)
        arena_alloc(arena, 32);
    assert_true(arena_size(arena) <= 1024);
    arena_alloc(arena, 100000);
    assert_true(arena_size(arena) > 100000);
    arena_reset(arena);
    assert_true(arena_size(arena) <= 512);
    arena_free(&arena);
}

static void
copies(void **state)
{
    struct arena *arena = arena_new();
    char big[2000];
    (void)state;
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    assert_string_equal(arena_strdup(arena, "abc"), "abc");
    assert_string_equal(arena_strndup(arena, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(arena, NULL, 0), "");
    struct slice slice = arena_slice(arena, slice_make("a\0b", 3));
    assert_int_equal(slice.len, 3);
    assert_memory_equal(slice.ptr, "a\0b", 4);
    assert_string_equal(arena_printf(arena, "%d-%s", 42, "x"), "42-x");
    char *printed = arena_printf(arena, "<%s>", big);
    assert_int_equal(strlen(printed), strlen(big) + 2);
    assert_true(printed[0] == '<' && printed[1999] == 'x' && printed[2000] == '>');
    int *numbers = arena_array(arena, 10, sizeof(int));
    assert_int_equal(numbers[9], 0);
    arena_free(&arena);
}

static char order[10];

static void
note(void *arg)
{
    strncat(order, arg, 1);
}

static void
deferred_releases_run_newest_first(void **state)
{
    struct arena *arena = arena_new();
    char letters[] = "abc";
    (void)state;
    arena_defer(arena, note, &letters[0]);
    arena_defer(arena, note, &letters[1]);
    arena_reset(arena);
    assert_string_equal(order, "ba");
    arena_defer(arena, note, &letters[2]);
    arena_free(&arena);
    assert_string_equal(order, "bac");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_apart),
        cmocka_unit_test(little_costs_little),
        cmocka_unit_test(copies),
        cmocka_unit_test(deferred_releases_run_newest_first),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
