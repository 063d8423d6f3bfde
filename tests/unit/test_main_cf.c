/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/main_cf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/conf/cf_file.h"

static int
append_entry(void *ctx, unsigned line, const char *name, const char *value, struct err *err)
{
    (void)err;
    buf_printf(ctx, "%u:%s=%s|", line, name, value);
    return 0;
}

static void
append_warning(void *ctx, const char *text)
{
    buf_printf(ctx, "!%s|", text);
}

/* want: entries as "line:name=value|", warnings as "!text|"; an error as "text". */
static const struct {
    const char *text, *want;
} parse_rows[] = {
    {"", ""},
    {"\n\n# only a comment", ""},
    {"a = 1", "1:a=1|"},
    {"a=1\nb=2\n", "1:a=1|2:b=2|"},
    {"a\t=\t1  \n", "1:a=1|"},
    {"a =", "1:a=|"},
    {"a = b = c", "1:a=b = c|"},
    {"a = 1,\n  2\n", "1:a=1,  2|"},
    {"a =\n  1\n\t2", "1:a=1\t2|"},
    {"a = 1\n# comment\n\n   \n  # another\n  2\nb = 3", "1:a=1  2|7:b=3|"},
    {"a = 1 # no comment\n", "1:a=1 # no comment|"},
    {"  a = 1\nb = 2", "!main.cf, line 1: logical line must not start with whitespace: \"  a = 1\"|2:b=2|"},
    {"a = 1\na = 2", "1:a=1|2:a=2|"},
    {"a b = 1", "main.cf, line 1: missing '=' after attribute name: \"a b = 1\""},
    {"x = y\n\nnothing", "main.cf, line 3: missing '=' after attribute name: \"nothing\""},
    {"= 1", "main.cf, line 1: missing attribute name: \"= 1\""},
    {"a = 1\r\n", "1:a=1|"},
};

static void
test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(parse_rows); i++) {
        struct arena *arena = arena_new();
        struct buf got = {0};
        struct main_cf_sink sink = {.entry = append_entry, .warning = append_warning, .ctx = &got};
        struct err err;
        if (main_cf_parse(arena, "main.cf", slice_from(parse_rows[i].text), &sink, &err) < 0) {
            buf_clear(&got);
            buf_append_text(&got, err.text);
        }
        if (strcmp(buf_text(&got), parse_rows[i].want) != 0)
            fail_msg("\"%s\": got \"%s\", want \"%s\"", parse_rows[i].text, buf_text(&got), parse_rows[i].want);
        buf_release(&got);
        arena_free(&arena);
    }
}

static const struct {
    const char *text, *name, *value; /* name NULL: an error */
} split_rows[] = {
    {"a=b", "a", "b"},           {" a = b c ", "a", "b c"},   {"{a=b}", "a", "b"},     {"{ a = b } ", "a", "b"},
    {"{ a = {b} }", "a", "{b}"}, {"{a} = {b}", "{a}", "{b}"}, {"a = {b}", "a", "{b}"}, {"a=", "a", ""},
    {"a", NULL, NULL},           {"a b", NULL, NULL},         {"=b", NULL, NULL},      {"", NULL, NULL},
    {"{}", NULL, NULL},
};

static void
test_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(split_rows); i++) {
        struct arena *arena = arena_new();
        const char *name = NULL, *value = NULL;
        struct err err;
        int result = main_cf_split(arena, slice_from(split_rows[i].text), &name, &value, &err);
        if (result != (split_rows[i].name ? 0 : -1))
            fail_msg("\"%s\": got %d", split_rows[i].text, result);
        if (result == 0) {
            assert_string_equal(name, split_rows[i].name);
            assert_string_equal(value, split_rows[i].value);
        }
        arena_free(&arena);
    }
}

static const char sample[] = "# top\na = 1\n  2\n# in\n  3\n\nb = x\na=second\n#a = old\nc = z\n";

