/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/slice.h"

static void
comparing(void **state)
{
    struct slice empty = slice_from(NULL), nul = slice_make("a\0b", 3);
    (void)state;
    assert_int_equal(empty.len, 0);
    assert_true(slice_equal(empty, slice_from("")));
    assert_true(slice_equal_text(slice_from("abc"), "abc"));
    assert_false(slice_equal_text(slice_from("abc"), "abd"));
    assert_false(slice_equal_text(slice_from("abc"), "ab"));
    assert_false(slice_equal_text(nul, "a"));
    assert_true(slice_equal_text_fold(slice_from("MaIl"), "mAiL"));
    assert_false(slice_equal_text_fold(slice_from("\xc3\xa9"), "\xc3\x89"));
    assert_false(slice_equal_text_fold(slice_from("a["), "a{"));
    assert_true(slice_equal_fold(slice_from("Q"), slice_from("q")));
    assert_true(slice_starts_with_fold(slice_from("Mail From:<a>"), "MAIL FROM:"));
    assert_false(slice_starts_with_fold(slice_from("MAIL"), "MAIL FROM:"));
    assert_true(slice_starts_with_fold(empty, ""));
    assert_true(slice_has_byte(nul, '\0'));
    assert_false(slice_has_byte(empty, '\0'));
}

static void
trimming(void **state)
{
    static const struct {
        const char *in, *want;
    } rows[] = {{"", ""}, {"  ", ""}, {" a ", "a"}, {"\t\r\n\v\f a b\n", "a b"}, {"a", "a"}, {"\xa0", "\xa0"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_true(slice_equal_text(slice_trim(slice_from(rows[i].in)), rows[i].want));
}

static void
join(char *out, size_t size, struct slice piece)
{
    size_t len = strlen(out);
    assert_true(len + piece.len + 2 < size);
    memcpy(out + len, piece.ptr, piece.len);
    out[len + piece.len] = '/';
    out[len + piece.len + 1] = '\0';
}

static void
cutting(void **state)
{
    static const struct {
        const char *in, *cut, *words;
    } rows[] = {
        {"", "", ""},
        {"a", "a/", "a/"},
        {"a,b", "a/b/", "a/b/"},
        {",", "/", ""},
        {"a,", "a/", "a/"},
        {",a", "/a/", "a/"},
        {",,", "//", ""},
        {"a,,b c", "a//b c/", "a/b/c/"},
        {" a , b ", " a / b /", "a/b/"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char cut[100] = "", words[100] = "";
        struct slice rest = slice_from(rows[i].in), piece;
        while (slice_cut(&rest, ',', &piece))
            join(cut, sizeof(cut), piece);
        rest = slice_from(rows[i].in);
        while (slice_word(&rest, ", ", &piece))
            join(words, sizeof(words), piece);
        assert_string_equal(cut, rows[i].cut);
        assert_string_equal(words, rows[i].words);
    }
}

static void
numbers(void **state)
{
    static const struct {
        const char *in;
        unsigned long long max;
        int status;
        unsigned long long want;
    } rows[] = {
        {"0", 10, 0, 0},
        {"10", 10, 0, 10},
        {"11", 10, -1, 0},
        {"007", 10, 0, 7},
        {"", 10, -1, 0},
        {"-1", 10, -1, 0},
        {"+1", 10, -1, 0},
        {" 1", 10, -1, 0},
        {"1 ", 10, -1, 0},
        {"0x1", 10, -1, 0},
        {"18446744073709551615", ~0ULL, 0, ~0ULL},
        {"18446744073709551616", ~0ULL, -1, 0},
        {"99999999999999999999999", ~0ULL, -1, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned long long value = 0;
        assert_int_equal(slice_to_u64(slice_from(rows[i].in), rows[i].max, &value), rows[i].status);
        assert_true(value == rows[i].want);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparing),
        cmocka_unit_test(trimming),
        cmocka_unit_test(cutting),
        cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
