/* SPDX-License-Identifier: Apache-2.0 */
/* Maildirs that are opened from the index: nothing is looked through while nothing changed, and nothing is missed when something
 * did. A message whose file is not known yet shows that nobody looked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/store/folder.h"
#include "lib/store/index.h"

static char directory[200];
static struct err err;
static struct index *indexes;
static struct folder *folder;

static const char *
at(const char *name)
{
    static char path[500];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static void
put(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void
move(const char *from, const char *to)
{
    char old[500];
    snprintf(old, sizeof(old), "%s", at(from));
    assert_int_equal(rename(old, at(to)), 0);
}

/* Until what was changed last is older than the clock's grain. */
static void
let_settle(void)
{
    const struct timespec pause = {0, 5000000};
    struct timespec now;
    for (;;) {
        long long youngest = 0;
        for (unsigned i = 0; i < 2; i++) {
            struct stat st;
            assert_int_equal(stat(at(i ? "cur" : "new"), &st), 0);
            long long changed = st.st_ctim.tv_sec * 1000000000LL + st.st_ctim.tv_nsec;
            youngest = changed > youngest ? changed : youngest;
        }
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        if (now.tv_sec * 1000000000LL + now.tv_nsec - youngest > (youngest % 1000000000 ? 20000000 : 2000000000))
            return;
        nanosleep(&pause, NULL);
    }
}

static void
sync_folder(void)
{
    if (folder_sync(folder, &err) < 0)
        fail_msg("%s", err.text);
}

static void
open_folder(void)
{
    indexes = index_open(at("index"), &err);
    assert_non_null(indexes);
    folder = folder_open(directory, FOLDER_MAILDIR, &err);
    assert_non_null(folder);
    folder_use_index(folder, indexes);
    sync_folder();
}

static void
close_folder(void)
{
    folder_close(&folder);
    index_close(&indexes);
}

/* Open it once when it is quiet, so that the index knows it. */
static void
let_index_know(void)
{
    let_settle();
    open_folder();
    close_folder();
}

static bool
is_from_index(void)
{
    for (size_t i = 0; i < folder_count(folder); i++)
        if (folder_at(folder, i)->file)
            return false;
    return folder_count(folder) > 0;
}

static void
assert_content(uint32_t uid, const char *want)
{
    struct folder_content content;
    struct folder_message *message = folder_find(folder, uid);
    assert_non_null(message);
    if (folder_read(folder, message, &content, &err) < 0)
        fail_msg("%s", err.text);
    char *got = strndup(content.bytes.ptr, content.bytes.len);
    assert_string_equal(got, want);
    free(got);
    folder_content_release(&content);
}

static int
setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "%s/test-maildir-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(directory) || mkdir(at("cur"), 0700) < 0 || mkdir(at("new"), 0700) < 0 || mkdir(at("tmp"), 0700) < 0)
        return -1;
    put("cur/1.a.host:2,S", "one\n");
    put("cur/2.b.host", "two\n");        /* no flags at all */
    put("cur/3.c.host:2,TS", "three\n"); /* in an order of its own */
    put("cur/4.d.host:2,", "four\n");
    return 0;
}

static int
teardown(void **state)
{
    char command[300];
    (void)state;
    close_folder();
    snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    return system(command);
}

static void
test_an_unchanged_folder_is_not_looked_through(void **state)
{
    (void)state;
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_int_equal(folder_count(folder), 4);
    assert_int_equal(folder_next_uid(folder), 5);
    assert_int_equal(folder_at(folder, 0)->flags, FLAG_SEEN);
    assert_int_equal(folder_at(folder, 2)->flags, FLAG_SEEN | FLAG_DELETED);
    assert_true(folder_at(folder, 3)->modseq > 0);
    sync_folder();
    assert_true(is_from_index());
}

static void
test_files_are_found_by_their_names_in_the_index(void **state)
{
    (void)state;
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_content(2, "two\n");
    assert_content(1, "one\n");
    assert_content(3, "three\n");
    assert_string_equal(folder_message_file(folder, folder_find(folder, 3)), "3.c.host:2,TS");
}

