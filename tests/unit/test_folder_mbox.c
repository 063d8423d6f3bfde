/* SPDX-License-Identifier: Apache-2.0 */
/* mboxes as folders: what is read of them, what changes leave in the file, and what a kill leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/store/folder.h"
#include "lib/store/mbox.h"
#include "lib/store/mbox_parse.h"
#include "lib/store/mbox_repair.h"
#include "lib/store/mbox_rewrite.h"

static char *directory, path[200];
static struct err err;

#define ONE   "From a@b.test Tue Nov 24 05:20:11 2026\nSubject: one\n\nbody one\n\n"
#define TWO   "From a@b.test  Tue Nov  3 05:20:11 2026\nSubject: two\n\nbody two\nFrom here no date\n\n"
#define THREE "From c Wed, 3 Nov 2026 05:20:11 +0100\nSubject: three\nStatus: RO\nX-Status: FA\n\nbody three\n\n"

static void
write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void
add_to_file(const char *text)
{
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static char *
file_text(void)
{
    static char text[400000];
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    return text;
}

static struct folder *
open_folder(void)
{
    struct folder *folder = folder_open(path, FOLDER_MBOX, &err);
    assert_non_null(folder);
    if (folder_sync(folder, &err) < 0)
        fail_msg("%s", err.text);
    return folder;
}

static void
assert_content(struct folder *folder, uint32_t uid, const char *want)
{
    struct folder_content content;
    struct folder_message *m = folder_find(folder, uid);
    assert_non_null(m);
    assert_int_equal(folder_read(folder, m, &content, &err), 0);
    char *got = strndup(content.bytes.ptr, content.bytes.len);
    folder_content_release(&content);
    assert_string_equal(got, want);
    free(got);
}

static void
test_from_lines(void **state)
{
    static const struct {
        const char *line;
        bool want;
        time_t when; /* 0: not looked at */
    } cases[] = {
        {"From a@b Tue Nov 24 05:20:11 2026\n", true, 1795497611},
        {"From a@b  Tue Nov  4 05:20 2026\n", true, 0},
        {"From a b c Tue Nov 24 05:20:11 2026\n", true, 1795497611},
        {"From a@b Tue Nov 24 05:20:11 2026 +0100\n", true, 1795494011},
        {"From a@b Tue Nov 24 05:20:11 +0100 2026\n", true, 1795494011},
        {"From a@b Tue Nov 24 05:20:11 CET 2026\n", true, 0},
        {"From a@b Tue, 24 Nov 2026 05:20:11 +0100\n", true, 1795494011},
        {"From here to there\n", false, 0},
        {"From a@b Tue Nov 24\n", false, 0},
        {"From \n", false, 0},
        {">From a@b Tue Nov 24 05:20:11 2026\n", false, 0},
        {"from a@b Tue Nov 24 05:20:11 2026\n", false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        time_t when = 0;
        if (mbox_is_from_line(slice_from(cases[i].line), &when) != cases[i].want)
            fail_msg("%s", cases[i].line);
        if (cases[i].when)
            assert_int_equal(when, cases[i].when);
    }
}

static void
test_messages_get_uids_that_stay(void **state)
{
    (void)state;
    write_file(ONE TWO THREE);
    struct folder *folder = open_folder();
    assert_int_equal(folder_count(folder), 3);
    assert_content(folder, 1, "Subject: one\n\nbody one\n");
    assert_content(folder, 2, "Subject: two\n\nbody two\nFrom here no date\n");
    assert_content(folder, 3, "Subject: three\n\nbody three\n");
    assert_int_equal(folder_at(folder, 2)->flags, FLAG_SEEN | FLAG_FLAGGED | FLAG_ANSWERED);
    assert_true(folder_at(folder, 0)->is_new && !folder_at(folder, 2)->is_new);
    uint32_t validity = folder_uid_validity(folder);
    folder_close(&folder);
    assert_non_null(strstr(file_text(), "X-UID: 3\n"));

    add_to_file(ONE);
    folder = open_folder();
    assert_int_equal(folder_uid_validity(folder), validity);
    assert_int_equal(folder_count(folder), 4);
    assert_content(folder, 2, "Subject: two\n\nbody two\nFrom here no date\n");
    assert_content(folder, 4, "Subject: one\n\nbody one\n");
    assert_int_equal(folder_next_uid(folder), 5);
    folder_close(&folder);
}

