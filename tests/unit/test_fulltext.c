/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/fulltext: candidates are never too few, whatever happens to the messages or to the file. */
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
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/store/fulltext.h"

enum { MESSAGES = 600, TEXT = 400 };

static char base[200], mail[240], place[240];
static struct folder *folder;
static char texts[2 * MESSAGES + 1][TEXT]; /* by UID */
static unsigned delivered;

/* In the test's directory. */
static void
run(const char *command)
{
    assert_int_equal(chdir(base), 0);
    assert_int_equal(system(command), 0);
    assert_int_equal(chdir("/"), 0);
}

static int
setup(void **state)
{
    (void)state;
    snprintf(base, sizeof(base), "%s/test-fulltext-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(base))
        return -1;
    snprintf(mail, sizeof(mail), "%s/mail", base);
    snprintf(place, sizeof(place), "%s/index", base);
    delivered = 0;
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    folder_close(&folder);
    run("rm -rf mail index");
    return rmdir(base);
}

static void
deliver(const char *text)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/cur/%u.M%uP1.test:2,S", mail, 1700000000 + delivered, delivered);
    delivered++;
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fprintf(out, "Subject: x\n\n%s\n", text);
    fclose(out);
}

/* Words of few letters, so that there are many hits; now and then bytes of all kinds. */
static void
make_text(char *text, unsigned letters)
{
    size_t len = (size_t)(rand() % (TEXT - 40)) + 20;
    for (size_t i = 0; i < len; i++)
        text[i] = (char)(rand() % 60 == 0  ? (unsigned)rand() % 255 + 1
                         : rand() % 6 == 0 ? ' '
                                           : 'a' + (unsigned)rand() % letters);
    text[len] = '\0';
}

static void
fill_mailbox(unsigned count, unsigned letters)
{
    struct err err;
    if (!folder && !(folder = folder_open(mail, FOLDER_MAILDIR, &err)))
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < count; i++) {
        make_text(texts[delivered + 1], letters);
        deliver(texts[delivered + 1]);
    }
    usleep(30000); /* else the folder takes the directory's time to be unsettled */
    assert_int_equal(folder_sync(folder, &err), 0);
    assert_int_equal(folder_count(folder), delivered);
}

static struct fulltext *
open_it(const char *form)
{
    struct err err;
    struct fulltext *ft = fulltext_open(place, form, &err);
    if (!ft)
        fail_msg("%s", err.text);
    return ft;
}

static void
add(struct fulltext *ft, uint32_t uid)
{
    fulltext_add_begin(ft);
    fulltext_add_piece(ft, slice_from(texts[uid]));
    fulltext_add_end(ft, folder, uid);
}

static bool
has(const uint32_t *uids, size_t count, uint32_t uid)
{
    for (size_t i = 0; i < count; i++)
        if (uids[i] == uid)
            return true;
    return false;
}

/* What a search does: messages that are not known, and candidates, are looked into. Returns how many it did not need to. */
static size_t
compare(struct fulltext *ft, struct arena *arena, struct slice text)
{
    struct fulltext_known known;
    uint32_t *uids;
    size_t count, spared = 0;
    fulltext_known(ft, folder, arena, &known);
    bool usable = fulltext_find(ft, folder, text, arena, &uids, &count);
    for (size_t i = 0; i < folder_count(folder); i++) {
        uint32_t uid = folder_at(folder, i)->uid;
        bool found = memmem(texts[uid], strlen(texts[uid]), text.ptr, text.len) != NULL;
        bool looked = !usable || !fulltext_is_known(&known, uid) || has(uids, count, uid);
        if (found && !looked)
            fail_msg("UID %u is missed: %.*s", uid, SLICE_ARG(text));
        spared += !looked;
    }
    return spared;
}

