/* SPDX-License-Identifier: Apache-2.0 */
/* What cleanup finds out of a content: at each split, against a look at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cleanup/measure.h"
#include "lib/mail/messages.h"

static void
expect_same(const struct measure *a, const struct measure *b)
{
    assert_int_equal(a->wire_length, b->wire_length);
    assert_int_equal(a->record_length, b->record_length);
    assert_int_equal(a->longest_line, b->longest_line);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(measure_is_at_line_start(a), measure_is_at_line_start(b));
}

static struct measure
by_bytes(const char *text, size_t len)
{
    struct measure m = {0};

    for (size_t i = 0; i < len; i++)
        measure_add(&m, slice_make(text + i, 1));
    return m;
}

static struct measure
at_once(const char *text)
{
    struct measure m = {0};

    measure_add(&m, slice_from(text));
    return m;
}

static void
test_counts_records(void **state)
{
    struct measure m;
    char line[3000];

    (void)state;
    m = at_once("a: b\r\n\r\n..x\r\n"); /* the stuffed dot is not content */
    assert_int_equal(m.record_length, 6 + 2 + 4);
    assert_int_equal(m.longest_line, 4);
    assert_int_equal(m.flags, CONTENT_HAS_HEADER_END);
    assert_true(measure_is_at_line_start(&m));
    for (size_t length = 120; length < 140; length++) { /* from 128 on a record's length takes two bytes */
        memset(line, 'x', length);
        memcpy(line + length, "\r\n", 3);
        m = at_once(line);
        assert_int_equal(m.record_length, length + (length < 128 ? 2 : 3));
    }
    memset(line, 'x', 2100); /* two records */
    memcpy(line + 2100, "\r\n", 3);
    m = at_once(line);
    assert_int_equal(m.record_length, 2048 + 3 + 52 + 2);
    assert_int_equal(m.longest_line, 2100);
}

/* A byte from 128 on, or a NUL, at each place of a text that is longer than what is looked at at once. */
static void
test_sees_every_byte(void **state)
{
    static const struct {
        char byte;
        unsigned flags;
    } rows[] = {{'\x80', CONTENT_8BIT}, {'\xff', CONTENT_8BIT}, {'\0', CONTENT_NUL}, {'\x7f', 0}, {'\x01', 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t len = 1; len < 70; len++) {
            for (size_t at = 0; at < len; at++) {
                struct measure m = {0};
                char *text = malloc(len); /* so that a look behind it is noticed */
                memset(text, 'a', len);
                text[at] = rows[i].byte;
                measure_add(&m, slice_make(text, len));
                assert_int_equal(m.flags, rows[i].flags);
                free(text);
            }
        }
    }
}

static void
test_splits_do_not_matter(void **state)
{
    static const char text[] =
        "Subject: x\r\nTo: y@z.test\r\n\r\n..dots\r\n\r\nthe end of this line is far away, and it has \xc3\xa4 in it"
        "\r\n.\0\r\nbare\rCR and an LF\nlast";
    struct measure whole = by_bytes(text, sizeof text - 1);

    (void)state;
    for (size_t a = 0; a < sizeof text; a++) {
        for (size_t b = a; b < sizeof text; b++) {
            struct measure m = {0};
            measure_add(&m, slice_make(text, a));
            measure_add(&m, slice_make(text + a, b - a));
            measure_add(&m, slice_make(text + b, sizeof text - 1 - b));
            expect_same(&m, &whole);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_records),
        cmocka_unit_test(test_sees_every_byte),
        cmocka_unit_test(test_splits_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
