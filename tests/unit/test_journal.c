/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/mail/journal.h"
#include "lib/mail/journal_segment.h"
#include "lib/mail/messages.h"
#include "lib/mail/source.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

enum { SEGMENT_SIZE = 1 << 20 };

static const char content[] = "Received: by here\r\nSubject: x\r\n\r\nHello\r\n..dots\r\n";

/* ---- a directory for each test ---- */

static char directory[] = "/tmp/test_journal.XXXXXX";
static char journal_dir[64];

static void
empty_directory(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
}

static int
set_up(void **state)
{
    (void)state;
    empty_directory(journal_dir);
    return 0;
}

static unsigned
count_files(const char *suffix)
{
    DIR *dir = opendir(journal_dir);
    struct dirent *entry;
    unsigned n = 0;

    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name), want = strlen(suffix);

        if (entry->d_name[0] != '.' && len >= want && strcmp(entry->d_name + len - want, suffix) == 0 &&
            (want > 0 || len == 8))
            n++;
    }
    closedir(dir);
    return n;
}

static struct journal *
open_journal(unsigned limit)
{
    struct journal_settings settings = {.directory = journal_dir, .segment_size = SEGMENT_SIZE, .segment_limit = limit};
    struct err err;
    struct journal *j = journal_new(&settings, &err);

    assert_non_null(j);
    return j;
}

/* Runs a test's body as a task. */
static void
in_task(void (*fn)(void *))
{
    task_run_main(fn, NULL);
}

static struct slice
encode(struct buf *out, const char *id)
{
    struct envelope_recipient recipient = {"bob@far.test", "", "", 0, 0, 0};
    struct envelope e = envelope_empty();

    e.queue_id = id;
    e.sender = "ann@src.test";
    e.arrival_sec = 1700000000;
    e.recipients = &recipient;
    e.recipient_count = 1;
    buf_clear(out);
    msg_encode(&type_envelope, &e, out);
    return buf_slice(out);
}

static void
must_append(struct journal *j, const char *id, struct slice text, struct journal_place *place)
{
    struct iovec iov = {(void *)(uintptr_t)text.ptr, text.len};
    struct buf envelope = {0};
    struct err err;

    if (journal_append(j, encode(&envelope, id), &iov, 1, place, &err) < 0)
        fail_msg("%s", err.text);
    buf_release(&envelope);
}

/* ---- what a scan finds ---- */

struct found {
    struct journal_place places[300];
    char ids[300][16];
    unsigned count, damaged;
};

static int
note(void *ctx, const struct journal_place *place, struct slice envelope)
{
    struct found *f = ctx;
    struct arena *arena = arena_new();
    struct err err;
    struct slice rest;
    const struct envelope *e = msg_decode(arena, &type_envelope, envelope, &rest, &err);

    assert_non_null(e);
    assert_true(f->count < 300);
    snprintf(f->ids[f->count], 16, "%s", e->queue_id);
    f->places[f->count++] = *place;
    arena_free(&arena);
    return 0;
}

static void
note_damaged(void *ctx, uint64_t offset)
{
    (void)offset;
    ((struct found *)ctx)->damaged++;
}

static char *
segment_path(uint32_t number)
{
    static __thread char path[128];

    snprintf(path, 128, "%s/%08X", journal_dir, number);
    return path;
}

static void
scan_file(const char *path, struct found *found)
{
    struct journal_segment_info info;
    struct err err;
    int fd = open(path, O_RDONLY);

    *found = (struct found){.count = 0};
    assert_true(fd >= 0);
    assert_int_equal(journal_segment_read(fd, &info, &err), 0);
    if (journal_scan(fd, &info, note, note_damaged, found, &err) < 0)
        fail_msg("%s", err.text);
    close(fd);
}