static size_t
compare_some(struct fulltext *ft, unsigned times)
{
    struct arena *arena = arena_new();
    size_t spared = 0;
    for (unsigned i = 0; i < times; i++) {
        uint32_t uid = (uint32_t)rand() % delivered + 1;
        size_t len = strlen(texts[uid]), from = (size_t)rand() % len, most = len - from;
        size_t take = (size_t)rand() % (i % 3 ? 6 : 60) + 1;
        spared += compare(ft, arena, slice_make(texts[uid] + from, take < most ? take : most));
        arena_reset(arena);
    }
    arena_free(&arena);
    return spared;
}

static size_t
count_known(struct fulltext *ft)
{
    struct arena *arena = arena_new();
    struct fulltext_known known;
    size_t count = 0;
    fulltext_known(ft, folder, arena, &known);
    for (size_t i = 0; i < folder_count(folder); i++)
        count += fulltext_is_known(&known, folder_at(folder, i)->uid);
    arena_free(&arena);
    return count;
}

static void
add_all(struct fulltext *ft)
{
    for (uint32_t uid = 1; uid <= delivered; uid++)
        add(ft, uid);
    fulltext_flush(ft);
}

static void
test_candidates_are_what_a_scan_finds(void **state)
{
    (void)state;
    srand(7);
    fill_mailbox(MESSAGES, 12);
    struct fulltext *ft = open_it("a");
    assert_int_equal(compare_some(ft, 5), 0); /* nothing is known */
    for (uint32_t uid = 1; uid <= delivered; uid += 2)
        add(ft, uid);
    assert_true(compare_some(ft, 200) > 0); /* also what was not written yet */
    fulltext_flush(ft);
    for (uint32_t uid = 2; uid <= delivered; uid += 2)
        add(ft, uid);
    fulltext_close(&ft);
    ft = open_it("a");
    assert_int_equal(count_known(ft), MESSAGES);
    assert_true(compare_some(ft, 300) > 20000);
    fulltext_close(&ft);
}

static void
test_others_are_not_known(void **state)
{
    (void)state;
    srand(13);
    fill_mailbox(5 * INDEX_RUN, 12);
    struct fulltext *ft = open_it("a");
    for (uint32_t uid = 2 * INDEX_RUN; uid < 3 * INDEX_RUN; uid++)
        add(ft, uid);
    assert_int_equal(count_known(ft), INDEX_RUN);
    (void)compare_some(ft, 50);
    fulltext_close(&ft);
}

static void
test_quotes_and_control_characters(void **state)
{
    struct arena *arena = arena_new();
    (void)state;
    srand(1);
    fill_mailbox(3, 20);
    snprintf(texts[1], TEXT, "%s", "say \"\"\" and 'x' AND OR NOT *^()");
    snprintf(texts[2], TEXT, "%s", "line\nbreak\ttab \x01\x02\x03 end");
    snprintf(texts[3], TEXT, "%s", "\xff\xfe\xfd\xc3 half");
    struct fulltext *ft = open_it("a");
    add_all(ft);
    static const char *const wanted[] = {"\"\"\"",       "'x'",  "AND",        "*^()",         "NOT *", "break\tt",
                                         "\x01\x02\x03", "e\nb", "\xfd\xc3 h", "\xff\xfe\xfd", "ab",    "\n\n\n"};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        (void)compare(ft, arena, slice_from(wanted[i]));
    assert_true(compare(ft, arena, slice_from("\"\"\"")) == 2);
    assert_true(compare(ft, arena, slice_from("\x01\x02\x03")) == 0); /* not kept: all are looked into */
    fulltext_close(&ft);
    arena_free(&arena);
}

