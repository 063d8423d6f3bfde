/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table: what patterns' texts are, how addresses are looked up, errors that are no answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/table/maps.h"
#include "lib/table/net_tree.h"
#include "lib/table/pattern_literal.h"
#include "lib/table/table.h"
#include "lib/table/table_text.h"
#include "tests/unit/with_tables.h"

static void
test_texts_of_patterns(void **state)
{
    static const struct {
        const char *pattern;
        enum pattern_dialect dialect;
        const char *want; /* texts with | between; "" : nothing is known */
    } rows[] = {
        {"^Subject: Win", PATTERN_PERL, "subject: win"},
        {"abc.*defg", PATTERN_PERL, "defg"},
        {"ab", PATTERN_PERL, ""},
        {"abcd?", PATTERN_PERL, "abc"},
        {"abcd*", PATTERN_POSIX, "abc"},
        {"abcd+e", PATTERN_PERL, "abcd"},
        {"abcd+?e", PATTERN_POSIX, "abc"},
        {"abcd{0,2}", PATTERN_PERL, "abc"},
        {"(?:foo|barx)@", PATTERN_PERL, "foo|barx"},
        {"(foo|ba)@example", PATTERN_PERL, "@example"},
        {"(foobar)?@exa", PATTERN_PERL, "@exa"},
        {"on|three", PATTERN_PERL, ""},
        {"one|three", PATTERN_POSIX, "one|three"},
        {"foo\\.com", PATTERN_PERL, "foo.com"},
        {"foo\\dbar", PATTERN_PERL, "foo"},
        {"(?i)foobar", PATTERN_PERL, ""},
        {"(?!foobar)x", PATTERN_PERL, ""},
        {"\\x41bcdef", PATTERN_PERL, ""},
        {"\\Qfoo\\E", PATTERN_PERL, ""},
        {"[abc]defg[]]hijkl", PATTERN_PERL, "hijkl"},
        {"([a[:b]|foo[x:]bar)", PATTERN_PERL, ""},
        {"[[:alpha:]]+xyz", PATTERN_POSIX, "xyz"},
        {"[^]]xyz", PATTERN_POSIX, "xyz"},
        {"foo\\<bar", PATTERN_POSIX, "foo"},
        {"*abc", PATTERN_POSIX, ""},
        {"(abc", PATTERN_PERL, ""},
        {"abc)", PATTERN_PERL, ""},
        {"", PATTERN_PERL, ""},
        {"abc|", PATTERN_PERL, ""},
        {"caf\xc3\xa9ine", PATTERN_PERL, "caf"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern_literals texts;
        struct buf all = {0};
        pattern_literals(arena, slice_from(rows[i].pattern), rows[i].dialect, &texts);
        for (unsigned n = 0; n < texts.count; n++)
            buf_printf(&all, "%s%.*s", n ? "|" : "", SLICE_ARG(texts.text[n]));
        if (rows[i].want[0] && strcmp(buf_text(&all), rows[i].want) != 0 && texts.count > 0)
            fail_msg("%s: %s", rows[i].pattern, buf_text(&all));
        assert_int_equal(texts.count > 0, rows[i].want[0] != '\0');
        buf_release(&all);
    }
}

static void
test_folding(void **state)
{
    static const struct {
        const char *text, *folded;
        bool utf8;
    } rows[] = {{"AbC", "abc", false},
                {"\xc3\x84x", "\xc3\xa4x", true},
                {"\xc3\x84X", "\xc3\x84x", false},
                {"\xd0\x96", "\xd0\xb6", true},
                {"\xffZ", "\xffz", true},
                {"", "", true},
                {"\xf0\x90\x90\x80", "\xf0\x90\x90\xa8", true}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice got = table_fold(arena, slice_from(rows[i].text), rows[i].utf8);
        assert_true(slice_equal_text(got, rows[i].folded));
    }
}

static int
is_ours(void *ctx, struct slice domain, bool *ours, struct err *err)
{
    (void)ctx, (void)err;
    *ours = slice_equal_text(domain, "our.test");
    return 0;
}

static void
test_addresses(void **state)
{
    static const struct {
        const char *maps, *address;
        unsigned forms;
        const char *value, *extension;
    } rows[] = {
        {"inline:{u+x@our.test=1, u@our.test=2}", "u+x@our.test", MAPS_FULL, "1", ""},
        {"inline:{u@our.test=2}", "u+x@our.test", MAPS_FULL, "2", "+x"},
        {"inline:{u@our.test=2}", "U+X@OUR.test", MAPS_FULL, "2", "+X"},
        {"inline:{u=3}", "u+x@our.test", MAPS_FULL | MAPS_LOCAL, "3", "+x"},
        {"inline:{u=3}", "u+x@far.test", MAPS_FULL | MAPS_LOCAL, NULL, ""},
        {"inline:{@far.test=4}", "u+x@far.test", MAPS_FULL | MAPS_LOCAL | MAPS_DOMAIN, "4", ""},
        {"inline:{far.test=5}", "u@far.test", MAPS_BARE, "5", ""},
        {"inline:{.far.test=6}", "u@a.far.test", MAPS_BARE, "6", ""},
        {"inline:{far.test=6}", "u@a.far.test", MAPS_BARE, NULL, ""},
        {"inline:{far.test=6}", "u@a.far.test", MAPS_BARE | MAPS_SUBDOMAINS, "6", ""},
        {"inline:{u@=7}", "u+x@far.test", MAPS_USER_AT, "7", "+x"},
        {"inline:{owner-l@our.test=8}", "owner-l@our.test", MAPS_FULL, "8", ""},
        {"regexp:{{/^u@/ 9}}", "u+x@our.test", MAPS_FULL | MAPS_DOMAIN, NULL, ""},
        {"inline:{@our.test=10}, inline:{u@our.test=11}", "u@our.test", MAPS_FULL | MAPS_DOMAIN, "11", ""},
    };
    const struct maps_ours ours = {is_ours, NULL};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        const char *value, *extension;
        struct maps *maps = maps_new(arena, conf, "x_maps", rows[i].maps, TABLE_FOLD, &err);
        assert_non_null(maps);
        assert_int_equal(maps_find_address(maps, arena, slice_from(rows[i].address), "+", rows[i].forms, &ours, &value,
                                           &extension, &err),
                         0);
        if (!value != !rows[i].value || (value && strcmp(value, rows[i].value) != 0) ||
            strcmp(extension, rows[i].extension) != 0)
            fail_msg("%s in %s: %s, %s", rows[i].address, rows[i].maps, value, extension);
    }
}

