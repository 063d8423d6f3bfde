/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <time.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"

static void
text_and_context(void **state)
{
    struct err err;
    (void)state;
    assert_int_equal(err_set(&err, ERR_TEMP, "dns %s: %s", "a.example", "no\r\nanswer"), -1);
    assert_int_equal(err.kind, ERR_TEMP);
    assert_string_equal(err.text, "dns a.example: no??answer");
    assert_int_equal(err_context(&err, "route %d", 7), -1);
    assert_string_equal(err.text, "route 7: dns a.example: no??answer");
    assert_int_equal(err.kind, ERR_TEMP);
    assert_int_equal(err_set(NULL, ERR_TEMP, "x"), -1);
    assert_int_equal(err_context(NULL, "x"), -1);
}

static void
long_text_is_cut(void **state)
{
    struct err err;
    char text[1000];
    (void)state;
    memset(text, 'z', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    err_set(&err, ERR_PERM, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    err_context(&err, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    errno = ENOSPC;
    err_errno(&err, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void
kinds_of_errno(void **state)
{
    static const struct {
        int code;
        enum err_kind kind;
    } rows[] = {
        {ENOSPC, ERR_IO},         {EIO, ERR_IO},       {ECONNREFUSED, ERR_IO}, {ETIMEDOUT, ERR_TIMEOUT},
        {ECONNRESET, ERR_CLOSED}, {EPIPE, ERR_CLOSED},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err;
        errno = rows[i].code;
        assert_int_equal(err_errno(&err, "write %s", "x"), -1);
        assert_int_equal(err.kind, rows[i].kind);
        assert_int_equal(err.code, rows[i].kind == ERR_IO ? rows[i].code : 0);
        assert_non_null(strstr(err.text, "write x: "));
        assert_non_null(strstr(err.text, strerror(rows[i].code)));
        errno = rows[i].code;
        assert_int_equal(err_errno(&err, "%s", ""), -1);
        assert_string_equal(err.text, strerror(rows[i].code));
    }
}

static void
times(void **state)
{
    char text[64];
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    clock_format_rfc5322(SECONDS(1795497611) + 999999, text, sizeof(text));
    assert_string_equal(text, "Tue, 24 Nov 2026 05:20:11 +0000 (UTC)");
    clock_format_syslog(SECONDS(1795497611), text, sizeof(text));
    assert_string_equal(text, "Nov 24 05:20:11");
    setenv("TZ", "XYZ3:30", 1);
    tzset();
    clock_format_rfc5322(SECONDS(1793595611), text, sizeof(text));
    assert_string_equal(text, "Mon, 2 Nov 2026 01:30:11 -0330 (XYZ)");
    clock_format_syslog(SECONDS(1793595611), text, sizeof(text));
    assert_string_equal(text, "Nov  2 01:30:11");
    usec_t before = clock_monotonic();
    assert_true(clock_monotonic() >= before);
    assert_true(clock_wall() > SECONDS(1700000000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_context),
        cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(kinds_of_errno),
        cmocka_unit_test(times),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