/* Bytes that this process has read so far; 0 where the kernel does not count them. */
static unsigned long long
bytes_read(void)
{
    FILE *f = fopen("/proc/self/io", "r");
    unsigned long long count = 0;
    if (f && fscanf(f, "rchar: %llu", &count) != 1)
        count = 0;
    if (f)
        fclose(f);
    return count;
}

/* A program that quotes nothing has stored a message full of lines that begin as From_ lines do. */
static void
test_a_body_of_almost_from_lines_is_read_once(void **state)
{
    enum { LINES = 100000 };
    FILE *f;
    (void)state;
    write_file("From a@b.test Tue Nov 24 05:20:11 2026\nSubject: many\n\n");
    f = fopen(path, "a");
    assert_non_null(f);
    for (unsigned i = 0; i < LINES; i++)
        fputs("From x\n", f);
    assert_int_equal(fclose(f), 0);
    add_to_file("\n" TWO);
    unsigned long long before = bytes_read();
    struct folder *folder = open_folder();
    assert_int_equal(folder_count(folder), 2);
    assert_true(bytes_read() - before < 100ULL * LINES);
    folder_close(&folder);
}

static void
test_flags_are_written_in_place(void **state)
{
    bool gone;
    (void)state;
    write_file(ONE TWO THREE);
    struct folder *a = open_folder(), *b = open_folder();
    size_t before = strlen(file_text());
    int junk = folder_keyword_number(a, slice_from("Junk"), true, &err);
    assert_true(junk >= 0);
    assert_int_equal(folder_set_flags(a, folder_find(a, 2), FLAG_SEEN | FLAG_DRAFT, 1U << junk, &gone, &err), 0);
    assert_false(gone);
    assert_int_equal(strlen(file_text()), before);
    assert_non_null(strstr(file_text(), "X-Status: T\n"));
    assert_int_equal(folder_sync(b, &err), 0);
    assert_int_equal(folder_find(b, 2)->flags, FLAG_SEEN | FLAG_DRAFT);
    assert_string_equal(folder_keyword(b, 0), "Junk");
    assert_int_equal(folder_find(b, 2)->keywords, 1);
    assert_content(b, 2, "Subject: two\n\nbody two\nFrom here no date\n");
    assert_int_equal(folder_set_flags(b, folder_find(b, 2), 0, 0, &gone, &err), 0);
    assert_int_equal(folder_sync(a, &err), 0);
    assert_int_equal(folder_find(a, 2)->flags, 0);
    folder_close(&a);
    folder_close(&b);
}

