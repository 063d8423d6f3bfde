/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/buf.h"

static void
an_empty_buffer_is_valid(void **state)
{
    struct buf buf = {0};
    (void)state;
    assert_int_equal(buf_slice(&buf).len, 0);
    buf_clear(&buf);
    buf_consume(&buf, 0);
    buf_append(&buf, NULL, 0);
    buf_reserve(&buf, 0);
    assert_string_equal(buf_text(&buf), "");
    buf_release(&buf);
    buf_release(&buf);
    assert_null(buf.base);
}

static void
append_forms(void **state)
{
    struct buf buf = {0};
    char long_text[500];
    (void)state;
    memset(long_text, 'y', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    buf_append_text(&buf, "a");
    buf_append_byte(&buf, 'b');
    buf_append_slice(&buf, slice_from("c"));
    buf_printf(&buf, "%d%s", 4, "e");
    assert_string_equal(buf_text(&buf), "abc4e");
    buf_clear(&buf);
    buf_printf(&buf, "<%s>", long_text);
    assert_int_equal(buf.len, 501);
    assert_int_equal(strlen(buf_text(&buf)), 501);
    buf_clear(&buf);
    for (size_t n = 0; n < 200; n++) { /* every length around what fits */
        buf_release(&buf);
        buf_printf(&buf, "%.*s", (int)n, long_text);
        assert_int_equal(buf.len, n);
        assert_int_equal(strlen(buf_text(&buf)), n);
    }
    buf_release(&buf);
}

/* Random appends and consumes against a plain array. */
static void
appends_and_consumes_keep_the_bytes(void **state)
{
    enum { LIMIT = 5000 };
    struct buf buf = {0};
    unsigned next_in = 0, next_out = 0;
    uint64_t seed = 3;
    (void)state;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t n = (size_t)(seed >> 33) % 300;
        if (seed >> 63 && buf.len + n < LIMIT) {
            char *at = buf_reserve(&buf, n);
            for (size_t i = 0; i < n; i++)
                at[i] = (char)next_in++;
            buf_added(&buf, n);
        } else {
            n = n < buf.len ? n : buf.len;
            for (size_t i = 0; i < n; i++)
                assert_int_equal(buf.ptr[i], (char)next_out++);
            buf_consume(&buf, n);
        }
        assert_int_equal(buf.len, next_in - next_out);
        assert_true(buf.cap >= buf.len);
        assert_true(buf.cap <= 4 * LIMIT);
    }
    buf_release(&buf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_is_valid),
        cmocka_unit_test(append_forms),
        cmocka_unit_test(appends_and_consumes_keep_the_bytes),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