static const struct {
    enum main_cf_action action;
    const char *name, *value, *want;
} edit_rows[] = {
    {MAIN_CF_SET, "a", "new", "# top\na = new\n# in\n\nb = x\na = new\n#a = old\nc = z\n"},
    {MAIN_CF_SET, "c", "", "# top\na = 1\n  2\n# in\n  3\n\nb = x\na=second\n#a = old\nc = \n"},
    {MAIN_CF_SET, "n", "v w", "# top\na = 1\n  2\n# in\n  3\n\nb = x\na=second\n#a = old\nc = z\nn = v w\n"},
    {MAIN_CF_COMMENT_OUT, "a", NULL, "# top\n#a = 1\n#  2\n# in\n#  3\n\nb = x\n#a=second\n#a = old\nc = z\n"},
    {MAIN_CF_REMOVE, "a", NULL, "# top\n# in\n\nb = x\n#a = old\nc = z\n"},
    {MAIN_CF_REMOVE, "nosuch", NULL, sample},
};

static void
test_edit(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(edit_rows); i++) {
        struct main_cf_change change = {
            .name = edit_rows[i].name, .value = edit_rows[i].value, .action = edit_rows[i].action};
        struct buf out = {0};
        main_cf_edit(slice_from(sample), &change, 1, &out);
        assert_string_equal(buf_text(&out), edit_rows[i].want);
        buf_release(&out);
    }
}

/* A file without an end of its last line gets one before something is added. */
static void
test_edit_without_last_newline(void **state)
{
    struct main_cf_change change = {.name = "b", .value = "2", .action = MAIN_CF_SET};
    struct buf out = {0};
    (void)state;
    main_cf_edit(slice_from("a = 1"), &change, 1, &out);
    assert_string_equal(buf_text(&out), "a = 1\nb = 2\n");
    buf_release(&out);
}

static void
write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void
test_file_is_replaced_whole_and_keeps_its_mode(void **state)
{
    char directory[] = "/tmp/test_main_cf.XXXXXX";
    struct arena *arena = arena_new();
    struct cf_edit edit;
    struct slice content;
    struct stat st;
    struct err err;
    (void)state;

    assert_non_null(mkdtemp(directory));
    const char *path = arena_printf(arena, "%s/main.cf", directory), *link = arena_printf(arena, "%s/link", directory);
    write_text(path, "a = 1\n");
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink("main.cf", link), 0);

    assert_int_equal(cf_edit_begin(&edit, arena, link, &err), 0);
    assert_true(slice_equal_text(edit.content, "a = 1\n"));
    assert_int_equal(cf_edit_commit(&edit, slice_from("b = 2\n"), &err), 0);

    assert_int_equal(cf_file_read(arena, path, &content, &err), 0);
    assert_true(slice_equal_text(content, "b = 2\n"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(access(arena_printf(arena, "%s.tmp", path), F_OK), -1);

    assert_int_equal(cf_edit_begin(&edit, arena, path, &err), 0);
    cf_edit_abandon(&edit);
    assert_int_equal(cf_edit_begin(&edit, arena, arena_printf(arena, "%s/none", directory), &err), -1);
    unlink(link);
    unlink(path);
    rmdir(directory);
    arena_free(&arena);
}

static void
test_file_with_nul_is_refused(void **state)
{
    char path[] = "/tmp/test_main_cf.XXXXXX";
    struct arena *arena = arena_new();
    struct slice content;
    struct err err;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a = \0b\n", 7), 7);
    close(fd);
    assert_int_equal(cf_file_read(arena, path, &content, &err), -1);
    assert_non_null(strstr(err.text, "NUL"));
    unlink(path);
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_edit),
        cmocka_unit_test(test_edit_without_last_newline),
        cmocka_unit_test(test_file_is_replaced_whole_and_keeps_its_mode),
        cmocka_unit_test(test_file_with_nul_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