/* owner-list and list-request: whole names, or not (owner_request_special). */
static void
test_names_of_lists(void **state)
{
    static const struct {
        const char *main_cf, *address, *value;
    } rows[] = {
        {"", "owner-l@our.test", NULL},
        {"", "l-request@our.test", NULL},
        {"", "l-x@our.test", "list"},
        {"owner_request_special = no\n", "owner-l@our.test", "owner"},
        {"owner_request_special = no\n", "l-request@our.test", "list"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err;
        const char *value, *extension;
        struct conf *own = conf_from_text("/nonexistent", slice_from(rows[i].main_cf), &err);
        assert_non_null(own);
        struct maps *maps = maps_new(arena, own, "x_maps", "inline:{l@our.test=list, owner@our.test=owner}", 0, &err);
        assert_non_null(maps);
        assert_int_equal(maps_find_address(maps, arena, slice_from(rows[i].address), "-", MAPS_FULL, NULL, &value,
                                           &extension, &err),
                         0);
        if (!value != !rows[i].value || (value && strcmp(value, rows[i].value) != 0))
            fail_msg("row %zu, %s: %s", i, rows[i].address, value ? value : "none");
        conf_free(&own);
    }
}

static void
test_an_error_is_not_an_answer(void **state)
{
    static const char *const maps[] = {"fail:x",
                                       "inline:{b=c}, fail:x",
                                       "hash:/nonexistent/x",
                                       "nosuch:x",
                                       "mysql:",
                                       "pipemap:{inline:{a=b},fail:x}",
                                       "unionmap:{inline:{a=b},fail:x}",
                                       "regexp:/",
                                       "texthash:/nonexistent"};

    (void)state;
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct err err;
        const char *value = "x";
        struct maps *list = maps_new(arena, conf, "x_maps", maps[i], TABLE_FOLD, &err);
        assert_non_null(list);
        assert_int_equal(maps_find(list, arena, slice_from("a"), &value, &err), -1);
        assert_int_equal(err.kind, ERR_TEMP);
        assert_non_null(strstr(err.text, "x_maps"));
    }
}

struct seen {
    unsigned numbers[10], count;
};

static bool
note(void *ctx, unsigned number)
{
    struct seen *seen = ctx;

    seen->numbers[seen->count++] = number;
    return true;
}

static void
test_networks(void **state)
{
    static const char *const networks[] = {"10.0.0.0/8",  "10.1.0.0/16", "0.0.0.0/0",     "10.1.2.3",
                                           "10.1.0.0/16", "::/0",        "2001:db8::/32", "10.1.2.2"};
    static const struct {
        const char *address, *want;
    } rows[] = {
        {"10.1.2.3", "2 0 1 4 3 "}, {"10.2.0.0", "2 0 "}, {"192.0.2.1", "2 "}, {"2001:db8::1", "5 6 "}, {"::", "5 "}};
    struct net_tree *tree = net_tree_new(arena);
    struct net_prefix prefix;
    struct err err;

    (void)state;
    for (unsigned i = 0; i < sizeof networks / sizeof *networks; i++) {
        assert_int_equal(net_prefix_parse(slice_from(networks[i]), &prefix, &err), 0);
        net_tree_add(tree, &prefix, i);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct seen seen = {0};
        struct buf got = {0};
        assert_true(net_address_parse(slice_from(rows[i].address), &prefix));
        net_tree_find(tree, &prefix, note, &seen);
        for (unsigned n = 0; n < seen.count; n++)
            buf_printf(&got, "%u ", seen.numbers[n]);
        assert_string_equal(buf_text(&got), rows[i].want);
        buf_release(&got);
    }
    assert_int_equal(net_prefix_parse(slice_from("10.0.0.1/8"), &prefix, &err), -1);
    assert_non_null(strstr(err.text, "10.0.0.0/8"));
}

static void
test_refused(void **state)
{
    struct err err;

    (void)state;
    assert_null(table_open(conf, "pcre:{{/(a)/ $$1}}", TABLE_NO_REGSUB, &err) ? NULL : "refused");
    assert_null(table_open(conf, "pcre:{{/(a)/ $1}}", TABLE_NO_REGSUB, &err));
    assert_non_null(strstr(err.text, "substitution is not allowed"));
}

/* Tables live as long as the process, also those of a list whose arena a test has freed. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
    return "leak:environ_open";
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_of_patterns), cmocka_unit_test(test_folding),
        cmocka_unit_test(test_addresses),         cmocka_unit_test(test_names_of_lists),
        cmocka_unit_test(test_an_error_is_not_an_answer),
        cmocka_unit_test(test_networks),          cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
