/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/mail/wire.h"

static const struct {
    const char *name, *text, *wire;
} rows[] = {
    {"empty", "", ""},
    {"line", "a\n", "a\r\n"},
    {"dot alone", ".\n", "..\r\n"},
    {"dots in front", "..a\n.b\nc.\n", "...a\r\n..b\r\nc.\r\n"},
    {"empty lines", "\n\n", "\r\n\r\n"},
    {"8-bit", "\xff\xc3\xa4\n", "\xff\xc3\xa4\r\n"},
};

/* Each row both ways, at every split in two. */
static void
test_both_ways_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t cut = 0; cut <= strlen(rows[i].text); cut++) {
            struct wire_state encode = {0};
            struct buf out = {0};
            wire_encode(&encode, slice_make(rows[i].text, cut), &out);
            wire_encode(&encode, slice_from(rows[i].text + cut), &out);
            wire_encode_end(&encode, &out);
            assert_string_equal(buf_text(&out), rows[i].wire);
            buf_release(&out);
        }
        for (size_t cut = 0; cut <= strlen(rows[i].wire); cut++) {
            struct wire_state decode = {0};
            struct buf out = {0};
            wire_decode(&decode, slice_make(rows[i].wire, cut), &out);
            wire_decode(&decode, slice_from(rows[i].wire + cut), &out);
            assert_string_equal(buf_text(&out), rows[i].text);
            buf_release(&out);
        }
    }
}

static void
test_no_bare_cr_or_lf_comes_out(void **state)
{
    (void)state;
    struct wire_state encode = {0};
    struct buf out = {0};

    wire_encode(&encode, slice_from("a\rb\r\r\nc\r"), &out);
    wire_encode_end(&encode, &out);
    assert_string_equal(buf_text(&out), "a b \r\nc\r\n");
    buf_release(&out);
}

static void
test_last_line_is_completed(void **state)
{
    (void)state;
    struct wire_state encode = {0};
    struct buf out = {0};

    wire_encode(&encode, slice_from("a\n.b"), &out);
    wire_encode_end(&encode, &out);
    assert_string_equal(buf_text(&out), "a\r\n..b\r\n");
    buf_release(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_at_every_split),
        cmocka_unit_test(test_no_bare_cr_or_lf_comes_out),
        cmocka_unit_test(test_last_line_is_completed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
