/* SPDX-License-Identifier: Apache-2.0 */
/* A content of any size, through memory of constant size, into a segment made for it alone: first the content, behind
 * space for header and envelope; these last. Nobody takes the segment for one before it is synced and named.
 *
 * There are two buffers: while a thread of the pool writes one, the other gathers what comes. A second thread syncs what was written so
 * far, again and again, so that the sync at the end finds little left to do: what a disk has in its cache takes it as long to write as
 * what it has not seen (handing pages to it early, by sync_file_range(), gained little). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/journal_internal.h"

enum {
    GATHER_SIZE = 512 * 1024, /* so much goes to the pool's thread at once */
    SYNC_BEHIND = 4 << 20,    /* so much written, and a sync begins */
};

struct journal_large {
    struct journal *journal;
    struct journal_segment *segment;
    uint64_t expected;
    uint32_t hint;
    size_t envelope_max;
    uint64_t content_start;
    char *gathered; /* what comes next */
    size_t gathered_len;
    struct task_cond idle;
    bool is_ending; /* no early sync any more */

    bool is_syncing; /* a thread has what follows */
    uint64_t synced; /* of the content, by the sync under way or the last one */
    int sync_result;
    struct err sync_err;

    bool is_writing; /* another has this */
    char *writing;
    size_t writing_len;
    uint64_t written; /* of the content */
    struct siphash_state sum;
    struct slice envelope;
    int result;
    struct err err;
};

static void
create_run(void *arg)
{
    struct journal_large *l = arg;

    l->result = journal_segment_create(l->journal->dir_fd, l->hint, 0, l->segment, &l->err);
    if (l->result == 0 && l->expected > 0 &&
        fallocate(l->segment->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(l->content_start + l->expected)) < 0 &&
        errno == ENOSPC) {
        l->result = err_errno(&l->err, "journal segment of %" PRIu64 " bytes", l->expected);
        journal_segment_remove(l->journal->dir_fd, l->segment);
    }
}

static void
large_free(struct journal_large **large)
{
    free((*large)->gathered);
    free((*large)->writing);
    free(*large);
    *large = NULL;
}

struct journal_large *may_wait
journal_large_new(struct journal *j, uint64_t expected_size, size_t envelope_max, struct err *err)
{
    struct journal_large *l;
    struct journal_segment *s;

    if (envelope_max > IMAGE_ENVELOPE_LIMIT) {
        err_set(err, ERR_PERM, "envelope of %zu bytes", envelope_max);
        return NULL;
    }
    l = calloc(1, sizeof(*l));
    s = calloc(1, sizeof(*s));
    if (!l || !s)
        fatal("out of memory");
    l->journal = j;
    l->segment = s;
    l->expected = expected_size;
    l->hint = j->last_number;
    l->envelope_max = envelope_max;
    l->content_start = JOURNAL_HEADER_SIZE + IMAGE_HEADER_SIZE + envelope_max;
    task_run_blocking(create_run, l);
    if (l->result < 0) {
        *err = l->err;
        free(s);
        large_free(&l);
        return NULL;
    }
    j->last_number = s->number;
    s->single = true;
    siphash_begin(&l->sum, &s->key);
    return l;
}

/* In the pool: writes a buffer. */
static void
write_run(void *arg)
{
    struct journal_large *l = arg;
    struct iovec iov = {l->writing, l->writing_len};

    if (l->writing_len == 0)
        return;
    siphash_add(&l->sum, l->writing, l->writing_len);
    l->result = journal_segment_write(l->segment->fd, &iov, 1, l->content_start + l->written, &l->err);
    l->written += l->writing_len;
}

/* In the pool. A failure counts even if a later sync succeeds: the kernel tells of it only once. */
static void
sync_run(void *arg)
{
    struct journal_large *l = arg;

    if (journal_io.fdatasync(l->segment->fd) < 0)
        l->sync_result = err_errno(&l->sync_err, "sync of a journal segment");
}

static void
sync_done(void *arg)
{
    struct journal_large *l = arg;

    l->is_syncing = l->journal->large_is_syncing = false;
    task_wake_all(&l->idle);
}

/* One at a time, so that the pool's other threads remain for others. */
static void
sync_early(struct journal_large *l)
{
    if (l->journal->large_is_syncing || l->sync_result < 0 || l->written - l->synced < SYNC_BEHIND)
        return;
    l->is_syncing = l->journal->large_is_syncing = true;
    l->synced = l->written;
    pool_submit(sync_run, sync_done, l);
}

static void
write_done(void *arg)
{
    struct journal_large *l = arg;

    l->is_writing = false;
    if (l->result == 0 && !l->is_ending)
        sync_early(l);
    task_wake_all(&l->idle);
}

