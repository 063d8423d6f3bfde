/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/mail/queue_id.h"

static void
test_forms(void **state)
{
    (void)state;
    char id[QUEUE_ID_SIZE];

    queue_id_format(SECONDS(1500000000) + 0x1234, 0xABC, false, id);
    assert_string_equal(id, "01234ABC");
    queue_id_format(SECONDS(0) + 51, 50, true, id);
    assert_string_equal(id, "000000000zzy");
    queue_id_format(SECONDS(1), 51, true, id);
    assert_string_equal(id, "0000010000z10");
}

static void
test_validity(void **state)
{
    (void)state;
    assert_true(queue_id_is_valid(slice_from("4F1A2B")));
    assert_false(queue_id_is_valid(slice_from("")));
    assert_false(queue_id_is_valid(slice_from("../x")));
    assert_false(queue_id_is_valid(slice_from("a.b")));
    assert_false(queue_id_is_valid(slice_make("a\0b", 3)));
}

static void
test_paths(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    char id[QUEUE_ID_SIZE];

    assert_string_equal(queue_id_path(arena, "deferred", "4F1A2B", true, 2), "deferred/4/F/4F1A2B");
    assert_string_equal(queue_id_path(arena, "active", "4F1A2B", false, 1), "active/4F1A2B");
    assert_string_equal(queue_id_path(arena, "deferred", "4", true, 2), "deferred/4/_/4");
    /* A long id is hashed by its microseconds, as a short id's are. */
    queue_id_format(SECONDS(1500000000) + 0xF4240 - 1, 7, true, id);
    assert_string_equal(queue_id_path(arena, "deferred", id, true, 1), arena_printf(arena, "deferred/F/%s", id));
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_validity),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
