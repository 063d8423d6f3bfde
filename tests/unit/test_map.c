/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/base/siphash.h"

/* SipHash-1-3 with the zero key, of the bytes 0, 1, 2...: as CPython 3.11 hashes bytes under PYTHONHASHSEED=0. */
static void
siphash_is_siphash(void **state)
{
    static const struct {
        size_t len;
        uint64_t want;
    } rows[] = {
        {1, 0x68a914128e01e473}, {5, 0x5abe2169dff36275},  {7, 0x2f098ab0c751325a},  {8, 0xead411e67ebe2eea},
        {9, 0x75927f9d95124362}, {15, 0xf30eb725bb91c9ea}, {16, 0x8972188433a5c5b7}, {33, 0x7fb71d24dfa4c9f6},
    };
    struct siphash_key zero = {0}, one = siphash_random_key(), other = siphash_random_key();
    unsigned char bytes[64];
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_true(siphash(&zero, bytes, rows[i].len) == rows[i].want);
    assert_true(siphash(&one, bytes, 10) != siphash(&other, bytes, 10));
}

static void
put_get_remove(void **state)
{
    struct map *map = map_new();
    int values[3];
    (void)state;
    assert_null(map_get_text(map, "a"));
    assert_null(map_remove_text(map, "a"));
    assert_null(map_put_text(map, "a", &values[0]));
    assert_null(map_put_text(map, "", &values[1]));
    assert_ptr_equal(map_put_text(map, "a", &values[2]), &values[0]);
    assert_int_equal(map_count(map), 2);
    assert_ptr_equal(map_get_text(map, "a"), &values[2]);
    assert_ptr_equal(map_get(map, slice_make(NULL, 0)), &values[1]);
    assert_null(map_get(map, slice_make("a\0", 2)));
    assert_ptr_equal(map_remove_text(map, "a"), &values[2]);
    assert_null(map_get_text(map, "a"));
    assert_int_equal(map_count(map), 1);
    map_free(&map, NULL);
    assert_null(map);
}

static void
free_value(void *value)
{
    free(value);
}

/* Random work against an array; and a visit that removes what it sees. */
static void
many_entries(void **state)
{
    enum { KEYS = 3000 };
    struct map *map = map_new();
    static int *want[KEYS];
    size_t count = 0;
    uint64_t seed = 5;
    (void)state;
    for (int step = 0; step < 100000; step++) {
        char key[20];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned k = (unsigned)(seed >> 40) % KEYS;
        snprintf(key, sizeof(key), "key-%u", k);
        if (seed >> 63) {
            int *value = malloc(sizeof(*value));
            assert_non_null(value);
            *value = step;
            int *old = map_put_text(map, key, value);
            assert_ptr_equal(old, want[k]);
            count += want[k] == NULL;
            free(old);
            want[k] = value;
        } else {
            int *old = map_remove_text(map, key);
            assert_ptr_equal(old, want[k]);
            count -= want[k] != NULL;
            free(old);
            want[k] = NULL;
        }
        assert_int_equal(map_count(map), count);
    }
    size_t position = 0, seen = 0;
    struct slice key;
    void *value;
    while (map_next(map, &position, &key, &value)) {
        unsigned long long k;
        struct slice number = {.ptr = key.ptr + 4, .len = key.len - 4};
        assert_int_equal(slice_to_u64(number, KEYS, &k), 0);
        assert_ptr_equal(value, want[k]);
        seen++;
        if (seen % 2) {
            char copy[20];
            snprintf(copy, sizeof(copy), "%.*s", SLICE_ARG(key));
            free(map_remove_text(map, copy));
        }
    }
    assert_int_equal(seen, count);
    assert_int_equal(map_count(map), count / 2);
    map_free(&map, free_value);
}

struct element {
    int number;
    struct list link;
};

static void
lists(void **state)
{
    struct list head;
    struct element elements[4] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}};
    int sum = 0;
    (void)state;
    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_null(list_pop(&head));
    for (int i = 0; i < 3; i++)
        list_append(&head, &elements[i].link);
    list_prepend(&head, &elements[3].link);
    LIST_EACH(link, &head)
    {
        struct element *element = LIST_ENTRY(link, struct element, link);
        sum = sum * 10 + element->number;
        if (element->number == 2)
            list_remove(link);
    }
    assert_int_equal(sum, 4123);
    assert_false(list_is_linked(&elements[1].link));
    list_remove(&elements[1].link);
    assert_ptr_equal(list_pop(&head), &elements[3].link);
    assert_ptr_equal(list_pop(&head), &elements[0].link);
    assert_ptr_equal(list_pop(&head), &elements[2].link);
    assert_true(list_is_empty(&head));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_is_siphash),
        cmocka_unit_test(put_get_remove),
        cmocka_unit_test(many_entries),
        cmocka_unit_test(lists),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
