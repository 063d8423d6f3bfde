/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/index: mod-sequences that only grow, what vanished, the cache; and that damage costs nothing but itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/store/index.h"

static char directory[200];

static int
setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "%s/test-index-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(directory) ? 0 : -1;
}

static int
teardown(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock", "state"};
    char path[300];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

static struct index *
open_index(void)
{
    struct err err;
    struct index *index = index_open(directory, &err);
    if (!index)
        fail_msg("%s", err.text);
    return index;
}

static const struct index_key *
folder(void)
{
    static struct index_key key;
    key = index_key(slice_from("0123456789abcdef"), 77);
    return &key;
}

static struct index_message *
load(struct index *index, size_t *count, uint64_t *highest)
{
    struct index_message *list;
    struct err err;
    if (index_load(index, folder(), &list, count, highest, NULL, &err) < 0)
        fail_msg("%s", err.text);
    return list;
}

/* One message's flags; its mod-sequence. */
static uint64_t
commit(struct index *index, uint32_t uid, unsigned flags)
{
    struct index_message message = {.uid = uid, .flags = flags, .size = 100 + uid, .arrived = 1000};
    uint64_t highest;
    struct err err;
    if (index_commit(index, folder(), &message, 1, NULL, 0, NULL, &highest, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(highest >= message.modseq);
    return message.modseq;
}

static uint64_t
expunge(struct index *index, const uint32_t *uids, size_t count)
{
    uint64_t highest;
    struct err err;
    assert_int_equal(index_commit(index, folder(), NULL, 0, uids, count, NULL, &highest, &err), 0);
    return highest;
}

static void
test_changes_get_growing_numbers(void **state)
{
    (void)state;
    struct index *index = open_index();
    uint64_t first = commit(index, 1, 0), second = commit(index, 2, 0), again = commit(index, 1, 1);
    assert_true(first > 0 && second > first && again > second);
    assert_true(commit(index, 1, 1) == again); /* the same flags, written by another process */
    index_close(&index);

    index = open_index();
    size_t count;
    uint64_t highest;
    struct index_message *list = load(index, &count, &highest);
    assert_int_equal(count, 2);
    assert_true(list[0].uid == 1 && list[0].modseq == again && list[0].flags == 1 && list[0].size == 101);
    assert_true(list[1].uid == 2 && list[1].modseq == second && highest == again);
    free(list);
    index_close(&index);
}

static void
test_many_messages_stay_in_order(void **state)
{
    enum { MANY = 1000 };
    (void)state;
    struct index *index = open_index();
    struct index_message *messages = calloc(MANY, sizeof(*messages)), *list;
    uint64_t highest;
    size_t count;
    struct err err;
    for (uint32_t i = 0; i < MANY; i++)
        messages[i] = (struct index_message){.uid = 3 * i + 1};
    assert_int_equal(index_commit(index, folder(), messages, MANY, NULL, 0, NULL, &highest, &err), 0);
    assert_int_equal(index_load(index, folder(), &list, &count, &highest, NULL, &err), 0);
    assert_int_equal(count, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        assert_true(list[i].uid == 3 * i + 1 && list[i].modseq == highest);
    free(list);
    free(messages);
    index_close(&index);
}

static void
test_what_vanished_is_told(void **state)
{
    (void)state;
    struct index *index = open_index();
    struct arena *arena = arena_new();
    uint32_t *uids, both[] = {2, 300};
    size_t count;
    bool known;
    struct err err;
    for (uint32_t uid = 1; uid <= 400; uid++)
        commit(index, uid, 0);
    uint64_t before = commit(index, 1, 1), after = expunge(index, both, 2);
    assert_true(after > before);
    assert_true(expunge(index, both, 2) == after); /* known already */
    assert_int_equal(index_vanished(index, folder(), before, arena, &uids, &count, &known, &err), 0);
    assert_true(known && count == 2 && uids[0] == 2 && uids[1] == 300);
    assert_int_equal(index_vanished(index, folder(), after, arena, &uids, &count, &known, &err), 0);
    assert_true(known && count == 0);
    assert_int_equal(index_vanished(index, folder(), 1, arena, &uids, &count, &known, &err), 0);
    assert_false(known);
    arena_free(&arena);
    index_close(&index);
}

static void
test_old_vanished_are_forgotten(void **state)
{
    (void)state;
    struct index *index = open_index();
    struct arena *arena = arena_new();
    uint32_t *uids;
    size_t count;
    bool known;
    struct err err;
    uint64_t start = commit(index, 1, 0), last = 0;
    for (uint32_t uid = 2; uid < 4300; uid++) {
        commit(index, uid, 0);
        last = expunge(index, &uid, 1);
    }
    assert_int_equal(index_vanished(index, folder(), start, arena, &uids, &count, &known, &err), 0);
    assert_false(known);
    assert_int_equal(index_vanished(index, folder(), last - 20, arena, &uids, &count, &known, &err), 0);
    assert_true(known && count == 10 && uids[9] == 4299);
    arena_free(&arena);
    index_close(&index);
}

static void
test_cache(void **state)
{
    (void)state;
    struct index *index = open_index();
    struct arena *arena = arena_new();
    struct index_cached in = {.sent = -5, .has_sent = true, .is_reply = true}, out;
    in.texts[INDEX_ENVELOPE] = slice_from("(NIL)");
    in.texts[INDEX_REFERENCES] = slice_make("a\0b\0", 4);
    assert_false(index_get(index, folder(), 9, arena, &out));
    index_put(index, folder(), 9, &in);
    struct slice id;
    assert_false(index_get_email_id(index, folder(), 9, arena, &id));
    index_put_email_id(index, folder(), 9, slice_from("M1"));
    index_flush(index);
    assert_true(index_get_email_id(index, folder(), 9, arena, &id) && slice_equal_text(id, "M1"));
    assert_false(index_get_header(index, folder(), 9, arena, &id));
    assert_true(index_get(index, folder(), 9, arena, &out));
    assert_true(out.sent == -5 && out.has_sent && out.is_reply && !out.is_wide);
    assert_true(slice_equal_text(out.texts[INDEX_ENVELOPE], "(NIL)") && out.texts[INDEX_SUBJECT].len == 0);
    assert_true(slice_equal(out.texts[INDEX_REFERENCES], slice_make("a\0b\0", 4)));
    commit(index, 9, 0);
    uint32_t uid = 9;
    expunge(index, &uid, 1);
    assert_false(index_get(index, folder(), 9, arena, &out));
    assert_false(index_get_email_id(index, folder(), 9, arena, &id));
    in.texts[INDEX_ENVELOPE] = slice_from("(other)");
    index_put(index, folder(), 10, &in);
    index_close(&index); /* pending is written */
    index = open_index();
    assert_true(index_get(index, folder(), 10, arena, &out));
    struct err err;
    assert_int_equal(index_forget(index, folder(), &err), 0);
    assert_false(index_get(index, folder(), 10, arena, &out));
    arena_free(&arena);
    index_close(&index);
}

/* ---- damage ---- */

static void
path_of(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", directory, name);
}

static void
flip(const char *name, off_t at)
{
    char path[300], byte = 0;
    path_of(path, sizeof(path), name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void
cut(off_t size)
{
    char path[300];
    path_of(path, sizeof(path), "data.mdb");
    assert_int_equal(truncate(path, size), 0);
}

/* Whatever happened: the index opens, knows nothing wrong, and counts on from above. */
static void
check_begins_anew(uint64_t last)
{
    struct index *index = open_index();
    size_t count;
    uint64_t highest;
    struct index_message *list = load(index, &count, &highest);
    assert_true(count == 0 && highest == 0);
    free(list);
    assert_true(commit(index, 1, 0) > last);
    index_close(&index);
}

static uint64_t
fill(void)
{
    struct index *index = open_index();
    uint64_t last = 0;
    for (uint32_t uid = 1; uid < 2000; uid++)
        last = commit(index, uid, uid % 8);
    index_close(&index);
    return last;
}

static void
test_damage_is_found_and_the_index_made_anew(void **state)
{
    struct stat st;
    char path[300];
    (void)state;
    path_of(path, sizeof(path), "data.mdb");
    uint64_t last = fill();
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at += st.st_size / 7 + 13) {
        flip("data.mdb", at);
        check_begins_anew(last);
        last = fill();
    }
    for (off_t size = 0; size < st.st_size; size += st.st_size / 5 + 1) {
        cut(size);
        check_begins_anew(last);
        last = fill();
    }
    unlink(path);
    check_begins_anew(last);
    last = fill();
    path_of(path, sizeof(path), "state");
    unlink(path);
    check_begins_anew(0); /* the time alone counts now, and runs behind so many new beginnings in one second */
}

/* A process that writes and is killed. */
static void
test_an_index_that_was_not_closed_is_made_anew(void **state)
{
    (void)state;
    int pipes[2];
    uint64_t last = 0;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct index *index = open_index();
        for (uint32_t uid = 1; uid < 50; uid++)
            last = commit(index, uid, 0);
        _exit(write(pipes[1], &last, sizeof(last)) == sizeof(last) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(pipes[0], &last, sizeof(last)), sizeof(last));
    close(pipes[0]);
    close(pipes[1]);
    check_begins_anew(last);
}

/* Two processes at once: the second joins; the last leaves it clean. */
static void
test_two_processes_share_it(void **state)
{
    (void)state;
    struct index *index = open_index();
    uint64_t first = commit(index, 1, 0);
    pid_t child = fork();
    if (child == 0) {
        struct index *other = open_index();
        bool good = commit(other, 1, 0) == first && commit(other, 2, 0) > first;
        index_close(&other);
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(commit(index, 1, 4) > first + 1);
    index_close(&index);
    index = open_index();
    size_t count;
    uint64_t highest;
    struct index_message *list = load(index, &count, &highest);
    assert_int_equal(count, 2);
    free(list);
    index_close(&index);
}

static void
test_a_place_where_nothing_can_be_made(void **state)
{
    struct err err;
    (void)state;
    assert_null(index_open("/proc/no/such", &err));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_changes_get_growing_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_messages_stay_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_vanished_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_vanished_are_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_found_and_the_index_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_index_that_was_not_closed_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_processes_share_it, setup, teardown),
        cmocka_unit_test(test_a_place_where_nothing_can_be_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