static void
test_what_has_gone_and_what_came_in_its_place(void **state)
{
    struct err err;
    (void)state;
    srand(3);
    fill_mailbox(300, 12);
    struct fulltext *ft = open_it("a");
    add_all(ft);
    /* The same UID, another message: as after a backup was put back. */
    folder_close(&folder);
    run("sed -i 's/:1700000007.M7P1.test/:1700000007.M7P1.other/' mail/dovecot-uidlist");
    run("mv mail/cur/1700000007.M7P1.test:2,S mail/cur/1700000007.M7P1.other:2,S");
    make_text(texts[8], 12);
    folder = folder_open(mail, FOLDER_MAILDIR, &err);
    assert_non_null(folder);
    assert_int_equal(folder_sync(folder, &err), 0);
    assert_non_null(folder_find(folder, 8));
    assert_int_equal(count_known(ft), 299);
    (void)compare_some(ft, 200);
    for (uint32_t uid = 100; uid < 200; uid++)
        assert_int_equal(folder_expunge(folder, folder_find(folder, uid), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    assert_int_equal(count_known(ft), 199);
    fulltext_close(&ft);
    ft = open_it("a");
    assert_int_equal(count_known(ft), 199);
    add(ft, 8);
    (void)compare_some(ft, 200);
    struct index_key key = folder_key(folder);
    fulltext_forget(ft, &key);
    assert_int_equal(count_known(ft), 0);
    add_all(ft);
    assert_int_equal(count_known(ft), 200);
    fulltext_close(&ft);
}

static void
test_a_table_of_the_dead_is_made_anew(void **state)
{
    struct err err;
    (void)state;
    srand(4);
    fill_mailbox(1100, 12);
    struct fulltext *ft = open_it("a");
    add_all(ft);
    for (uint32_t uid = 1; uid <= 1050; uid++)
        assert_int_equal(folder_expunge(folder, folder_find(folder, uid), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    assert_int_equal(count_known(ft), 0);
    for (uint32_t uid = 1051; uid <= 1100; uid++)
        add(ft, uid);
    assert_int_equal(count_known(ft), 50);
    (void)compare_some(ft, 50);
    fulltext_close(&ft);
}

static void
test_another_form_begins_anew(void **state)
{
    (void)state;
    srand(5);
    fill_mailbox(50, 12);
    struct fulltext *ft = open_it("a"), *second;
    struct err err;
    add_all(ft);
    second = fulltext_open(place, "a", &err);
    assert_null(second);
    assert_int_equal(err.kind, ERR_TEMP); /* one process at a time */
    fulltext_close(&ft);
    ft = open_it("b");
    assert_int_equal(count_known(ft), 0);
    fulltext_close(&ft);
}

/* A kill at any time leaves a file that is whole or thrown away. */
static void
test_kills_while_indexing(void **state)
{
    (void)state;
    srand(6);
    fill_mailbox(MESSAGES, 20);
    for (unsigned round = 0; round < 25; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct fulltext *ft = open_it("a");
            for (unsigned i = 0;; i++) {
                add(ft, (uint32_t)rand() % delivered + 1);
                if (i % 50 == 49)
                    fulltext_flush(ft);
            }
        }
        usleep((useconds_t)(rand() % 60000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        struct fulltext *ft = open_it("a");
        (void)compare_some(ft, 10);
        fulltext_close(&ft);
    }
}

static off_t
size_of_data(char *path, size_t room)
{
    struct stat st;
    snprintf(path, room, "%s/fulltext.db", place);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void
read_lock_file(char text[200])
{
    char path[300];
    snprintf(path, sizeof(path), "%s/fulltext.lock", place);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, 199);
    assert_true(n > 0);
    text[n] = '\0';
    close(fd);
}

/* Another process writes pages until it is killed, and never comes to settle them. */
static void
write_and_be_killed(const char *path)
{
    struct stat before, now;
    assert_int_equal(stat(path, &before), 0);
    usleep(20000); /* the grain of a file's time */
    pid_t child = fork();
    if (child == 0) {
        struct fulltext *ft = open_it("a");
        for (uint32_t uid = delivered;; uid = uid > 1 ? uid - 1 : delivered)
            add(ft, uid);
    }
    do {
        assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
        usleep(1000);
        assert_int_equal(stat(path, &now), 0);
    } while (now.st_size == before.st_size && now.st_mtim.tv_sec == before.st_mtim.tv_sec &&
             now.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* After a power cut the file's size and time may be the old ones: what counts is that the lock file was changed before. */
static void
test_a_file_says_before_it_is_written_that_it_is_not_whole(void **state)
{
    char path[300], before[200], after[200];
    (void)state;
    srand(11);
    fill_mailbox(MESSAGES, 20);
    struct fulltext *ft = open_it("a");
    add_all(ft);
    fulltext_close(&ft);
    (void)size_of_data(path, sizeof(path));
    read_lock_file(before);
    write_and_be_killed(path);
    read_lock_file(after);
    assert_string_not_equal(before, after);
    ft = open_it("a");
    assert_int_equal(count_known(ft), 0);
    fulltext_close(&ft);
}

static void
test_a_file_that_was_touched_is_made_anew(void **state)
{
    char path[300];
    (void)state;
    srand(12);
    fill_mailbox(50, 12);
    struct fulltext *ft = open_it("a");
    add_all(ft);
    fulltext_close(&ft);
    ft = open_it("a");
    assert_int_equal(count_known(ft), 50);
    fulltext_close(&ft);
    (void)size_of_data(path, sizeof(path));
    const struct timespec times[2] = {{1700000000, 0}, {1700000000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    ft = open_it("a");
    assert_int_equal(count_known(ft), 0);
    fulltext_close(&ft);
}

/* Changed bytes are noticed even where the file's time says nothing. */
static void
test_damage_is_never_believed(void **state)
{
    char path[300];
    (void)state;
    srand(8);
    fill_mailbox(200, 20);
    for (unsigned round = 0; round < 40; round++) {
        struct fulltext *ft = open_it("a");
        if (count_known(ft) < delivered)
            add_all(ft);
        fulltext_close(&ft);
        off_t size = size_of_data(path, sizeof(path));
        struct stat before;
        assert_int_equal(stat(path, &before), 0);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        off_t at = round == 0 ? 17 : rand() % size;
        char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte = (char)(byte ^ (1 << (rand() % 8)));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        if (round % 10 == 9)
            assert_int_equal(ftruncate(fd, rand() % size), 0);
        struct timespec times[2] = {before.st_atim, before.st_mtim};
        assert_int_equal(futimens(fd, times), 0);
        close(fd);
        if (round % 10 == 8)
            assert_int_equal(unlink(path), 0);
        ft = open_it("a");
        (void)compare_some(ft, 20);
        (void)compare_some(ft, 20);
        fulltext_close(&ft);
    }
}

static void
test_a_full_disk_means_scanning(void **state)
{
    struct rlimit none = {64 << 10, RLIM_INFINITY}, any;
    (void)state;
    srand(9);
    fill_mailbox(MESSAGES, 26);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &any), 0);
    none.rlim_max = any.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    struct fulltext *ft = open_it("a");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    add_all(ft);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &any), 0);
    assert_false(fulltext_is_usable(ft));
    assert_int_equal(compare_some(ft, 20), 0);
    fulltext_close(&ft);
    assert_false(fulltext_exists(place));
    ft = open_it("a");
    add_all(ft);
    assert_int_equal(count_known(ft), MESSAGES);
    fulltext_close(&ft);
}

/* One with more trigrams than are kept is always looked into. */
static void
test_a_message_with_too_many_trigrams(void **state)
{
    enum { LARGE = 1 << 20 };
    (void)state;
    srand(10);
    fill_mailbox(2, 12);
    char *large = malloc(LARGE);
    assert_non_null(large);
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (char)(32 + rand() % 90);
    struct fulltext *ft = open_it("a");
    fulltext_add_begin(ft);
    fulltext_add_piece(ft, slice_make(large, LARGE));
    fulltext_add_end(ft, folder, 1);
    add(ft, 2);
    assert_int_equal(count_known(ft), 1);
    fulltext_close(&ft);
    free(large);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_candidates_are_what_a_scan_finds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_are_not_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quotes_and_control_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_has_gone_and_what_came_in_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_of_the_dead_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_form_begins_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kills_while_indexing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_says_before_it_is_written_that_it_is_not_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_that_was_touched_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_never_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_means_scanning, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_message_with_too_many_trigrams, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
