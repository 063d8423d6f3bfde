/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/mail/bounce_log.h"

static const struct bounce_log_entry one = {
    "e v@far.test",
    "first@far.test",
    741,
    "rfc822;first@far.test",
    12,
    "4.2.0",
    "delayed",
    "smtp",
    "451 4.2.0 later",
    "dns",
    "127.0.0.1",
    "host 127.0.0.1[127.0.0.1] said: 451 4.2.0 later (in reply to RCPT TO command)"};

static const char text[] =
    "\n<\"e v\"@far.test>: host 127.0.0.1[127.0.0.1] said: 451 4.2.0 later (in reply to RCPT TO command)\n"
    "recipient=\"e v\"@far.test\noriginal_recipient=first@far.test\noffset=741\ndsn_orig_rcpt=rfc822;first@far.test\n"
    "notify_flags=12\nstatus=4.2.0\naction=delayed\ndiag_type=smtp\ndiag_text=451 4.2.0 later\nmta_type=dns\n"
    "mta_mname=127.0.0.1\nreason=host 127.0.0.1[127.0.0.1] said: 451 4.2.0 later (in reply to RCPT TO command)\n\n";

static void
assert_same(const struct bounce_log_entry *a, const struct bounce_log_entry *b)
{
    assert_string_equal(a->recipient, b->recipient);
    assert_string_equal(a->original, b->original);
    assert_int_equal(a->offset, b->offset);
    assert_string_equal(a->dsn_original, b->dsn_original);
    assert_int_equal(a->notify, b->notify);
    assert_string_equal(a->status, b->status);
    assert_string_equal(a->action, b->action);
    assert_string_equal(a->diag_type, b->diag_type);
    assert_string_equal(a->diag_text, b->diag_text);
    assert_string_equal(a->mta_type, b->mta_type);
    assert_string_equal(a->mta_name, b->mta_name);
    assert_string_equal(a->reason, b->reason);
}

static void
test_form_is_postfix_form(void **state)
{
    struct buf out = {0};

    (void)state;
    bounce_log_format(&one, true, &out);
    assert_string_equal(buf_text(&out), text);
    buf_release(&out);
}

static void
test_what_was_written_is_read(void **state)
{
    struct arena *arena = arena_new();
    struct bounce_log_entry entries[3] = {one, one, one}, *read;
    struct buf out = {0};
    size_t count;

    (void)state;
    entries[1].recipient = "";
    entries[1].original = "";
    entries[2].reason = "two\nlines";
    for (unsigned i = 0; i < 3; i++)
        bounce_log_format(&entries[i], i != 1, &out);
    read = bounce_log_parse(arena, buf_slice(&out), "4.0.0", "delayed", &count);
    assert_int_equal(count, 3);
    assert_same(&read[0], &one);
    assert_string_equal(read[1].recipient, "");
    assert_string_equal(read[2].reason, "two?lines");
    buf_release(&out);
    arena_free(&arena);
}

static void
test_odd_logs(void **state)
{
    static const struct {
        const char *in;
        size_t count;
        const char *recipient, *reason, *status;
    } rows[] = {
        {"", 0, NULL, NULL, NULL},
        {"\n\n\n", 0, NULL, NULL, NULL},
        {"nonsense\n\nreason=without recipient\n\n", 0, NULL, NULL, NULL},
        {"<a@b>: why: so\n", 1, "a@b", "why: so", "4.0.0"},
        {"recipient=a@b", 1, "a@b", "", "4.0.0"},
        {"recipient = a@b \nnew_name=1\nstatus=4.4.4\nno equals\n\n", 1, "a@b", "", "4.4.4"},
        {"recipient=<>\nreason=x\n\n", 1, "", "x", "4.0.0"},
        {"=\n<\n<x\n<>: \n", 1, "", "", "4.0.0"},
        {"recipient=a@b\noffset=99999999999999999999\nnotify_flags=-1\n\n", 1, "a@b", "", "4.0.0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena *arena = arena_new();
        size_t count;
        struct bounce_log_entry *read = bounce_log_parse(arena, slice_from(rows[i].in), "4.0.0", "delayed", &count);

        assert_int_equal(count, rows[i].count);
        if (count > 0) {
            assert_string_equal(read[0].recipient, rows[i].recipient);
            assert_string_equal(read[0].reason, rows[i].reason);
            assert_string_equal(read[0].status, rows[i].status);
        }
        arena_free(&arena);
    }
}

static void
test_file_holds_the_last_attempt(void **state)
{
    char path[] = "/tmp/test_bounce_log.XXXXXX";
    struct arena *arena = arena_new();
    struct bounce_log_entry two[2] = {one, one}, *read;
    int fd = mkstemp(path);
    size_t count;
    struct err err;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(bounce_log_write(AT_FDCWD, path, two, 2, true, &err), 0);
    assert_int_equal(bounce_log_write(AT_FDCWD, path, &one, 1, true, &err), 0);
    assert_int_equal(bounce_log_read(AT_FDCWD, path, arena, "4.0.0", "delayed", &read, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_same(read, &one);
    unlink(path);
    assert_int_equal(bounce_log_read(AT_FDCWD, path, arena, "4.0.0", "delayed", &read, &count, &err), 0);
    assert_int_equal(count, 0);
    close(fd);
    arena_free(&arena);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form_is_postfix_form),
        cmocka_unit_test(test_what_was_written_is_read),
        cmocka_unit_test(test_odd_logs),
        cmocka_unit_test(test_file_holds_the_last_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