static void
test_new_mail_is_seen(void **state)
{
    (void)state;
    let_index_know();
    put("new/5.e.host", "five\n");
    open_folder();
    assert_int_equal(folder_count(folder), 5);
    assert_content(5, "five\n");
    assert_int_equal(folder_at(folder, 0)->uid, 1);
    assert_int_equal(folder_at(folder, 0)->flags, FLAG_SEEN);
}

static void
test_new_mail_is_seen_while_it_is_open(void **state)
{
    (void)state;
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    put("new/5.e.host", "five\n");
    move("cur/1.a.host:2,S", "cur/1.a.host:2,FS");
    assert_int_equal(unlink(at("cur/2.b.host")), 0);
    sync_folder();
    assert_int_equal(folder_count(folder), 4);
    assert_null(folder_find(folder, 2));
    assert_int_equal(folder_find(folder, 1)->flags, FLAG_SEEN | FLAG_FLAGGED);
    assert_content(1, "one\n");
    assert_content(5, "five\n");
}

static void
test_flags_that_another_set_are_seen(void **state)
{
    (void)state;
    let_index_know();
    move("cur/4.d.host:2,", "cur/4.d.host:2,F");
    open_folder();
    assert_int_equal(folder_find(folder, 4)->flags, FLAG_FLAGGED);
    close_folder();
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_int_equal(folder_find(folder, 4)->flags, FLAG_FLAGGED);
    assert_content(4, "four\n");
}

static void
test_a_file_that_was_renamed_is_found(void **state)
{
    (void)state;
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    move("cur/4.d.host:2,", "cur/4.d.host:2,F");
    assert_content(4, "four\n");
    assert_int_equal(folder_find(folder, 4)->flags, FLAG_FLAGGED);
    assert_int_equal(unlink(at("cur/1.a.host:2,S")), 0);
    struct folder_content content;
    assert_int_equal(folder_read(folder, folder_find(folder, 1), &content, &err), -1);
    assert_int_equal(err.kind, ERR_PERM);
}

static void
test_flags_are_set_by_names_of_the_index(void **state)
{
    bool gone;
    (void)state;
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_int_equal(folder_set_flags(folder, folder_find(folder, 3), FLAG_SEEN, 0, &gone, &err), 0);
    assert_int_equal(folder_settle_flags(folder, &err), 0);
    assert_int_equal(access(at("cur/3.c.host:2,S"), F_OK), 0);
    close_folder();
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_int_equal(folder_find(folder, 3)->flags, FLAG_SEEN);
    assert_content(3, "three\n");
    assert_int_equal(folder_expunge(folder, folder_find(folder, 2), &err), 0);
    assert_int_equal(access(at("cur/2.b.host"), F_OK), -1);
}

static void
test_what_lies_in_new_stays_new(void **state)
{
    uint32_t moved;
    (void)state;
    put("new/5.e.host:2,S", "five\n");
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_true(folder_find(folder, 5)->is_new && !folder_find(folder, 4)->is_new);
    assert_content(5, "five\n");
    assert_int_equal(folder_take_new(folder, &moved, &err), 0);
    assert_int_equal(moved, 5);
    assert_int_equal(access(at("cur/5.e.host:2,S"), F_OK), 0);
    close_folder();
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_false(folder_find(folder, 5)->is_new);
    assert_content(5, "five\n");
}

static void
test_another_list_of_uids_is_read(void **state)
{
    (void)state;
    let_index_know();
    put("dovecot-uidlist",
        "3 V77 N100 G0123456789abcdef0123456789abcdef\n7 :1.a.host\n8 :2.b.host\n9 :3.c.host\n10 :4.d.host\n");
    open_folder();
    assert_int_equal(folder_uid_validity(folder), 77);
    assert_int_equal(folder_at(folder, 0)->uid, 7);
    assert_content(10, "four\n");
}