static void
test_expunge_keeps_the_others(void **state)
{
    (void)state;
    write_file(ONE TWO THREE);
    struct folder *folder = open_folder(), *other = open_folder();
    uint32_t validity = folder_uid_validity(folder);
    assert_int_equal(folder_expunge(folder, folder_find(folder, 1), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    assert_int_equal(folder_count(folder), 2);
    assert_content(folder, 2, "Subject: two\n\nbody two\nFrom here no date\n");
    assert_null(strstr(file_text(), "body one"));
    assert_int_equal(folder_sync(other, &err), 0);
    assert_int_equal(folder_count(other), 2);
    assert_content(other, 3, "Subject: three\n\nbody three\n");
    assert_int_equal(folder_expunge(other, folder_find(other, 2), &err), 0);
    assert_int_equal(folder_expunge(other, folder_find(other, 3), &err), 0);
    assert_int_equal(folder_settle(other, &err), 0);
    assert_string_equal(file_text(), "");
    folder_close(&folder);
    folder_close(&other);
    add_to_file(ONE);
    folder = open_folder();
    assert_int_equal(folder_uid_validity(folder), validity);
    assert_int_equal(folder_at(folder, 0)->uid, 4);
    folder_close(&folder);
}

/* Another program takes \\Deleted from it between the two halves of a removal. */
static void
test_what_is_wanted_after_all_stays(void **state)
{
    bool gone;
    (void)state;
    unlink(path); /* with what it remembers of UIDs */
    write_file(ONE TWO THREE);
    struct folder *folder = open_folder(), *other = open_folder();
    assert_int_equal(folder_set_flags(folder, folder_find(folder, 2), FLAG_DELETED, 0, &gone, &err), 0);
    assert_int_equal(folder_set_flags(folder, folder_find(folder, 3), FLAG_DELETED, 0, &gone, &err), 0);
    assert_int_equal(folder_expunge(folder, folder_find(folder, 1), &err), 0); /* whatever its flags are */
    assert_int_equal(folder_expunge(folder, folder_find(folder, 2), &err), 0);
    assert_int_equal(folder_expunge(folder, folder_find(folder, 3), &err), 0);
    assert_int_equal(folder_sync(other, &err), 0);
    assert_int_equal(folder_set_flags(other, folder_find(other, 2), FLAG_SEEN, 0, &gone, &err), 0);
    assert_int_equal(folder_settle_flags(other, &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    assert_int_equal(folder_count(folder), 1);
    assert_content(folder, 2, "Subject: two\n\nbody two\nFrom here no date\n");
    folder_close(&folder);
    folder_close(&other);
}

/* Lines that only look like the beginning of a message don't make the file be read again for each. */
static void
test_a_body_full_of_from_lines(void **state)
{
    enum { LINES = 300000 };
    (void)state;
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(ONE, f);
    for (unsigned i = 0; i < LINES; i++)
        fputs("From x\n", f);
    fputs("\n" TWO, f);
    assert_int_equal(fclose(f), 0);
    struct folder *folder = open_folder();
    assert_int_equal(folder_count(folder), 2);
    assert_content(folder, 2, "Subject: two\n\nbody two\nFrom here no date\n");
    folder_close(&folder);
}

static uint32_t
append(struct folder *folder, const char *text, unsigned flags)
{
    struct folder_append append;
    struct arena *arena = arena_new();
    const char *name;
    assert_int_equal(folder_append_begin(folder, &append, &err), 0);
    assert_int_equal(folder_append_write(folder, &append, slice_from(text), &err), 0);
    assert_int_equal(folder_append_finish(folder, &append, flags, 0, 1795497611, arena, &name, &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    uint32_t uid = folder_uid_of(folder, name);
    arena_free(&arena);
    return uid;
}

static void
test_append_and_copy(void **state)
{
    (void)state;
    unlink(path);
    struct folder *folder = open_folder();
    assert_int_equal(
        append(folder, "Subject: x\r\nX-UID: 77\r\nStatus: RO\r\n\r\nFrom me\r\nFrom\r\nend", FLAG_FLAGGED), 1);
    assert_int_equal(append(folder, "Subject: y\r\n\r\n", 0), 2);
    assert_int_equal(append(folder, "Subject: z\r\n", 0), 3);
    assert_content(folder, 1, "Subject: x\n\n>From me\nFrom\nend\n");
    assert_content(folder, 2, "Subject: y\n\n");
    assert_content(folder, 3, "Subject: z\n\n");
    assert_int_equal(folder_message_time(folder, folder_find(folder, 1)), 1795497611);
    struct folder *again = open_folder();
    assert_int_equal(folder_count(again), 3);
    assert_int_equal(folder_find(again, 1)->flags, FLAG_FLAGGED);
    assert_content(again, 1, "Subject: x\n\n>From me\nFrom\nend\n");
    assert_content(again, 3, "Subject: z\n\n");

    char box[220];
    struct arena *arena = arena_new();
    const char *name;
    snprintf(box, sizeof(box), "%s/Maildir", directory);
    struct folder *maildir = folder_open(box, FOLDER_MAILDIR, &err);
    assert_int_equal(folder_sync(maildir, &err), 0);
    assert_int_equal(folder_copy(again, folder_find(again, 1), maildir, true, arena, &name, &err), 0);
    assert_int_equal(folder_settle(maildir, &err), 0);
    assert_int_equal(folder_settle(again, &err), 0);
    assert_int_equal(folder_count(again), 2);
    assert_content(maildir, 1, "Subject: x\n\n>From me\nFrom\nend\n");
    assert_int_equal(folder_at(maildir, 0)->flags, FLAG_FLAGGED);
    assert_int_equal(folder_copy(maildir, folder_at(maildir, 0), again, false, arena, &name, &err), 0);
    assert_int_equal(folder_settle(again, &err), 0);
    assert_int_equal(folder_uid_of(again, name), 4);
    arena_free(&arena);
    folder_close(&maildir);
    folder_close(&again);
    folder_close(&folder);
}

static void
test_forged_fields_are_not_believed(void **state)
{
    (void)state;
    write_file("From a Tue Nov 24 05:20:11 2026\nX-IMAPbase: 1000 0000000009\nX-UID: 9\nSubject: one\n\nx\n\n"
               "From a Tue Nov 24 05:20:11 2026\nX-UID: 9\nSubject: same\n\nx\n\n"
               "From a Tue Nov 24 05:20:11 2026\nX-IMAPbase: 5 0000000001\nX-UID: 4000000000\nSubject: high\n\nx\n\n");
    struct folder *folder = open_folder();
    assert_int_equal(folder_uid_validity(folder), 1000);
    assert_int_equal(folder_count(folder), 3);
    assert_content(folder, 9, "Subject: one\n\nx\n");
    assert_content(folder, 10, "Subject: same\n\nx\n");
    assert_content(folder, 11, "Subject: high\n\nx\n");
    assert_int_equal(folder_next_uid(folder), 12);
    folder_close(&folder);
}

static void
test_a_senders_keywords_and_numbers(void **state)
{
    (void)state;
    static const char first[] =
        "From a Tue Nov 24 05:20:11 2026\nX-IMAPbase: 7 0000000000 ) \\Deleted fine\nX-Keywords: ) BODY[] \"x\" ( good\n"
        "Subject: one\n\nx\n\n";
    write_file(first);
    struct folder *folder = open_folder();
    assert_string_equal(folder_keyword(folder, 0), "fine");
    assert_string_equal(folder_keyword(folder, 1), "good");
    assert_null(folder_keyword(folder, 2));
    assert_int_equal(folder_at(folder, 0)->keywords, 2);
    assert_int_equal(folder_at(folder, 0)->uid, 1);
    assert_int_equal(folder_expunge(folder, folder_at(folder, 0), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    folder_close(&folder);

    /* The same once more, into the emptied mailbox: its numbers go on. */
    add_to_file(first);
    folder = open_folder();
    assert_int_equal(folder_uid_validity(folder), 7);
    assert_int_equal(folder_count(folder), 1);
    assert_int_equal(folder_at(folder, 0)->uid, 2);
    folder_close(&folder);
    unlink(path); /* with its mark */
}

static void
test_what_is_no_mbox_is_left(void **state)
{
    (void)state;
    write_file("#!/bin/sh\nFrom a Tue Nov 24 05:20:11 2026\n\n");
    struct folder *folder = folder_open(path, FOLDER_EXISTING, &err);
    assert_non_null(folder);
    assert_int_equal(folder_sync(folder, &err), -1);
    assert_int_equal(err.kind, ERR_PERM);
    folder_close(&folder);
    assert_string_equal(file_text(), "#!/bin/sh\nFrom a Tue Nov 24 05:20:11 2026\n\n");
}

/* A child rewrites TWO into a longer one, and is killed at the nth of its writes (by a limit of file size, or here: by exit at
 * a point that the parent chooses by the mark's state). */
static void
rewrite_up_to(int step)
{
    static const char new[] =
        "From a@b.test  Tue Nov  3 05:20:11 2026\nSubject: two\nX-New: a longer header than it was\n\nbody\n\n";
    struct mbox_rewrite w;
    int fd = open(path, O_RDWR);
    off_t from = (off_t)strlen(ONE), old = (off_t)strlen(TWO), rest = (off_t)strlen(THREE);
    if (mbox_rewrite_begin(&w, fd, from, (off_t)strlen(new) + rest, &err) < 0)
        _exit(1);
    if (step == 0)
        _exit(0);
    if (mbox_rewrite_put(&w, slice_from(new), &err) < 0)
        _exit(1);
    if (mbox_rewrite_copy(&w, from + old, rest, &err) < 0)
        _exit(1);
    if (step == 1)
        _exit(0);
    _exit(mbox_rewrite_commit(&w, &err) < 0);
}

static void
killed_at(int step, const char *then, const char *want)
{
    int status;
    write_file(ONE TWO THREE);
    pid_t pid = fork();
    if (pid == 0)
        rewrite_up_to(step);
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    add_to_file(then);
    int fd = open(path, O_RDWR | O_APPEND);
    if (setxattr(path, "user.postern.probe", "", 0, 0) < 0)
        skip();
    mbox_rewrite_repair(fd);
    close(fd);
    assert_string_equal(file_text(), want);
    assert_true(getxattr(path, "user.postern.rewrite", NULL, 0) < 0);
}

static void
test_a_killed_rewrite_is_taken_back(void **state)
{
    (void)state;
    killed_at(0, "", ONE TWO THREE);
    killed_at(1, "", ONE TWO THREE);
    killed_at(0, ONE, ONE TWO THREE ONE);
    killed_at(1, TWO, ONE TWO THREE TWO);
}

/* The state after the mark "complete": made by hand, with a part of the copy done. */
static void
test_a_killed_rewrite_is_ended(void **state)
{
    static const char new[] =
        "From n Tue Nov  3 05:20:11 2026\nSubject: n\n\nlonger than it was, that is to say: longer\n\n";
    char mark[300];
    static char text[3 * 65536];
    (void)state;
    for (int added = 0; added < 3; added++) {
        struct stat st;
        write_file(ONE);
        assert_int_equal(stat(path, &st), 0);
        size_t from = strlen(ONE), size = strlen(new), at = 2 * (size_t)(st.st_blksize > 4096 ? st.st_blksize : 4096);
        memset(text, '\n', sizeof(text));
        memcpy(text, ONE, from);
        memcpy(text + from, new, 20);
        memcpy(text + at, new, size);
        snprintf(text + at + size, 500, "%s", added ? THREE : "");
        if (added == 2) /* what the mark tells of has gone: a program wrote the file anew */
            text[at - 1] = 'x';
        write_file(text);
        int len = snprintf(mark, sizeof(mark), "c %zu %zu %zu %zu ", from, from + 30, at, size);
        memcpy(mark + len, new, 40);
        if (setxattr(path, "user.postern.rewrite", mark, (size_t)len + 40, 0) < 0)
            skip();
        int fd = open(path, O_RDWR);
        mbox_rewrite_repair(fd);
        close(fd);
        if (added < 2)
            snprintf(text, sizeof(text), "%s%s%s", ONE, new, added ? THREE : "");
        assert_string_equal(file_text(), text);
        assert_true(getxattr(path, "user.postern.rewrite", NULL, 0) < 0);
    }
}

/* Numbers of the owner's whose sums are no numbers. */
static void
test_enormous_numbers_in_a_mark(void **state)
{
    static const char *const marks[] = {
        "c 2 2 ", "w 2 2 ", "c 9223372036854775807 9223372036854775807 ", "h 0 ", "t 0 ",
    };
    static char text[3 * 65536];
    char mark[300];
    struct stat st;
    (void)state;
    write_file(ONE);
    assert_int_equal(stat(path, &st), 0);
    size_t at = 2 * (size_t)(st.st_blksize > 4096 ? st.st_blksize : 4096);
    memset(text, '\n', at);
    memcpy(text, ONE, strlen(ONE));
    snprintf(text + at, 500, "%s", "From n Tue Nov  3 05:20:11 2026\n\nbehind\n\n");
    for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
        write_file(text);
        snprintf(mark, sizeof(mark), "%s%zu 9223372036854775807 From n", marks[i], at);
        if (setxattr(path, "user.postern.rewrite", mark, strlen(mark), 0) < 0)
            skip();
        int fd = open(path, O_RDWR);
        mbox_rewrite_repair(fd);
        close(fd);
        assert_string_equal(file_text(), text);
        assert_true(getxattr(path, "user.postern.rewrite", NULL, 0) < 0);
    }
}

/* A program that heeds no lock has changed a header between the plan and the copy: an error, and the file is as it was. */
static void
test_a_rewrite_of_another_length_than_planned(void **state)
{
    struct mbox_rewrite w;
    (void)state;
    for (size_t n = 19; n <= 21; n += 2) {
        write_file(ONE TWO);
        int fd = open(path, O_RDWR), result;
        assert_int_equal(mbox_rewrite_begin(&w, fd, (off_t)strlen(ONE), 20, &err), 0);
        result = mbox_rewrite_put(&w, slice_make("From x\n\nlonger than it", n), &err);
        assert_int_equal(result, n > 20 ? -1 : 0);
        if (result < 0)
            mbox_rewrite_abort(&w);
        else
            assert_int_equal(mbox_rewrite_commit(&w, &err), -1);
        assert_int_equal(err.kind, ERR_TEMP);
        close(fd);
        assert_string_equal(file_text(), ONE TWO);
    }
}

/* The owner of a mailbox may write what he likes into its marks: that they are read over their ends a sanitizer would tell. */
static void
test_marks_of_the_owners_own(void **state)
{
    static const char *const marks[] = {
        "",
        "x",
        " ",
        ":::: ",
        "0:0:: ",
        " 12:34:abc",
        "12: 34:abc:0:w X",
        "1: 5:abc",
        "1 :5:abc",
        "12:34:abc",
        "0:5:no:zz Xrom ",
        "9223372036854775807:9223372036854775807:no:0:w Xrom ",
        "5:9223372036854775807:no:0:w a@b.test",
        "-1:-5:no:0:w Xrom ",
        "0:99999999999999999999999:no:0:w Xrom ",
        "0:0:no:  X",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
        struct mbox_locking locking = {.kinds = MBOX_LOCK_FCNTL};
        struct store_fault fault;
        struct mbox mbox;

        write_file(ONE);
        if (setxattr(path, "user.postern.append", marks[i], strlen(marks[i]), 0) < 0 ||
            setxattr(path, "user.postern.rewrite", marks[i], strlen(marks[i]), 0) < 0 ||
            setxattr(path, "user.postern.patch", marks[i], strlen(marks[i]), 0) < 0)
            skip();
        assert_int_equal(mbox_open(&mbox, path, MBOX_LEAVE_MARKED, &locking, &fault), -1);
        assert_string_equal(fault.dsn, "4.2.0");
        assert_int_equal(mbox_open(&mbox, path, 0, &locking, &fault), 0);
        mbox_close(&mbox);
        assert_string_equal(file_text(), ONE);
    }
}

/* A process that expunges and flags is killed at any moment: what it was not to expunge is there, each once. */
static void
expunge_until_killed(void)
{
    struct folder *folder = open_folder();
    bool gone;
    for (size_t i = 0; i < folder_count(folder); i++)
        if (folder_at(folder, i)->uid % 2 == 0)
            (void)!folder_set_flags(folder, folder_at(folder, i), FLAG_SEEN, 0, &gone, &err);
    for (uint32_t uid = 1; uid < 60; uid += 2) {
        struct folder_message *m = folder_find(folder, uid);
        if (m && folder_expunge(folder, m, &err) == 0)
            (void)!folder_settle(folder, &err);
    }
    _exit(0);
}

static void
test_a_kill_loses_nothing(void **state)
{
    static const struct mbox_locking fcntl_only = {.kinds = MBOX_LOCK_FCNTL, .attempts = 20, .delay = SECONDS(1)};
    folder_configure_mbox(&fcntl_only, NULL); /* a dotlock stays for a while when its maker is killed */
    (void)state;
    for (unsigned round = 0; round < 25; round++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        for (int i = 1; i <= 60; i++)
            fprintf(f, "From a Tue Nov 24 05:20:11 2026\nSubject: %d\n\n%*s\n\n", i, 100 * i, "x");
        fclose(f);
        struct folder *folder = open_folder();
        folder_close(&folder);
        pid_t pid = fork();
        if (pid == 0)
            expunge_until_killed();
        usleep(700 * round);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        folder = open_folder();
        assert_true(folder_count(folder) >= 30 && folder_count(folder) <= 60);
        for (uint32_t uid = 2; uid <= 60; uid += 2) {
            static char want[7000];
            snprintf(want, sizeof(want), "Subject: %u\n\n%*s\n", uid, (int)(100 * uid), "x");
            assert_content(folder, uid, want);
        }
        folder_close(&folder);
    }
}

static void
test_without_room_nothing_changes(void **state)
{
    struct rlimit limit, small;
    bool gone;
    (void)state;
    write_file(ONE TWO THREE);
    struct folder *folder = open_folder();
    char *before = strdup(file_text());
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = strlen(before) + 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(folder_expunge(folder, folder_find(folder, 1), &err), 0);
    assert_int_equal(folder_settle(folder, &err), -1);
    assert_string_equal(file_text(), before);
    assert_int_equal(folder_sync(folder, &err), 0);
    assert_int_equal(folder_count(folder), 3);
    assert_int_equal(folder_set_flags(folder, folder_find(folder, 2), FLAG_SEEN, 0, &gone, &err), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(folder_expunge(folder, folder_find(folder, 1), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    assert_int_equal(folder_count(folder), 2);
    assert_int_equal(folder_find(folder, 2)->flags, FLAG_SEEN);
    folder_close(&folder);
    free(before);
}

static int
set_up(void **state)
{
    (void)state;
    char name[] = "/var/tmp/test_folder_mbox.XXXXXX"; /* on a disk: /tmp may be one without extended attributes */
    directory = strdup(mkdtemp(name));
    snprintf(path, sizeof(path), "%s/box", directory);
    setenv("TZ", "UTC", 1);
    return 0;
}

static int
tear_down(void **state)
{
    char command[300];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    int result = system(command);
    free(directory);
    return result;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_lines),
        cmocka_unit_test(test_messages_get_uids_that_stay),
        cmocka_unit_test(test_a_body_of_almost_from_lines_is_read_once),
        cmocka_unit_test(test_flags_are_written_in_place),
        cmocka_unit_test(test_expunge_keeps_the_others),
        cmocka_unit_test(test_what_is_wanted_after_all_stays),
        cmocka_unit_test(test_a_body_full_of_from_lines),
        cmocka_unit_test(test_append_and_copy),
        cmocka_unit_test(test_forged_fields_are_not_believed),
        cmocka_unit_test(test_a_senders_keywords_and_numbers),
        cmocka_unit_test(test_what_is_no_mbox_is_left),
        cmocka_unit_test(test_a_killed_rewrite_is_taken_back),
        cmocka_unit_test(test_a_killed_rewrite_is_ended),
        cmocka_unit_test(test_marks_of_the_owners_own),
        cmocka_unit_test(test_enormous_numbers_in_a_mark),
        cmocka_unit_test(test_a_rewrite_of_another_length_than_planned),
        cmocka_unit_test(test_without_room_nothing_changes),
        cmocka_unit_test(test_a_kill_loses_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
