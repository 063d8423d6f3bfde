/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/mail/addr.h"

#define S(text)                \
    {                          \
        text, sizeof(text) - 1 \
    }

/* want NULL: refused. */
struct path_row {
    const char *name;
    struct slice in;
    bool strict, utf8;
    const char *want, *want_rest;
};

static const struct path_row path_rows[] = {
    {"plain", S("<a@b.test>"), true, false, "a@b.test", ""},
    {"null sender", S("<>"), true, false, "", ""},
    {"parameters follow", S("<a@b> SIZE=5"), true, false, "a@b", " SIZE=5"},
    {"source route dropped", S("<@x,@y:a@b>"), true, false, "a@b", ""},
    {"quoted local part", S("<\"a b\\\"c\"@d>"), true, false, "a b\"c@d", ""},
    {"quoted at sign", S("<\"a@x\"@d>"), true, false, "a@x@d", ""},
    {"an address in quotes", S("<\"a@x\">"), true, false, "a@x", ""},
    {"parameters in quotes", S("<\"a@x> NOTIFY=NEVER\">"), true, false, NULL, NULL},
    {"parameters behind backslashes", S("<a\\@x\\>\\ NOTIFY=NEVER>"), false, false, NULL, NULL},
    {"empty quoted local part", S("<\"\"@d>"), false, false, "@d", ""},
    {"literal", S("<a@[192.0.2.1]>"), true, false, "a@[192.0.2.1]", ""},
    {"literal v6", S("<a@[IPv6:2001:db8::1]>"), true, false, "a@[IPv6:2001:db8::1]", ""},
    {"percent hack passes to the checks", S("<a%x@d>"), true, false, "a%x@d", ""},
    {"bang path passes to the checks", S("<x!a@d>"), true, false, "x!a@d", ""},
    {"second at sign, sloppy", S("<a@b@c>"), false, false, "a@b@c", ""},
    {"second at sign, strict", S("<a@b@c>"), true, false, NULL, NULL},
    {"no brackets, sloppy", S("a@b"), false, false, "a@b", ""},
    {"no brackets, strict", S("a@b"), true, false, NULL, NULL},
    {"blanks inside, sloppy", S("< a@b >"), false, false, "a@b", ""},
    {"blanks inside, strict", S("< a@b >"), true, false, NULL, NULL},
    {"no domain", S("<postmaster>"), true, false, "postmaster", ""},
    {"empty domain", S("<a@>"), false, false, NULL, NULL},
    {"shell text", S("<;sleep 66;>"), true, false, NULL, NULL},
    {"no end", S("<a@b"), false, false, NULL, NULL},
    {"quote without end", S("<\"a@b>"), false, false, NULL, NULL},
    {"backslash at the end", S("<\"a\\"), false, false, NULL, NULL},
    {"NUL", S("<a\0b@c>"), false, false, NULL, NULL},
    {"control character in quotes", S("<\"a\x01\"@c>"), false, false, NULL, NULL},
    {"CR in domain", S("<a@b\rc>"), false, false, NULL, NULL},
    {"8-bit without SMTPUTF8", S("<\xc3\xa4@b>"), true, false, NULL, NULL},
    {"8-bit with SMTPUTF8", S("<\xc3\xa4@b>"), true, true, "\xc3\xa4@b", ""},
    {"cut UTF-8", S("<\xc3@b>"), true, true, NULL, NULL},
    {"text behind", S("<a@b>x"), false, false, NULL, NULL},
    {"equals first", S("<> =\""), false, false, "", " =\""},
    {"empty", S(""), true, false, NULL, NULL},
};

static void
test_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof path_rows / sizeof *path_rows; i++) {
        const struct path_row *row = &path_rows[i];
        struct arena *arena = arena_new();
        const char *raw = NULL;
        struct slice rest;
        struct err err;
        int result = addr_parse_path(arena, row->in, row->strict, row->utf8, &raw, &rest, &err);
        if ((result == 0) != (row->want != NULL))
            fail_msg("%s: %s", row->name, result ? err.text : raw);
        if (row->want) {
            assert_string_equal(raw, row->want);
            assert_true(slice_equal_text(rest, row->want_rest));
        }
        arena_free(&arena);
    }
}

static void
test_long_parts_are_refused(void **state)
{
    (void)state;
    static char text[70000];
    struct arena *arena = arena_new();
    const char *raw;
    struct slice rest;
    struct err err;

    memset(text, 'a', sizeof text);
    text[0] = '<';
    assert_int_equal(addr_parse_path(arena, slice_make(text, sizeof text), true, false, &raw, &rest, &err), -1);
    text[2] = '@';
    assert_int_equal(addr_parse_path(arena, slice_make(text, sizeof text), true, false, &raw, &rest, &err), -1);
    arena_free(&arena);
}

static void
test_quoting_comes_back(void **state)
{
    (void)state;
    static const char *const raws[] = {"a@b",   "a b@c", "a\"b\\c@d", "@d",   ".a@b",  "a.@b", "a..b@c",
                                       "a@x@d", "x%y@z", "",          "noat", "a,b@c", "(a)@b"};
    struct arena *arena = arena_new();
    struct err err;

    for (size_t i = 0; i < sizeof raws / sizeof *raws; i++) {
        const char *raw = NULL, *quoted = addr_quote(arena, raws[i]);
        struct slice rest;
        char *path = arena_printf(arena, "<%s>", quoted);
        if (addr_parse_path(arena, slice_from(path), true, false, &raw, &rest, &err) < 0)
            fail_msg("%s: %s", path, err.text);
        assert_string_equal(raw, raws[i]);
    }
    assert_string_equal(addr_quote(arena, "a b@c"), "\"a b\"@c");
    arena_free(&arena);
}

static void
test_hostnames(void **state)
{
    (void)state;
    assert_true(addr_is_hostname(slice_from("a.b-c.test")));
    assert_true(addr_is_hostname(slice_from("a.")));
    assert_false(addr_is_hostname(slice_from("")));
    assert_false(addr_is_hostname(slice_from("a..b")));
    assert_false(addr_is_hostname(slice_from("-a.b")));
    assert_false(addr_is_hostname(slice_from("a-.b")));
    assert_false(addr_is_hostname(slice_from("a b")));
    assert_true(addr_is_site(slice_from("a.b")));
    assert_true(addr_is_site(slice_from("1.b")));
    assert_true(addr_is_site(slice_from("[192.0.2.1]")));
    assert_false(addr_is_site(slice_from("192.0.2.1")));
    assert_false(addr_is_site(slice_from("a.")));
    assert_false(addr_is_site(slice_from("")));
    assert_false(addr_is_hostname(slice_from("0123456789012345678901234567890123456789012345678901234567890123.a")));
    assert_true(addr_is_literal(slice_from("[127.0.0.1]")));
    assert_true(addr_is_literal(slice_from("[IPv6:::1]")));
    assert_false(addr_is_literal(slice_from("[::1]")));
    assert_false(addr_is_literal(slice_from("[1.2.3]")));
    assert_false(addr_is_literal(slice_from("127.0.0.1")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_long_parts_are_refused),
        cmocka_unit_test(test_quoting_comes_back),
        cmocka_unit_test(test_hostnames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
