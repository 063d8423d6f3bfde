/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store: what a message looks like in a mailbox, and what stays when it does not get there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
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

#include "lib/store/deliver.h"
#include "lib/store/lock_file.h"
#include "lib/store/mbox_repair.h"
#include "lib/store/mbox_sum.h"

/* ---- letters ---- */

struct pieces {
    const char *text[3];
    size_t len[3];
    unsigned at, count;
    int fail_at; /* piece at which it breaks off; -1: never */
};

static int
next_piece(void *ctx, struct slice *wire, struct err *err)
{
    struct pieces *p = ctx;

    if ((int)p->at == p->fail_at)
        return err_set(err, ERR_CLOSED, "broken off");
    *wire = p->at < p->count ? slice_make(p->text[p->at], p->len[p->at]) : slice_make(NULL, 0);
    p->at++;
    return 0;
}

static struct pieces
whole(const char *text)
{
    return (struct pieces){.text = {text}, .len = {strlen(text)}, .count = 1, .fail_at = -1};
}

static struct letter
letter_of(struct pieces *pieces, const char *head)
{
    return (struct letter){
        .sender = "a@example.com", .arrival = 0, .head = slice_from(head), .next = next_piece, .ctx = pieces};
}

static const struct {
    const char *name, *wire, *plain, *mbox;
} rows[] = {
    {"empty", "", "", "\n"},
    {"plain", "a\r\n", "a\n", "a\n\n"},
    {"from", "From x\r\n", "From x\n", ">From x\n\n"},
    {"from later", "a\r\nFrom x\r\n", "a\nFrom x\n", "a\n>From x\n\n"},
    {"from within", "a From x\r\n", "a From x\n", "a From x\n\n"},
    {"nearly from", "Fromx\r\nFrom\r\nFro", "Fromx\nFrom\nFro\n", "Fromx\nFrom\nFro\n\n"},
    {"quoted from", ">From x\r\n", ">From x\n", ">From x\n\n"},
    {"dots", "..\r\n..a\r\n.b\r\n", ".\n.a\nb\n", ".\n.a\nb\n\n"},
    {"stuffed from", ".From x\r\n", "From x\n", ">From x\n\n"},
    {"cr", "a\rb\r\r\nc\r", "a\rb\r\nc\r\n", "a\rb\r\nc\r\n\n"},
    {"no end", "a", "a\n", "a\n\n"},
    {"8-bit", "\xff\xc3\xa4\x01\r\n", "\xff\xc3\xa4\x01\n", "\xff\xc3\xa4\x01\n\n"},
    {"empty lines", "\r\n\r\n", "\n\n", "\n\n\n"},
};

static void
check_reading(const char *wire, size_t cut, unsigned flags, const char *want)
{
    struct pieces pieces = {.text = {wire, wire + cut}, .len = {cut, strlen(wire) - cut}, .count = 2, .fail_at = -1};
    struct letter letter = letter_of(&pieces, "");
    struct letter_reader reader = {0};
    struct store_fault fault;
    struct buf out = {0};
    bool done = false;

    if (cut == 0) {
        pieces.text[0] = wire;
        pieces.len[0] = pieces.len[1];
        pieces.count = 1;
    }
    letter_begin(&reader, &letter, flags);
    while (!done)
        assert_int_equal(letter_read(&reader, 1 + cut, &out, &done, &fault), 0);
    assert_string_equal(buf_text(&out), want);
    assert_int_equal(reader.bytes, strlen(want));
    letter_end(&reader);
    buf_release(&out);
}

static void
test_content_is_converted_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t cut = 0; cut <= strlen(rows[i].wire); cut++) {
            check_reading(rows[i].wire, cut, 0, rows[i].plain);
            check_reading(rows[i].wire, cut, LETTER_QUOTE_FROM | LETTER_BLANK_END, rows[i].mbox);
        }
}

/* ---- files ---- */

static char dir[64];

static int
make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_store.XXXXXX");
    return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int