static void
test_what_just_changed_is_not_trusted(void **state)
{
    (void)state;
    let_index_know();
    put("cur/5.e.host:2,", "five\n");
    open_folder(); /* looks at once */
    assert_int_equal(folder_count(folder), 5);
    put("cur/6.f.host:2,", "six\n");
    sync_folder();
    assert_int_equal(folder_count(folder), 6);
}

/* The names of the index without their records: the folder is looked through, and nothing is lost. */
static void
test_missing_names_cost_a_look(void **state)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val k, v;
    unsigned removed = 0;
    (void)state;
    let_index_know();
    open_folder();
    assert_true(is_from_index());
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, at("index"), MDB_NOSYNC | MDB_NOTLS, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0)
        if (k.mv_size > INDEX_KEY && ((char *)k.mv_data)[INDEX_KEY] == 'N') {
            assert_int_equal(mdb_cursor_del(cursor, 0), 0);
            removed++;
        }
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(removed, 1);
    assert_content(3, "three\n");
    assert_content(1, "one\n");
    assert_int_equal(folder_count(folder), 4);
    assert_int_equal(folder_find(folder, 1)->flags, FLAG_SEEN);
}

/* ---- what another program does while we change something ---- */

static void
test_flags_of_two_are_both_kept(void **state)
{
    bool gone = false;
    (void)state;
    open_folder();
    move("cur/1.a.host:2,S", "cur/1.a.host:2,F"); /* read no more, and flagged */
    assert_int_equal(folder_set_flags(folder, folder_find(folder, 1), FLAG_SEEN | FLAG_ANSWERED, 0, &gone, &err), 0);
    assert_false(gone);
    assert_int_equal(folder_find(folder, 1)->flags, FLAG_FLAGGED | FLAG_ANSWERED);
}

