/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/text.h"

static void
classes(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
        assert_int_equal(text_is_alpha((char)c), upper || lower);
        assert_int_equal(text_is_digit((char)c), digit);
        assert_int_equal(text_is_alnum((char)c), upper || lower || digit);
        assert_int_equal(text_is_space((char)c), c != 0 && memchr(" \t\n\v\f\r", c, 6) != NULL);
        assert_int_equal((unsigned char)text_lower((char)c), upper ? c + 32 : c);
    }
}

static void
printable(void **state)
{
    static const struct {
        const char *in, *want, *keep;
    } rows[] = {
        {"plain", "plain", "plain"},
        {"a\rb\nc\x7f\x01", "a?b?c??", "a?b?c??"},
        {"\xc3\xa9", "\xc3\xa9", "\xc3\xa9"},
        {"\xe9t\xe9", "?t?", "\xe9t\xe9"},
        {"\xc3", "?", "\xc3"},
        {"\xf0\x9f\x98\x80x", "\xf0\x9f\x98\x80x", "\xf0\x9f\x98\x80x"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[20];
        size_t len = strlen(rows[i].in);
        memcpy(text, rows[i].in, len + 1);
        text_printable(text, len, '?', false);
        assert_string_equal(text, rows[i].want);
        memcpy(text, rows[i].in, len + 1);
        text_printable(text, len, '?', true);
        assert_string_equal(text, rows[i].keep);
    }
}

/* RFC 3629: exactly the shortest forms of U+0000 to U+10FFFF without the surrogates. */
static void
utf8(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        bool want;
    } rows[] = {
        {"", 0, true},
        {"\0", 1, true},
        {"\xc2\x80", 2, true},
        {"\xc1\xbf", 2, false},
        {"\xdf\xbf", 2, true},
        {"\xe0\xa0\x80", 3, true},
        {"\xe0\x9f\xbf", 3, false},
        {"\xed\x9f\xbf", 3, true},
        {"\xed\xa0\x80", 3, false},
        {"\xef\xbf\xbf", 3, true},
        {"\xf0\x90\x80\x80", 4, true},
        {"\xf0\x8f\xbf\xbf", 4, false},
        {"\xf4\x8f\xbf\xbf", 4, true},
        {"\xf4\x90\x80\x80", 4, false},
        {"\xf5\x80\x80\x80", 4, false},
        {"\x80", 1, false},
        {"\xff", 1, false},
        {"\xe2\x82", 2, false},
        {"\xe2\x82x", 3, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(text_is_utf8(slice_make(rows[i].in, rows[i].len)), rows[i].want);
    assert_true(text_has_8bit(slice_from("a\x80")));
    assert_false(text_has_8bit(slice_from("a\x7f")));
}

static void
xtext(void **state)
{
    static const struct {
        const char *coded, *plain; /* plain NULL: refused */
    } rows[] = {
        {"", ""},      {"abc", "abc"}, {"a+2Bb", "a+b"}, {"+3D", "="},  {"a+20b", "a b"}, {"+C3+A9", "\xc3\xa9"},
        {"+", NULL},   {"+2", NULL},   {"+2b", NULL},    {"+0A", NULL}, {"+00", NULL},    {"+7F", NULL},
        {"a b", NULL}, {"a=b", NULL},  {"\xe9", NULL},   {"+GG", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf plain = {0}, coded = {0};
        int status = text_xtext_decode(slice_from(rows[i].coded), &plain);
        assert_int_equal(status, rows[i].plain ? 0 : -1);
        if (status == 0) {
            assert_string_equal(buf_text(&plain), rows[i].plain);
            text_xtext_encode(buf_slice(&plain), &coded);
            assert_string_equal(buf_text(&coded), rows[i].coded);
        }
        buf_release(&plain);
        buf_release(&coded);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes),
        cmocka_unit_test(printable),
        cmocka_unit_test(utf8),
        cmocka_unit_test(xtext),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