remove_dir(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static const char *
content(const char *name)
{
    static char text[100000];
    int fd = open(name, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

    if (fd >= 0)
        close(fd);
    if (n < 0)
        return NULL;
    text[n] = '\0';
    return text;
}

static void
put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static struct store_target
target(const char *path)
{
    return (struct store_target){
        .path = path,
        .locking = {.kinds = MBOX_LOCK_FCNTL | MBOX_LOCK_DOT, .attempts = 2, .delay = 50000, .stale = SECONDS(500)},
        .maildir = MAILDIR_CREATE | MAILDIR_QUOTA,
        .strict_owner = true,
    };
}

static int
deliver_to(const char *path, const char *wire, struct store_fault *fault)
{
    struct pieces pieces = whole(wire);
    struct letter letter = letter_of(&pieces, "X: y\n");
    struct store_target t = target(path);
    off_t position;

    return store_deliver(&t, &letter, &position, fault);
}

static void
test_mbox_grows_by_whole_messages(void **state)
{
    struct store_fault fault;

    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    assert_int_equal(deliver_to("box", "From a\r\n", &fault), 0);
    assert_string_equal(content("box"), "From a@example.com  Thu Jan  1 00:00:00 1970\nX: y\n>From a\n\n");
    put("box", "From x\nno end");
    assert_int_equal(deliver_to("box", "b\r\n", &fault), 0);
    assert_string_equal(content("box"), "From x\nno end\nFrom a@example.com  Thu Jan  1 00:00:00 1970\nX: y\nb\n\n");
    assert_int_equal(access("box.lock", F_OK), -1);
}

static void
test_broken_content_leaves_nothing(void **state)
{
    struct pieces pieces = {.text = {"a\r\n", "b\r\n"}, .len = {3, 3}, .count = 2, .fail_at = 1};
    struct letter letter = letter_of(&pieces, "");
    struct store_target t = target("box");
    struct store_fault fault;
    off_t position;

    (void)state;
    put("box", "From x\n\n");
    assert_int_equal(store_deliver(&t, &letter, &position, &fault), -1);
    assert_string_equal(fault.dsn, "4.3.0");
    assert_string_equal(content("box"), "From x\n\n");
    pieces.at = 0;
    t.path = "dir/";
    assert_int_equal(store_deliver(&t, &letter, &position, &fault), -1);
    assert_int_equal(rmdir("dir/tmp") | rmdir("dir/new"), 0);
}

static void
test_limit_cuts_back(void **state)
{
    struct pieces pieces = whole("0123456789\r\n");
    struct letter letter = letter_of(&pieces, "");
    struct store_target t = target("box");
    struct store_fault fault;
    off_t position;

    (void)state;
    t.limit = 40;
    put("box", "From x\n\n");
    assert_int_equal(store_deliver(&t, &letter, &position, &fault), -1);
    assert_string_equal(fault.dsn, "5.2.2");
    assert_string_equal(fault.text, "error writing message: File too large");
    assert_string_equal(content("box"), "From x\n\n");
}

static void
refuses(const char *path, const char *dsn)
{
    struct store_fault fault;

    assert_int_equal(deliver_to(path, "a\r\n", &fault), -1);
    assert_string_equal(fault.dsn, dsn);
}

/* T33 */
static void
test_what_is_no_plain_file_is_refused(void **state)
{
    (void)state;
    put("victim", "");
    assert_int_equal(symlink("victim", "sym"), 0);
    assert_int_equal(link("victim", "hard"), 0);
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    refuses("sym", "5.2.0");
    refuses("hard", "5.2.0");
    refuses("fifo", "5.2.0");
    refuses("folder", "5.2.0");
    refuses("no/such/folder", "4.2.0");
    refuses("/dev/null", "5.2.0");
    assert_string_equal(content("victim"), "");
}

/* The limit for files ends a process in the midst of writing what the lock says. */
static void
test_a_kill_leaves_no_lock_without_holder(void **state)
{
    struct rlimit none = {0, 0};
    int status;

    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        setrlimit(RLIMIT_FSIZE, &none);
        _exit(lock_file_make(AT_FDCWD, "box.lock", 0444) < 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
    assert_int_equal(lock_file_make(AT_FDCWD, "box.lock", 0444), 0);
    assert_int_equal(lock_file_make(AT_FDCWD, "box.lock", 0444), -1);
    assert_int_equal(errno, EEXIST);
    lock_file_break_stale(AT_FDCWD, "box.lock", SECONDS(500)); /* we live, so it stays */
    assert_int_equal(access("box.lock", F_OK), 0);
}

/* Another process holds each lock in turn. */
static void
test_locks_of_others_are_honoured(void **state)
{
    struct store_fault fault;
    char text[100], host[65];
    int ready[2], end[2];
    char byte;
    pid_t pid;

    (void)state;
    put("box.lock", "0");
    refuses("box", "4.2.0");
    assert_int_equal(unlink("box.lock"), 0);

    assert_int_equal(pipe(ready) | pipe(end), 0);
    pid = fork();
    if (pid == 0) {
        struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open("box", O_RDWR);

        close(end[1]);
        _exit(fcntl(fd, F_SETLK, &all) < 0 || write(ready[1], "x", 1) < 0 || read(end[0], &byte, 1) < 0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    refuses("box", "4.2.0");
    close(end[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(deliver_to("box", "a\r\n", &fault), 0);

    /* Its holder is that process, which has gone. */
    assert_int_equal(gethostname(host, sizeof host), 0);
    snprintf(text, sizeof text, "%ld:%s\n", (long)pid, host);
    put("box.lock", text);
    assert_int_equal(deliver_to("box", "a\r\n", &fault), 0);
    snprintf(text, sizeof text, "%ld:%s\n", (long)getppid(), host);
    put("box.lock", text);
    refuses("box", "4.2.0");
}

static int
repaired(const char *before, off_t offset, const char *first, const char *after)
{
    int fd, cut;

    put("box", before);
    fd = open("box", O_RDWR);
    assert_true(fd >= 0);
    mbox_mark(fd, offset, 0, slice_from(first));
    cut = mbox_repair(fd);
    close(fd);
    assert_string_equal(content("box"), after);
    return cut;
}

static void
test_unfinished_append_is_cut(void **state)
{
    int fd;

    (void)state;
    put("box", "");
    fd = open("box", O_RDWR);
    mbox_mark(fd, 0, 0, slice_from("x"));
    close(fd);
    if (repaired("From x\n\nFrom a@b  1\nhal", 8, "From a@b  1\nhalf", "From x\n\n") == 0)
        skip(); /* no extended attributes here */
    /* Nothing of it was written; another program's message; one behind ours. */
    assert_int_equal(repaired("From x\n\n", 8, "From a@b", "From x\n\n"), 0);
    assert_int_equal(repaired("From x\n\nFrom y\n\n", 8, "From a@b", "From x\n\nFrom y\n\n"), 0);
    assert_int_equal(
        repaired("From x\n\nFrom a@b\nhal\nFrom y\n\n", 8, "From a@b", "From x\n\nFrom a@b\nhal\nFrom y\n\n"), 0);
}

/* The mark of an append whose length is known: cut when its process died, kept when the machine was started since. */
static void
test_complete_append_outlives_a_power_cut(void **state)
{
    static const char whole[] = "From x\n\nFrom a@b  1\nhalf\n\n", mark[] = "user.postern.append";
    char text[300];
    ssize_t len;
    int fd;

    (void)state;
    put("box", whole);
    fd = open("box", O_RDWR);
    mbox_mark(fd, 8, 18, slice_from("From a@b  1\nhalf\n\n"));
    len = fgetxattr(fd, mark, text, sizeof text - 1);
    if (len <= 0)
        skip(); /* no extended attributes here */
    text[len] = '\0';
    assert_int_equal(mbox_repair(fd), 1);
    assert_string_equal(content("box"), "From x\n\n");
    close(fd);

    put("box", whole);
    fd = open("box", O_RDWR);
    *strchr(text, '.') = '!'; /* another era */
    assert_int_equal(fsetxattr(fd, mark, text, (size_t)len, 0), 0);
    assert_int_equal(mbox_repair(fd), 0);
    assert_string_equal(content("box"), whole);
    assert_int_equal(fgetxattr(fd, mark, text, sizeof text), -1);
    /* The same, but the end is missing. */
    assert_int_equal(fsetxattr(fd, mark, text, (size_t)len, 0), 0);
    assert_int_equal(ftruncate(fd, 20), 0);
    assert_int_equal(mbox_repair(fd), 1);
    assert_string_equal(content("box"), "From x\n\n");
    close(fd);
}

/* After a power cut the file may have its new length, and zeros where the blocks were not written. */
static void
test_zeros_of_a_power_cut_are_cut(void **state)
{
    static const char mark[] = "user.postern.append", first[] = "From a@b  1\nhalf\n\n";
    static const struct {
        const char *name, *bytes;
        size_t len;
        int cut;
        const char *left;
    } holes[] = {
        {"all zeros", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18, 1, ""},
        {"a part of it all", "\0\0\0", 3, 1, ""},
        {"the beginning only", "From a\0\0\0\0\0\0\0\0\0\0\0\0", 18, 1, ""},
        {"all but the beginning", "\0\0\0\0\0\0\0\0\0\0\0\0half\n\n", 18, 1, ""},
        {"another's message behind", "\0\0\0\0From y\n\ny\n\n", 15, 1, "From y\n\ny\n\n"},
        {"another's on a line of its own", "\0\0\0\0\nFrom y\n\ny\n\n", 16, 1, "From y\n\ny\n\n"},
        {"another's behind a half", "From a@b  1\nhaFrom y Tue Nov 24 05:20:11 2026\n\ny\n\n", 50, 1,
         "From y Tue Nov 24 05:20:11 2026\n\ny\n\n"},
        {"zeros in what is not ours", "From b\0\0\0\0\0\0\0\0\0\0\0\n", 18, 0, "From b"},
    };
    char text[300];
    struct stat st;
    ssize_t len;
    int fd;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(holes); i++) {
        put("box", "From x\n\n");
        fd = open("box", O_RDWR);
        mbox_mark(fd, 8, 18, slice_from(first));
        len = fgetxattr(fd, mark, text, sizeof text - 1);
        if (len <= 0)
            skip(); /* no extended attributes here */
        text[len] = '\0';
        *strchr(text, '.') = '!'; /* another era */
        assert_int_equal(fsetxattr(fd, mark, text, (size_t)len, 0), 0);
        assert_int_equal(pwrite(fd, holes[i].bytes, holes[i].len, 8), (ssize_t)holes[i].len);
        print_message("%s\n", holes[i].name);
        assert_int_equal(mbox_repair(fd), holes[i].cut);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, holes[i].cut ? 8 + strlen(holes[i].left) : 8 + holes[i].len);
        close(fd);
        assert_memory_equal(content("box") + 8, holes[i].left, strlen(holes[i].left));
    }
}

/* Behind the beginning only the sum tells. */
static void
test_zeros_in_the_midst_are_noticed_by_the_sum(void **state)
{
    static const char mark[] = "user.postern.append";
    char message[3000], text[400];
    struct stat st;
    ssize_t len;

    (void)state;
    memset(message, 'x', sizeof message);
    memcpy(message, "From a@b  1\n", 12);
    message[sizeof message - 1] = '\n';
    for (int damaged = 0; damaged < 2; damaged++) {
        struct mbox_sum sum = {0};
        int fd;

        put("box", "From x\n\n");
        fd = open("box", O_RDWR);
        mbox_sum_add(&sum, slice_make(message, 1000));
        mbox_sum_add(&sum, slice_make(message + 1000, sizeof message - 1000));
        assert_int_equal(
            mbox_mark_whole(fd, 8, sizeof message, mbox_sum_end(&sum), false, slice_make(message, MBOX_MARK_START)), 0);
        len = fgetxattr(fd, mark, text, sizeof text - 1);
        if (len <= 0)
            skip(); /* no extended attributes here */
        text[len] = '\0';
        *strchr(text, '.') = '!'; /* another era */
        assert_int_equal(fsetxattr(fd, mark, text, (size_t)len, 0), 0);
        if (damaged)
            memset(message + 2000, 0, 500);
        assert_int_equal(pwrite(fd, message, sizeof message, 8), (ssize_t)sizeof message);
        assert_int_equal(mbox_repair(fd), damaged);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, damaged ? 8 : 8 + (off_t)sizeof message);
        close(fd);
    }
}

static unsigned
count_entries(const char *name, char *last, size_t size)
{
    DIR *d = opendir(name);
    const struct dirent *entry;
    unsigned count = 0;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.') {
            count++;
            snprintf(last, size, "%s/%s", name, entry->d_name);
        }
    closedir(d);
    return count;
}

static void
test_maildir_gets_a_file_for_each(void **state)
{
    struct store_fault fault;
    char name[400];

    (void)state;
    assert_int_equal(deliver_to("a/b/", "From a\r\n..\r\n", &fault), 0);
    assert_int_equal(count_entries("a/b/new", name, sizeof name), 1);
    assert_string_equal(content(name), "X: y\nFrom a\n.\n");
    for (int i = 0; i < 50; i++)
        assert_int_equal(deliver_to("a/b/", "a\r\n", &fault), 0);
    assert_int_equal(count_entries("a/b/new", name, sizeof name), 51);
    assert_int_equal(count_entries("a/b/tmp", name, sizeof name), 0);
}

static void
test_maildir_sizes_stand_in_the_name(void **state)
{
    struct pieces pieces = whole("12345\r\n");
    struct letter letter = letter_of(&pieces, "");
    struct store_fault fault;
    char *name;

    (void)state;
    assert_int_equal(maildir_deliver("m/", &letter, MAILDIR_CREATE | MAILDIR_SIZES, 0, &name, &fault), 0);
    assert_non_null(strstr(name, ",S=6,W=7"));
    assert_int_equal(maildir_name_size(name), 6);
    free(name);
}

static void
test_quota_is_kept_and_respected(void **state)
{
    struct store_fault fault;
    char name[400];

    (void)state;
    assert_int_equal(maildir_create("m", &fault), 0);
    put("m/maildirsize", "1000S,3C\n0 0\n");
    assert_int_equal(deliver_to("m/", "abcd\r\n", &fault), 0);
    assert_string_equal(content("m/maildirsize"), "1000S,3C\n0 0\n10 1\n");
    assert_int_equal(deliver_to("m/", "abcd\r\n", &fault) | deliver_to("m/", "abcd\r\n", &fault), 0);
    refuses("m/", "4.2.2");
    assert_int_equal(count_entries("m/new", name, sizeof name), 3);
    assert_int_equal(count_entries("m/tmp", name, sizeof name), 0);
    /* One is removed by another program: a file that says "over quota" for long is counted anew. */
    assert_int_equal(unlink(name), 0);
    refuses("m/", "4.2.2");
    assert_int_equal(utimensat(AT_FDCWD, "m/maildirsize", (struct timespec[2]){{1, 0}, {1, 0}}, 0), 0);
    assert_int_equal(deliver_to("m/", "abcd\r\n", &fault), 0);
    put("m/maildirsize", "1000S,3C\n9223372036854775807 9223372036854775807\n");
    refuses("m/", "4.2.2");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_is_converted_at_every_split),
        cmocka_unit_test_setup_teardown(test_mbox_grows_by_whole_messages, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_broken_content_leaves_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_limit_cuts_back, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_is_no_plain_file_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_kill_leaves_no_lock_without_holder, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_locks_of_others_are_honoured, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_complete_append_outlives_a_power_cut, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_zeros_of_a_power_cut_are_cut, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_zeros_in_the_midst_are_noticed_by_the_sum, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_unfinished_append_is_cut, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_maildir_gets_a_file_for_each, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_maildir_sizes_stand_in_the_name, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_quota_is_kept_and_respected, make_dir, remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
