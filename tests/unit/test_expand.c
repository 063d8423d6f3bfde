/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/expand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/base/arena.h"

static const struct {
    const char *name, *value;
} values[] = {
    {"a", "1, 2"},    {"empty", ""},    {"b", "<$a>"},        {"self", "x$self"}, {"one", "$two"},
    {"two", "$one"},  {"level", "3.6"}, {"stress", ""},       {"dollar", "$$a"},  {"nested", "${empty:${a}}"},
    {"d0", "$d1$d1"}, {"d1", "$d2$d2"}, {"d2", "$d3$d3"},     {"d3", "$d4$d4"},   {"d4", "$d5$d5"},
    {"d5", "$d6$d6"}, {"d6", "$d7$d7"}, {"d7", "$d8$d8"},     {"d8", "$d9$d9"},   {"d9", "$e0$e0"},
    {"e0", "$e1$e1"}, {"e1", "$e2$e2"}, {"e2", "$e3$e3"},     {"e3", "$e4$e4"},   {"e4", "$e5$e5"},
    {"e5", "$e6$e6"}, {"e6", "$e7$e7"}, {"e7", "0123456789"},
};

static int
value(void *ctx, struct slice name, struct slice *out, struct err *err)
{
    (void)ctx;
    (void)err;
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        if (slice_equal_text(name, values[i].name))
            *out = slice_from(values[i].value);
    return 0;
}

/* want NULL: an error, whose text contains `error`. Results were compared with Postfix's postconf -x. */
static const struct row {
    const char *text, *want, *error;
} rows[] = {
    {"", "", NULL},
    {"plain text", "plain text", NULL},
    {"$a x", "1, 2 x", NULL},
    {"${a}$(a)", "1, 21, 2", NULL},
    {"$b", "<1, 2>", NULL},
    {"$nosuch.", ".", NULL},
    {"$$ a$$b", "$ a$b", NULL},
    {"$dollar", "$a", NULL},
    {"$a.b $a-b", "1, 2.b 1, 2-b", NULL},
    {"${ a }", "1, 2", NULL},
    {"${a?yes} ${nosuch?no} ${nosuch:dflt} ${a:ZZ}", "yes  dflt ", NULL},
    {"${a?{A}:{B}} ${nosuch?{A}:{B}} ${empty?{A}:{B}}", "A B B", NULL},
    {"${a ? {x} : {y}}", "x", NULL},
    {"r${a? x }.${a? {x} }.${nosuch: y }.${a?{ x }}.", "r x .x. y . x .", NULL},
    {"${a?x:y}", "x:y", NULL},
    {"${a?$a?q}", "1, 2?q", NULL},
    {"${nosuch:${a?{1}:{2}}}", "1", NULL},
    {"$nested", "1, 2", NULL},
    {"${a?$(a)}", "1, 2", NULL},
    {"$(a?x)", "x", NULL},
    {"${{1} == {1} ? {x} : {y}} ${{1}<{2}?{lt}:{ge}}", "x lt", NULL},
    {"${{abc} < {abd} ? {lt} : {ge}} ${{10} < {9} ? {lt} : {ge}}", "lt ge", NULL},
    {"${{10}>={9}?{y}}${{9}<={9}?{y}}${{9}!={9}?{n}:{y}}${{9}>{10}?{n}:{y}}", "yyyy", NULL},
    {"${{1}=={2}?{t}}.${{10}<{9}?lt}.", "..", NULL},
    {"${{1} == {1}}${{1} == {2}}", "true", NULL},
    {"${{} == {$empty} ? {1} : {2}}", "1", NULL},
    {"${{$a} == {1, 2} ? {same}}", "same", NULL},
    {"${{3.10} >=level {3.9} ? {newer} : {older}}", "newer", NULL},
    {"${{$level} <level {1} ? {n} : {y}}", "y", NULL},
    {"${{3} ==level {3.0.0} ? {y}}", "y", NULL},
    {"${{$level} <level {x} ? {n} : {y}}", NULL, "malformed compatibility level syntax: \"x\""},
    {"${{1} = {1} ? {x} : {y}}", NULL, "expected at"},
    {"${{1} == 1 ? {x}}", NULL, "expected at"},
    {"${a?{x}:y}", "x", NULL},
    {"${a?{x}y}", NULL, "\":\" expected at"},
    {"${a?{x}:{y}z}", NULL, "syntax error at"},
    {"${a b}", NULL, "syntax error at"},
    {"${a.b}", NULL, "syntax error at"},
    {"$-", NULL, "empty macro name"},
    {"x$", NULL, "empty macro name"},
    {"${}", NULL, "empty macro name: \"${}\""},
    {"${?x}", NULL, "empty macro name"},
    {"${a", NULL, "truncated macro reference"},
    {"$(a}", NULL, "truncated macro reference"},
    {"${a?x{y} z", NULL, "truncated macro reference"},
    {"$self", NULL, "unreasonable macro call nesting"},
    {"${one?x}", NULL, "unreasonable macro call nesting"},
    {"$d0", NULL, "unreasonable macro call nesting"}, /* 2^18 steps */
};

static void
test_rows(void **state)
{
    const struct expand_source source = {.value = value};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = {0};
        struct err err = {.kind = ERR_NONE};
        int result = expand_text(&source, slice_from(rows[i].text), &out, &err);
        if (result != (rows[i].want ? 0 : -1))
            fail_msg("%s: got %d %s", rows[i].text, result, result < 0 ? err.text : buf_text(&out));
        if (rows[i].want && strcmp(buf_text(&out), rows[i].want) != 0)
            fail_msg("%s: got \"%s\", want \"%s\"", rows[i].text, buf_text(&out), rows[i].want);
        if (!rows[i].want && !strstr(err.text, rows[i].error))
            fail_msg("%s: got error \"%s\", want \"%s\"", rows[i].text, err.text, rows[i].error);
        buf_release(&out);
    }
}

static void
test_final_values_are_not_expanded(void **state)
{
    const struct expand_source source = {.value = value, .final = true};
    struct buf out = {0};
    (void)state;
    assert_int_equal(expand_text(&source, slice_from("$b $dollar"), &out, NULL), 0);
    assert_string_equal(buf_text(&out), "<$a> $$a");
    buf_release(&out);
}

static void
collect(void *ctx, struct slice name)
{
    buf_printf(ctx, "%.*s ", SLICE_ARG(name));
}

static void
test_names_of_all_branches(void **state)
{
    struct buf names = {0};
    struct err err;
    (void)state;
    assert_int_equal(expand_names(slice_from("$a ${b?$c:x} ${d?{$e}:{${f}}} ${{$g} == {h} ? {$i} : {$(j)}} $$k"),
                                  collect, &names, &err),
                     0);
    assert_string_equal(buf_text(&names), "a b c d e f g i j ");
    assert_int_equal(expand_names(slice_from("$a ${"), collect, &names, &err), -1);
    buf_release(&names);
}

static void
test_deep_nesting_is_refused(void **state)
{
    const struct expand_source source = {.value = value};
    struct buf text = {0}, out = {0};
    struct err err;
    (void)state;
    for (unsigned i = 0; i < 5000; i++)
        buf_append_text(&text, "${a?{");
    for (unsigned i = 0; i < 5000; i++)
        buf_append_text(&text, "}}");
    assert_int_equal(expand_text(&source, buf_slice(&text), &out, &err), -1);
    assert_non_null(strstr(err.text, "nesting"));
    buf_release(&text);
    buf_release(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_final_values_are_not_expanded),
        cmocka_unit_test(test_names_of_all_branches),
        cmocka_unit_test(test_deep_nesting_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