static void
test_what_somebody_wants_after_all_stays(void **state)
{
    (void)state;
    open_folder();
    move("cur/3.c.host:2,TS", "cur/3.c.host:2,S");
    assert_int_equal(folder_expunge(folder, folder_find(folder, 3), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    sync_folder();
    assert_int_equal(folder_count(folder), 4);
    assert_int_equal(folder_find(folder, 3)->flags, FLAG_SEEN);
    move("cur/1.a.host:2,S", "cur/1.a.host:2,ST"); /* asked for without the flag, as POP3 does */
    assert_int_equal(folder_expunge(folder, folder_find(folder, 1), &err), 0);
    assert_int_equal(folder_settle(folder, &err), 0);
    sync_folder();
    assert_int_equal(folder_count(folder), 3);
}

/* The numbers are others' then. */
static void
test_nothing_is_done_to_another_message(void **state)
{
    struct folder_content content;
    bool gone = false;
    (void)state;
    open_folder();
    move("cur/1.a.host:2,S", "cur/9.a.host:2,S");
    put("dovecot-uidlist",
        "3 V77 N5 G00000000000000000000000000000000\n1 :3.c.host\n2 :4.d.host\n3 :9.a.host\n4 :2.b.host\n");
    assert_int_equal(folder_set_flags(folder, folder_find(folder, 1), FLAG_FLAGGED, 0, &gone, &err), 0);
    assert_true(gone);
    assert_int_equal(folder_find(folder, 1)->flags, FLAG_SEEN | FLAG_DELETED);
    put("dovecot-uidlist",
        "3 V78 N5 G00000000000000000000000000000000\n1 :9.a.host\n2 :4.d.host\n3 :3.c.host\n4 :2.b.host\n");
    move("cur/3.c.host:2,TS", "cur/3.c.host:2,T");
    assert_true(folder_read(folder, folder_find(folder, 1), &content, &err) < 0);
    put("dovecot-uidlist",
        "3 V79 N5 G00000000000000000000000000000000\n1 :3.c.host\n2 :4.d.host\n3 :9.a.host\n4 :2.b.host\n");
    move("cur/9.a.host:2,S", "cur/9.a.host:2,");
    assert_int_equal(folder_expunge(folder, folder_find(folder, 1), &err), 0);
    sync_folder();
    assert_int_equal(folder_count(folder), 4);
}

static void
set_time(const char *name, time_t when)
{
    const struct timespec times[2] = {{when, 0}, {when, 0}};
    assert_int_equal(utimensat(AT_FDCWD, at(name), times, 0), 0);
}

static void
test_a_renamed_file_keeps_its_time(void **state)
{
    (void)state;
    set_time("cur/4.d.host:2,", 1000000000);
    open_folder();
    move("cur/4.d.host:2,", "cur/4.d.host:2,F");
    assert_int_equal(folder_message_time(folder, folder_find(folder, 4)), 1000000000);
    assert_int_equal(folder_find(folder, 4)->flags, FLAG_FLAGGED);
}

static void
test_no_message_gets_the_time_of_one_that_had_its_number(void **state)
{
    (void)state;
    set_time("cur/3.c.host:2,TS", 1000000000);
    open_folder();
    move("cur/1.a.host:2,S", "cur/9.a.host:2,S");
    put("dovecot-uidlist",
        "3 V77 N5 G00000000000000000000000000000000\n1 :3.c.host\n2 :4.d.host\n3 :9.a.host\n4 :2.b.host\n");
    assert_int_not_equal(folder_message_time(folder, folder_find(folder, 1)), 1000000000);
    assert_int_equal(folder_message_time(folder, folder_find(folder, 1)), 1000000000);
}

static void
test_a_number_that_another_file_got_is_another_message(void **state)
{
    struct arena *arena = arena_new();
    struct index_cached cached = {.texts[INDEX_ENVELOPE] = slice_from("three")};
    (void)state;
    put("dovecot-uidlist",
        "3 V77 N5 G00000000000000000000000000000000\n1 :1.a.host\n2 :2.b.host\n3 :3.c.host\n4 :4.d.host\n");
    let_index_know();
    open_folder();
    folder_cache(folder, 2, &cached);
    folder_cache(folder, 3, &cached);
    folder_learn_size(folder, folder_find(folder, 3), 1234);
    uint64_t highest = folder_highest_modseq(folder), modseq = folder_find(folder, 2)->modseq;
    close_folder();
    /* As if it had been put back to a state of before the third came, and then another had come. */
    assert_int_equal(unlink(at("cur/3.c.host:2,TS")), 0);
    put("cur/9.z.host:2,TS", "another\n");
    put("dovecot-uidlist",
        "3 V77 N5 G00000000000000000000000000000000\n1 :1.a.host\n2 :2.b.host\n3 :9.z.host\n4 :4.d.host\n");
    open_folder();
    assert_true(folder_cached(folder, 2, arena, &cached));
    assert_true(folder_find(folder, 2)->modseq == modseq);
    assert_false(folder_cached(folder, 3, arena, &cached));
    assert_int_equal(folder_message_size(folder, folder_find(folder, 3), &err), 9);
    assert_true(folder_find(folder, 3)->modseq > highest);
    assert_content(3, "another\n");
    arena_free(&arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_unchanged_folder_is_not_looked_through),
        TEST(test_files_are_found_by_their_names_in_the_index),
        TEST(test_new_mail_is_seen),
        TEST(test_new_mail_is_seen_while_it_is_open),
        TEST(test_flags_that_another_set_are_seen),
        TEST(test_a_file_that_was_renamed_is_found),
        TEST(test_flags_are_set_by_names_of_the_index),
        TEST(test_what_lies_in_new_stays_new),
        TEST(test_another_list_of_uids_is_read),
        TEST(test_what_just_changed_is_not_trusted),
        TEST(test_missing_names_cost_a_look),
        TEST(test_flags_of_two_are_both_kept),
        TEST(test_what_somebody_wants_after_all_stays),
        TEST(test_nothing_is_done_to_another_message),
        TEST(test_a_renamed_file_keeps_its_time),
        TEST(test_no_message_gets_the_time_of_one_that_had_its_number),
        TEST(test_a_number_that_another_file_got_is_another_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