static void
flip(const char *path, uint64_t offset)
{
    int fd = open(path, O_RDWR);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x20;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* ---- appending ---- */

static void
append_and_scan(void *arg)
{
    struct journal *j = open_journal(4);
    struct journal_place places[3];
    static struct found found;
    struct err err;

    (void)arg;
    assert_int_equal(journal_prepare(j, &err), 0);
    must_append(j, "A1", slice_from(content), &places[0]);
    must_append(j, "A2", slice_make(content, 0), &places[1]);
    must_append(j, "A3", slice_from(content), &places[2]);
    assert_int_equal(places[0].offset, JOURNAL_HEADER_SIZE);
    assert_int_equal(places[1].offset % IMAGE_ALIGN, 0);
    scan_file(segment_path(places[0].segment), &found);
    assert_int_equal(found.count, 3);
    assert_int_equal(found.damaged, 0);
    assert_string_equal(found.ids[2], "A3");
    assert_memory_equal(found.places, places, sizeof(places));

    assert_int_equal(journal_outstanding(j), 3);
    for (unsigned i = 0; i < 3; i++)
        journal_release(j, &places[i]);
    assert_int_equal(journal_outstanding(j), 0);
    assert_int_equal(journal_remove_all(j, &err), 0);
    assert_int_equal(count_files(""), 0);
    journal_free(&j);
}

static void
test_append_and_scan(void **state)
{
    (void)state;
    in_task(append_and_scan);
}

static struct source *
open_source(struct arena *arena, struct journal *j, const struct journal_place *place, struct err *err)
{
    int fd = journal_segment_fd(j, place->segment, place->generation);
    struct journal_segment_info info;

    assert_int_equal(journal_segment_read(fd, &info, err), 0);
    return source_open_image(arena, fd, &info, place->offset, place->length, err);
}

/* A stale place: the segment was recycled, and another message lies there now. And bytes that went bad. */
static void
source_gives_no_bytes_of_another(void *arg)
{
    struct journal *j = open_journal(4);
    struct arena *arena = arena_new();
    struct journal_segment_info info;
    struct journal_place old, new;
    struct err err;
    int fd;

    (void)arg;
    must_append(j, "A1", slice_from(content), &old);
    assert_int_equal(journal_segment_read(journal_segment_fd(j, old.segment, old.generation), &info, &err), 0);
    journal_seal(j);
    journal_release(j, &old);
    do
        must_append(j, "B2", slice_from(content), &new);
    while (new.segment != old.segment && (journal_seal(j), journal_release(j, &new), true));
    assert_int_not_equal(new.generation, old.generation);
    assert_int_equal(new.offset, old.offset);
    fd = journal_segment_fd(j, new.segment, new.generation);
    assert_null(source_open_image(arena, fd, &info, old.offset, old.length, &err));
    assert_non_null(open_source(arena, j, &new, &err));
    flip(segment_path(new.segment), new.offset + new.length - 10);
    assert_null(open_source(arena, j, &new, &err));
    assert_int_equal(err.kind, ERR_SYNTAX);
    flip(segment_path(new.segment), new.offset + new.length - 10);
    flip(segment_path(new.segment), new.offset + IMAGE_HEADER_SIZE + 5);
    assert_null(open_source(arena, j, &new, &err));
    arena_free(&arena);
    journal_free(&j);
}

static void
test_source_gives_no_bytes_of_another(void **state)
{
    (void)state;
    in_task(source_gives_no_bytes_of_another);
}

static void
source_reads_image(void *arg)
{
    struct journal *j = open_journal(4);
    struct arena *arena = arena_new();
    struct journal_place place;
    struct source *source;
    struct slice bytes;
    struct err err;
    char text[256];

    (void)arg;
    must_append(j, "A1", slice_from(content), &place);
    source = open_source(arena, j, &place, &err);
    assert_non_null(source);
    assert_string_equal(source_envelope(source)->sender, "ann@src.test");
    assert_int_equal(source_next_wire(source, &bytes, &err), 1);
    assert_int_equal(bytes.len, strlen(content) + 3);
    assert_memory_equal(bytes.ptr, content, strlen(content));
    assert_memory_equal(bytes.ptr + strlen(content), ".\r\n", 3);
    assert_int_equal(source_next_wire(source, &bytes, &err), 0);
    source_rewind(source);
    ssize_t n = source_read_text(source, text, sizeof(text), &err);
    assert_string_equal((text[n] = 0, text), "Received: by here\nSubject: x\n\nHello\n.dots\n");
    assert_int_equal(source_read_text(source, text, sizeof(text), &err), 0);
    arena_free(&arena);
    journal_free(&j);
    assert_int_equal(count_files(""), 1); /* with an image in it: left for whoever takes it over */
}

static void
test_source_reads_image(void **state)
{
    (void)state;
    in_task(source_reads_image);
}

/* ---- group commit ---- */

struct many {
    struct journal *journal;
    struct task_group group;
    unsigned failed;
};

static void
append_one(void *arg)
{
    struct many *many = arg;
    struct iovec iov = {(void *)(uintptr_t)content, strlen(content)};
    struct journal_place place;
    struct buf envelope = {0};
    struct err err;

    for (unsigned i = 0; i < 3; i++)
        if (journal_append(many->journal, encode(&envelope, "A1"), &iov, 1, &place, &err) < 0) {
            many->failed++;
            assert_int_equal(err.kind, ERR_IO);
        }
    buf_release(&envelope);
}

static void
append_many(struct many *many, unsigned tasks)
{
    task_group_init(&many->group);
    for (unsigned i = 0; i < tasks; i++)
        task_spawn(&many->group, "append", append_one, many);
    task_group_join(&many->group);
}

static void
groups_share_a_sync(void *arg)
{
    struct many many = {.journal = open_journal(4)};

    (void)arg;
    append_many(&many, 50);
    assert_int_equal(many.failed, 0);
    assert_int_equal(journal_counts(many.journal).appends, 150);
    assert_true(journal_counts(many.journal).syncs <= 12); /* 3 if each round goes together */
    assert_int_equal(journal_waiting(many.journal), 0);
    journal_free(&many.journal);
}

static void
test_groups_share_a_sync(void **state)
{
    (void)state;
    in_task(groups_share_a_sync);
}

/* ---- recycling ---- */

static void
segments_are_recycled(void *arg)
{
    struct journal *j = open_journal(3);
    char *big = calloc(1, 100000);
    struct journal_place place, first = {0};
    static struct found found;
    struct err err;

    (void)arg;
    memset(big, 'x', 100000);
    for (unsigned i = 0; i < 60; i++) { /* six times what a segment holds */
        must_append(j, i == 0 ? "FIRST" : "LATER", slice_make(big, 100000), &place);
        if (i == 0)
            first = place;
        journal_release(j, &place);
    }
    assert_true(journal_counts(j).segments_made <= 3);
    assert_true(journal_counts(j).segments_recycled >= 2);
    scan_file(segment_path(first.segment), &found);
    for (unsigned i = 0; i < found.count; i++) /* what a generation before left is no image */
        assert_string_equal(found.ids[i], "LATER");
    assert_int_equal(journal_segment_fd(j, first.segment, first.generation), -1);
    assert_int_equal(journal_remove_all(j, &err), 0);
    assert_int_equal(count_files(""), 0);
    journal_free(&j);
    free(big);
}

static void
test_segments_are_recycled(void **state)
{
    (void)state;
    in_task(segments_are_recycled);
}

struct blocked {
    struct journal *journal;
    struct journal_place place;
    bool done;
};

static void
append_blocked(void *arg)
{
    struct blocked *b = arg;
    char *big = calloc(1, 600000);

    must_append(b->journal, "A9", slice_make(big, 600000), &b->place);
    b->done = true;
    free(big);
}

/* One image fills more than half of a segment; two segments, and then appends wait for a release. */
static void
appends_wait_at_the_limit(void *arg)
{
    struct blocked b = {.journal = open_journal(2)};
    struct journal_place places[2];
    struct task_group group;
    char *big = calloc(1, 600000);
    struct err err;

    (void)arg;
    must_append(b.journal, "A1", slice_make(big, 600000), &places[0]);
    must_append(b.journal, "A2", slice_make(big, 600000), &places[1]);
    task_group_init(&group);
    task_spawn(&group, "append", append_blocked, &b);
    assert_int_equal(task_sleep(100000, &err), 0);
    assert_false(b.done);
    journal_release(b.journal, &places[0]);
    task_group_join(&group);
    assert_true(b.done);
    assert_int_equal(b.place.segment, places[0].segment);
    assert_int_not_equal(b.place.generation, places[0].generation);

    b.done = false; /* and a task that waits can be cancelled */
    struct task *task = task_spawn(&group, "append", append_one, &(struct many){.journal = b.journal});
    assert_int_equal(task_sleep(20000, &err), 0);
    (void)task;
    task_group_join(&group);
    free(big);
    journal_free(&b.journal);
}

static void
test_appends_wait_at_the_limit(void **state)
{
    (void)state;
    in_task(appends_wait_at_the_limit);
}

/* ---- large images ---- */

static void
large_image(void *arg)
{
    struct journal *j = open_journal(2);
    struct journal_large *large;
    struct journal_place place;
    struct buf envelope = {0};
    struct arena *arena = arena_new();
    struct source *source;
    static struct found found;
    struct slice bytes;
    struct err err;
    size_t total = 0;
    int more;
    char line[78];

    (void)arg;
    memset(line, 'y', sizeof(line));
    memcpy(line + 76, "\r\n", 2);
    large = journal_large_new(j, 0, 4000, &err);
    assert_non_null(large);
    assert_int_equal(count_files(""), 0); /* not there before it is complete */
    for (unsigned i = 0; i < 30000; i++)
        assert_int_equal(journal_large_write(large, slice_make(line, sizeof(line)), &err), 0);
    assert_int_equal(journal_large_commit(&large, encode(&envelope, "BIG"), &place, &err), 0);
    assert_null(large);
    scan_file(segment_path(place.segment), &found);
    assert_int_equal(found.count, 1);
    assert_string_equal(found.ids[0], "BIG");
    assert_memory_equal(&found.places[0], &place, sizeof(place));
    source = open_source(arena, j, &place, &err);
    assert_non_null(source);
    while (source_next_wire(source, &bytes, &err) > 0)
        total += bytes.len;
    assert_int_equal(total, 30000 * sizeof(line) + 3);
    flip(segment_path(place.segment), place.offset + place.length - 100);
    source_rewind(source);
    total = 0;
    while ((more = source_next_wire(source, &bytes, &err)) > 0)
        total += bytes.len;
    assert_int_equal(more, -1); /* noticed before the end of data is given */
    assert_true(total < 30000 * sizeof(line));
    scan_file(segment_path(place.segment), &found);
    assert_int_equal(found.count, 0);
    assert_int_equal(found.damaged, 1);
    journal_release(j, &place);
    assert_int_equal(journal_outstanding(j), 0);

    large = journal_large_new(j, 1000000, 4000, &err); /* given up */
    assert_int_equal(journal_large_write(large, slice_make(line, sizeof(line)), &err), 0);
    journal_large_abort(&large);
    assert_int_equal(count_files(".new"), 0);
    arena_free(&arena);
    buf_release(&envelope);
    journal_free(&j);
}

static void
test_large_image(void **state)
{
    (void)state;
    in_task(large_image);
}

/* Writes whose sizes fall on both sides of what is written at once, enough of them that syncs begin before the end; what comes out is
 * what went in. */
static void
large_image_in_odd_pieces(void *arg)
{
    static const size_t sizes[] = {1, 524287, 524288, 524289, 2, 1048576, 131072, 3, 700001};
    struct journal *j = open_journal(2);
    struct journal_large *large;
    struct journal_place place;
    struct buf envelope = {0}, sent = {0}, got = {0};
    struct arena *arena = arena_new();
    struct source *source;
    struct slice bytes;
    struct err err;
    int more;

    (void)arg;
    large = journal_large_new(j, 0, 4000, &err);
    assert_non_null(large);
    for (unsigned i = 0; sent.len < 12 << 20; i++) {
        size_t n = sizes[i % ARRAY_LEN(sizes)];
        char *to = buf_reserve(&sent, n);
        for (size_t k = 0; k < n; k++)
            to[k] = (char)('a' + (sent.len + k) * 2654435761U % 25);
        buf_added(&sent, n);
        assert_int_equal(journal_large_write(large, slice_make(sent.ptr + sent.len - n, n), &err), 0);
    }
    buf_append(&sent, "\r\n", 2);
    assert_int_equal(journal_large_write(large, slice_make("\r\n", 2), &err), 0);
    assert_int_equal(journal_large_commit(&large, encode(&envelope, "BIG"), &place, &err), 0);
    source = open_source(arena, j, &place, &err);
    assert_non_null(source);
    while ((more = source_next_wire(source, &bytes, &err)) > 0)
        buf_append_slice(&got, bytes);
    assert_int_equal(more, 0);
    assert_int_equal(got.len, sent.len + 3);
    assert_memory_equal(got.ptr, sent.ptr, sent.len);
    journal_release(j, &place);
    arena_free(&arena);
    buf_release(&envelope);
    buf_release(&sent);
    buf_release(&got);
    journal_free(&j);
}

static void
test_large_image_in_odd_pieces(void **state)
{
    (void)state;
    in_task(large_image_in_odd_pieces);
}

static void
too_large_for_a_segment(void *arg)
{
    struct journal *j = open_journal(2);
    char *big = calloc(1, 3 * SEGMENT_SIZE);
    struct journal_place place;
    static struct found found;

    (void)arg;
    must_append(j, "BIG", slice_make(big, 3 * SEGMENT_SIZE), &place);
    scan_file(segment_path(place.segment), &found);
    assert_int_equal(found.count, 1);
    assert_string_equal(found.ids[0], "BIG");
    free(big);
    journal_free(&j);
}

static void
test_too_large_for_a_segment(void **state)
{
    (void)state;
    in_task(too_large_for_a_segment);
}

/* ---- damage ---- */

static void
torn_images(void *arg)
{
    struct journal *j = open_journal(2);
    struct journal_place places[4];
    static struct found found;
    char *path;

    (void)arg;
    for (unsigned i = 0; i < 4; i++)
        must_append(j, (const char *[]){"A1", "A2", "A3", "A4"}[i], slice_from(content), &places[i]);
    path = segment_path(places[0].segment);
    for (uint64_t at = 0; at < places[1].length; at += 7) { /* wherever the second is damaged, the others stand */
        flip(path, places[1].offset + at);
        scan_file(path, &found);
        assert_int_equal(found.count, 3);
        assert_string_equal(found.ids[0], "A1");
        assert_string_equal(found.ids[1], "A3");
        assert_string_equal(found.ids[2], "A4");
        flip(path, places[1].offset + at);
    }
    assert_int_equal(truncate(path, (off_t)(places[3].offset + places[3].length - 1)), 0);
    scan_file(path, &found);
    assert_int_equal(found.count, 3);
    flip(path, 20);
    struct journal_segment_info info;
    struct err err;
    int fd = open(path, O_RDONLY);
    assert_int_equal(journal_segment_read(fd, &info, &err), -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    close(fd);
    journal_free(&j);
}

static void
test_torn_images(void **state)
{
    (void)state;
    in_task(torn_images);
}

/* A mail whose content is a copy of a segment, with complete images in it at aligned places. */
static void
forged_image(void *arg)
{
    struct journal *j = open_journal(2), *other;
    struct journal_place place;
    static struct found found;
    char *copy = malloc(65536);
    ssize_t n;
    int fd;

    (void)arg;
    for (unsigned i = 0; i < 20; i++)
        must_append(j, "INNER", slice_from(content), &place);
    fd = open(segment_path(place.segment), O_RDONLY);
    n = pread(fd, copy, 65536, 0);
    assert_int_equal(n, 65536);
    close(fd);
    empty_directory(journal_dir);
    other = open_journal(2);
    for (unsigned shift = 0; shift < IMAGE_ALIGN; shift += 1) {
        must_append(other, "OUTER", slice_make(copy + shift, 8192), &place);
        journal_release(other, &place);
    }
    /* The own segment's bytes, own key and all, inside a later mail: at other offsets they are no images. */
    fd = open(segment_path(place.segment), O_RDONLY);
    n = pread(fd, copy, 65536, JOURNAL_HEADER_SIZE);
    close(fd);
    must_append(other, "OUTER", slice_make(copy, (size_t)n), &place);
    scan_file(segment_path(place.segment), &found);
    for (unsigned i = 0; i < found.count; i++)
        assert_string_equal(found.ids[i], "OUTER");
    free(copy);
    journal_free(&j);
    journal_free(&other);
}

static void
test_forged_image(void **state)
{
    (void)state;
    in_task(forged_image);
}

/* ---- failures ---- */

static unsigned syncs_until_failure;
static int fail_errno;
static unsigned writes_until_failure;

static int
failing_fdatasync(int fd)
{
    if (syncs_until_failure && --syncs_until_failure == 0) {
        errno = fail_errno;
        return -1;
    }
    return fdatasync(fd);
}

/* Short writes always; and a failure when its time has come. */
static ssize_t
failing_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (writes_until_failure && --writes_until_failure == 0) {
        errno = fail_errno;
        return -1;
    }
    size_t n = iov->iov_len > 1 ? iov->iov_len / 2 : iov->iov_len;
    (void)count;
    return pwrite(fd, iov->iov_base, n, offset);
}

static void
failed_sync(void *arg)
{
    struct many many = {.journal = open_journal(4)};
    struct journal_place before, after;
    static struct found found;
    struct err err;
    char name[160];

    (void)arg;
    must_append(many.journal, "GOOD", slice_from(content), &before);
    syncs_until_failure = 1;
    fail_errno = EIO;
    journal_io.fdatasync = failing_fdatasync;
    append_many(&many, 10);
    assert_int_equal(many.failed, 10); /* one round; the others went into a fresh segment */
    journal_io.fdatasync = fdatasync;
    must_append(many.journal, "NEXT", slice_from(content), &after);
    assert_int_not_equal(after.segment, before.segment);
    scan_file(segment_path(before.segment), &found);
    assert_true(found.count >= 1);
    assert_string_equal(found.ids[0], "GOOD");

    /* Those that failed are struck. */
    struct journal_segment_info info;
    struct journal_done *done;
    struct arena *arena = arena_new();
    size_t count;
    snprintf(name, sizeof(name), "%s.done", segment_path(before.segment));
    int done_fd = open(name, O_RDONLY), fd = open(segment_path(before.segment), O_RDONLY);
    assert_int_equal(journal_segment_read(fd, &info, &err), 0);
    assert_int_equal(journal_done_read(done_fd, &info, arena, &done, &count, &err), 0);
    assert_int_equal(count, 10);
    assert_int_equal(done[0].recipient, JOURNAL_DONE_ALL);
    close(fd);
    close(done_fd);
    arena_free(&arena);

    journal_release(many.journal, &before); /* retired: goes, is not recycled */
    assert_int_equal(journal_segment_fd(many.journal, before.segment, before.generation), -1);
    journal_free(&many.journal);
}

static void
test_failed_sync_fails_what_it_covered(void **state)
{
    (void)state;
    in_task(failed_sync);
}

/* The first sync of a large image, long before its end, fails; all later ones would succeed. */
static void
failed_early_sync(void *arg)
{
    enum { BLOCK = 1 << 20 };
    struct journal *j = open_journal(2);
    char *block = calloc(1, BLOCK);
    struct journal_large *large;
    struct journal_place place;
    struct buf envelope = {0};
    struct err err;
    int result = 0;

    (void)arg;
    large = journal_large_new(j, 0, 4000, &err);
    assert_non_null(large);
    syncs_until_failure = 1;
    fail_errno = EIO;
    journal_io.fdatasync = failing_fdatasync;
    for (unsigned i = 0; result == 0 && i < 8; i++)
        result = journal_large_write(large, slice_make(block, BLOCK), &err);
    if (result < 0)
        journal_large_abort(&large);
    else
        result = journal_large_commit(&large, encode(&envelope, "BAD"), &place, &err);
    assert_int_equal(result, -1);
    assert_int_equal(err.code, EIO);
    assert_int_equal(syncs_until_failure, 0);
    journal_io.fdatasync = fdatasync;
    assert_int_equal(count_files(""), 0);
    assert_int_equal(count_files(".new"), 0);
    free(block);
    buf_release(&envelope);
    journal_free(&j);
}

static void
test_failed_early_sync_fails_a_large_image(void **state)
{
    (void)state;
    in_task(failed_early_sync);
}

static void
failed_write(void *arg)
{
    struct many many = {.journal = open_journal(4)};
    struct journal_place place;
    static struct found found;
    struct err err;

    (void)arg;
    assert_int_equal(journal_prepare(many.journal, &err), 0);
    journal_io.pwritev = failing_pwritev;
    must_append(many.journal, "SHORT", slice_from(content), &place);
    scan_file(segment_path(place.segment), &found);
    assert_int_equal(found.count, 1);
    writes_until_failure = 2;
    fail_errno = ENOSPC;
    append_many(&many, 1);
    assert_int_equal(many.failed, 1);
    writes_until_failure = 3; /* in the making of a segment */
    struct journal *fresh = open_journal(4);
    struct iovec iov = {(void *)(uintptr_t)content, strlen(content)};
    struct buf envelope = {0};
    assert_int_equal(journal_append(fresh, encode(&envelope, "X"), &iov, 1, &place, &err), -1);
    assert_int_equal(err.code, ENOSPC);
    journal_io.pwritev = pwritev;
    assert_int_equal(journal_append(fresh, encode(&envelope, "X"), &iov, 1, &place, &err), 0);
    buf_release(&envelope);
    journal_free(&fresh);
    journal_free(&many.journal);
    assert_int_equal(count_files(".new"), 0);
}

static void
test_failed_write(void **state)
{
    (void)state;
    in_task(failed_write);
}

/* ---- locks, litter, ids, done-lists ---- */

static void
locks_and_litter(void *arg)
{
    struct journal *j;
    struct journal_place place;
    char path[160];
    int fd;

    (void)arg;
    snprintf(path, sizeof(path), "%s/00000001.new", journal_dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof(path), "%s/00000001", journal_dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    j = open_journal(2);
    assert_int_equal(count_files(".new"), 0);
    must_append(j, "A1", slice_from(content), &place);
    assert_int_equal(place.segment, 2); /* a name that is there is not taken */
    fd = open(segment_path(place.segment), O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    journal_free(&j);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
}

static void
test_locks_and_litter(void **state)
{
    (void)state;
    in_task(locks_and_litter);
}

static void
test_ids(void **state)
{
    uint64_t first, second, third, last;
    struct err err;
    char path[160];
    int fd;

    (void)state;
    assert_int_equal(journal_take_ids(journal_dir, 100, &first, &err), 0);
    assert_true(first >= 0x100000);
    assert_int_equal(journal_take_ids(journal_dir, 50, &second, &err), 0);
    assert_int_equal(second, first + 100);
    assert_int_equal(journal_take_ids(journal_dir, 7, &third, &err), 0);
    assert_int_equal(third, second + 50);
    snprintf(path, sizeof(path), "%s/ids", journal_dir);
    flip(path, 10); /* the slot that was written last, torn: what follows is no less than what was given before that */
    assert_int_equal(journal_take_ids(journal_dir, 7, &last, &err), 0);
    assert_int_equal(last, third);
    fd = open(path, O_WRONLY | O_TRUNC);
    close(fd);
    assert_int_equal(journal_take_ids(journal_dir, 7, &last, &err), 0);
    assert_true(last >= 0x100000);
}

static void
test_done_list(void **state)
{
    struct journal_segment_info info = {1, 7, {11, 12}, SEGMENT_SIZE}, other = {1, 8, {11, 13}, SEGMENT_SIZE};
    struct journal_done in[] = {{4096, 0}, {4096, 1000000}, {8704, JOURNAL_DONE_ALL}}, *out, many[200];
    struct arena *arena = arena_new();
    struct err err;
    size_t count;
    char path[160];
    int fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/00000001.done", journal_dir);
    fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    assert_int_equal(journal_done_append(fd, &other, in, 2, &err), 0);
    assert_int_equal(write(fd, "torn", 4), 4);
    assert_int_equal(journal_done_append(fd, &info, in, 3, &err), 0);
    assert_int_equal(write(fd, "end", 3), 3);
    assert_int_equal(journal_done_read(fd, &info, arena, &out, &count, &err), 0);
    assert_int_equal(count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(out[i].offset, in[i].offset);
        assert_int_equal(out[i].recipient, in[i].recipient);
    }
    for (unsigned i = 0; i < 200; i++)
        many[i] = (struct journal_done){512 * i, i};
    assert_int_equal(journal_done_append(fd, &info, many, 200, &err), 0);
    assert_int_equal(journal_done_read(fd, &info, arena, &out, &count, &err), 0);
    assert_int_equal(count, 203);
    assert_int_equal(out[202].recipient, 199);
    close(fd);
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_append_and_scan, set_up),
        cmocka_unit_test_setup(test_source_reads_image, set_up),
        cmocka_unit_test_setup(test_source_gives_no_bytes_of_another, set_up),
        cmocka_unit_test_setup(test_groups_share_a_sync, set_up),
        cmocka_unit_test_setup(test_segments_are_recycled, set_up),
        cmocka_unit_test_setup(test_appends_wait_at_the_limit, set_up),
        cmocka_unit_test_setup(test_large_image, set_up),
        cmocka_unit_test_setup(test_large_image_in_odd_pieces, set_up),
        cmocka_unit_test_setup(test_too_large_for_a_segment, set_up),
        cmocka_unit_test_setup(test_torn_images, set_up),
        cmocka_unit_test_setup(test_forged_image, set_up),
        cmocka_unit_test_setup(test_failed_sync_fails_what_it_covered, set_up),
        cmocka_unit_test_setup(test_failed_early_sync_fails_a_large_image, set_up),
        cmocka_unit_test_setup(test_failed_write, set_up),
        cmocka_unit_test_setup(test_locks_and_litter, set_up),
        cmocka_unit_test_setup(test_ids, set_up),
        cmocka_unit_test_setup(test_done_list, set_up),
    };
    int result;

    if (!mkdtemp(directory))
        return 1;
    snprintf(journal_dir, sizeof(journal_dir), "%s/journal", directory);
    mkdir(journal_dir, 0700);
    loop_init();
    result = cmocka_run_group_tests(tests, NULL, NULL);
    loop_release();
    empty_directory(journal_dir);
    rmdir(journal_dir);
    rmdir(directory);
    return result;
}