/* Until no thread writes any more; all: nor syncs. */
static int may_wait
wait_idle(struct journal_large *l, bool all)
{
    while (l->is_writing || (all && l->is_syncing))
        task_wait_always(&l->idle);
    if (l->result == 0 && !l->is_syncing && l->sync_result < 0) {
        l->result = -1;
        l->err = l->sync_err;
    }
    return l->result;
}

/* What has gathered is next to be written. */
static void
swap_buffers(struct journal_large *l)
{
    char *empty = l->writing;

    l->writing = l->gathered;
    l->writing_len = l->gathered_len;
    l->gathered = empty;
    l->gathered_len = 0;
}

static void
gather(struct journal_large *l, const char *bytes, size_t n)
{
    if (!l->gathered && !(l->gathered = malloc(GATHER_SIZE)))
        fatal("out of memory");
    memcpy(l->gathered + l->gathered_len, bytes, n);
    l->gathered_len += n;
}

int may_wait
journal_large_write(struct journal_large *l, struct slice bytes, struct err *err)
{
    while (bytes.len > 0) {
        size_t n = GATHER_SIZE - l->gathered_len < bytes.len ? GATHER_SIZE - l->gathered_len : bytes.len;

        gather(l, bytes.ptr, n);
        bytes = slice_make(bytes.ptr + n, bytes.len - n);
        if (l->gathered_len < GATHER_SIZE)
            continue;
        if (wait_idle(l, false) < 0) {
            *err = l->err;
            return -1;
        }
        swap_buffers(l);
        l->is_writing = true;
        pool_submit(write_run, write_done, l);
    }
    return 0;
}

/* Header and envelope, which lets NULs follow to where the content begins. */
static int
write_front(struct journal_large *l)
{
    struct journal_segment *s = l->segment;
    struct image_header h = {.magic = IMAGE_MAGIC, .generation = s->generation, .offset = JOURNAL_HEADER_SIZE};
    size_t front = IMAGE_HEADER_SIZE + l->envelope_max;
    char *bytes = calloc(1, front);
    struct iovec iov = {bytes, front};
    int result;

    if (!bytes)
        return err_set(&l->err, ERR_TEMP, "no memory for an envelope");
    memcpy(bytes + IMAGE_HEADER_SIZE, l->envelope.ptr, l->envelope.len);
    h.envelope_length = (uint32_t)l->envelope_max;
    h.content_length = l->written - IMAGE_END_SIZE;
    h.length = front + l->written;
    h.content_sum = siphash_end(&l->sum);
    h.envelope_sum = siphash(&s->key, bytes + IMAGE_HEADER_SIZE, l->envelope_max);
    image_header_encode(&h, &s->key, (unsigned char *)bytes);
    result = journal_segment_write(s->fd, &iov, 1, JOURNAL_HEADER_SIZE, &l->err);
    free(bytes);
    return result;
}

static void
commit_run(void *arg)
{
    struct journal_large *l = arg;

    write_run(l);
    if (l->result == 0)
        l->result = write_front(l);
    if (l->result == 0)
        l->result = journal_segment_name(l->journal->dir_fd, l->segment, &l->err);
    if (l->result < 0)
        journal_segment_remove(l->journal->dir_fd, l->segment);
}

static void
abort_run(void *arg)
{
    struct journal_large *l = arg;

    journal_segment_remove(l->journal->dir_fd, l->segment);
}

int may_wait
journal_large_commit(struct journal_large **large, struct slice envelope, struct journal_place *place, struct err *err)
{
    struct journal_large *l = *large;
    struct journal_segment *s = l->segment;
    struct journal *j = l->journal;
    int result;

    if (envelope.len > l->envelope_max) {
        journal_large_abort(large);
        return err_set(err, ERR_PERM, "envelope of %zu bytes", envelope.len);
    }
    l->envelope = envelope;
    result = journal_large_write(l, slice_make(".\r\n", IMAGE_END_SIZE), err);
    l->is_ending = true;
    if (wait_idle(l, true) == 0 && result == 0) {
        swap_buffers(l);
        task_run_blocking(commit_run, l);
        result = l->result;
    } else {
        task_run_blocking(abort_run, l);
        result = -1;
    }
    if (result < 0) {
        *err = l->err;
        free(s);
    } else {
        *place = (struct journal_place){s->number, s->generation, JOURNAL_HEADER_SIZE,
                                        IMAGE_HEADER_SIZE + l->envelope_max + l->written};
        s->size = s->used = JOURNAL_HEADER_SIZE + place->length;
        s->sealed = true;
        s->outstanding = 1;
        j->counts.appends++;
        j->counts.syncs++;
        list_append(&j->sealed, &s->link);
    }
    large_free(large);
    return result;
}

void may_wait
journal_large_abort(struct journal_large **large)
{
    if (!*large)
        return;
    (*large)->is_ending = true;
    (void)wait_idle(*large, true);
    task_run_blocking(abort_run, *large);
    free((*large)->segment);
    large_free(large);
}
