/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/buf.h"
#include "lib/mail/header_addr.h"

/* The raw addresses of a text, each in <>; one that needs a comma is marked. */
static const char *
addresses_of(struct arena *arena, const char *text, unsigned limit)
{
    struct header_addr_scan scan = {.text = slice_from(text), .token_limit = limit};
    struct header_addr addr;
    struct buf out = {0};

    while (header_addr_next(arena, &scan, &addr)) {
        assert_true(addr.start <= addr.end && addr.end <= strlen(text));
        buf_printf(&out, "%s<%s>", addr.needs_comma ? "," : "", addr.raw);
    }
    if (scan.is_cut)
        buf_append_text(&out, "|");
    const char *result = arena_strdup(arena, buf_text(&out));
    buf_release(&out);
    return result;
}

static void
test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"", ""},
        {" \r\n\t", ""},
        {"joe", "<joe>"},
        {"a@b.test, c@d.test", "<a@b.test><c@d.test>"},
        {"Joe Doe <joe@b.test>, \"Doe, J.\" <j@b.test>", "<joe@b.test><j@b.test>"},
        {"grp: a, b@c.test;, d", "<a><b@c.test><d>"},
        {"undisclosed-recipients:;", ""},
        {"(a@b) c@d.test (e (f) g)", "<c@d.test>"},
        {"<@r1,@r2:a@b.test>", "<a@b.test>"},
        {"\"quoted part\"@b.test", "<quoted part@b.test>"},
        {"\"a\\\"b\"@c", "<a\"b@c>"},
        {"joe smith", "<joe>,<smith>"},
        {"joe@a.test (c) smith@b.test", "<joe@a.test>,<smith@b.test>"},
        {"a . b @ c . d", "<a.b@c.d>"},
        {"a@\r\n\tb.test", "<a@b.test>"},
        {"user@[192.0.2.1]", "<user@[192.0.2.1]>"},
        {"site!user, a%b", "<site!user><a%b>"},
        {"<>", "<>"},
        {"<a@b", "<a@b>"},
        {"<a@b, c@d", "<a@b><c@d>"},
        {"\"open", "<open>"},
        {"(open a@b", ""},
        {",,;;::>>))", ""},
        {"@other.test", "<@other.test>"},
        {"caf\xc3\xa9@x.test", "<caf\xc3\xa9@x.test>"},
        {"a@b.test <c@d.test>", "<c@d.test>"},
    };
    struct arena *arena = arena_new();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_string_equal(addresses_of(arena, rows[i].in, 0), rows[i].want);
    arena_free(&arena);
}

static void
test_limit_of_tokens(void **state)
{
    (void)state;
    struct arena *arena = arena_new();

    assert_string_equal(addresses_of(arena, "a, b, c, d", 100), "<a><b><c><d>");
    const char *some = addresses_of(arena, "a, b, c, d, e, f", 6);
    assert_true(strlen(some) < strlen("<a><b><c><d><e><f>"));
    assert_non_null(strchr(some, '|'));
    arena_free(&arena);
}

static void
test_a_long_header_takes_linear_time(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct buf text = {0};
    struct header_addr_scan scan;
    struct header_addr addr;
    unsigned count = 0;

    for (int i = 0; i < 200000; i++)
        buf_append_text(&text, i % 2 ? "word " : "((x) ");
    scan = (struct header_addr_scan){.text = buf_slice(&text)};
    while (header_addr_next(arena, &scan, &addr))
        count++;
    assert_int_equal(count, 0);
    buf_clear(&text);
    for (int i = 0; i < 200000; i++)
        buf_append_text(&text, "word ");
    scan = (struct header_addr_scan){.text = buf_slice(&text)};
    while (header_addr_next(arena, &scan, &addr))
        count++;
    assert_int_equal(count, 200000);
    buf_release(&text);
    arena_free(&arena);
}

static void
test_replacing(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {" Joe  <joe> (x),\r\n\tb@c.test", " Joe  <joe@us.test> (x),\r\n\tb@c.test"},
        {"joe smith", "joe@us.test, smith@us.test"},
        {"g: a, \"b c\";", "g: a@us.test, \"b c\"@us.test;"},
        {"<@r:a>", "<a@us.test>"},
    };
    struct arena *arena = arena_new();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct header_addr_scan scan = {.text = slice_from(rows[i].in)};
        struct header_addr found[8];
        const char *news[8];
        unsigned count = 0;
        struct buf out = {0};

        while (header_addr_next(arena, &scan, &found[count])) {
            news[count] = found[count].has_domain ? NULL : arena_printf(arena, "%s@us.test", found[count].raw);
            count++;
        }
        header_addr_replace(arena, slice_from(rows[i].in), found, news, count, &out);
        assert_string_equal(buf_text(&out), rows[i].want);
        buf_release(&out);
    }
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_limit_of_tokens),
        cmocka_unit_test(test_a_long_header_takes_linear_time),
        cmocka_unit_test(test_replacing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
