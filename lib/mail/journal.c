/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/journal_internal.h"

enum {
    BATCH_BYTES = 4 << 20, /* a commit takes no more, so that the first in it need not wait for a long write */
    READY_SEGMENTS = 2,    /* so many wait for their turn; what becomes free beyond that is removed */
};

enum append_state { APPEND_QUEUED, APPEND_WRITING, APPEND_DONE };

/* One journal_append(): lives on the stack of the task that waits in it. */
struct append {
    struct list link;
    struct task_cond cond;
    enum append_state state;
    struct slice envelope;
    const struct iovec *content;
    unsigned count;
    struct image_header header;
    uint32_t segment;
    unsigned char encoded[IMAGE_HEADER_SIZE];
    int result;
    struct err *err;
};

static const char end_of_data[IMAGE_END_SIZE] = {'.', '\r', '\n'};
static const char padding[IMAGE_ALIGN];

static uint64_t
aligned(uint64_t length)
{
    return (length + IMAGE_ALIGN - 1) / IMAGE_ALIGN * IMAGE_ALIGN;
}

static struct journal_segment *
first_of(struct list *list)
{
    struct list *link = list_pop(list);

    return link ? LIST_ENTRY(link, struct journal_segment, link) : NULL;
}

static bool
is_busy(const struct journal *j)
{
    return j->committing || j->working;
}

/* ---- segments ---- */

static void kick(struct journal *);

static void
fail_queue(struct journal *j, const struct err *why)
{
    struct list *link;

    while ((link = list_pop(&j->queue)) != NULL) {
        struct append *a = LIST_ENTRY(link, struct append, link);

        *a->err = *why;
        a->result = -1;
        a->state = APPEND_DONE;
        j->waiting -= a->header.length;
        task_wake_all(&a->cond);
    }
}

/* In the pool: a new segment, or a new generation of an old one. */
static void
make_run(void *arg)
{
    struct journal *j = arg;
    struct journal_segment *s = j->working;
    bool renew = s->fd >= 0;

    if (renew) {
        j->make_result = journal_segment_renew(j->dir_fd, s, &j->make_err);
    } else {
        j->make_result = journal_segment_create(j->dir_fd, j->last_number, j->settings.segment_size, s, &j->make_err);
        if (j->make_result == 0)
            j->make_result = journal_segment_name(j->dir_fd, s, &j->make_err);
    }
    if (j->make_result < 0 && s->fd >= 0)
        journal_segment_remove(j->dir_fd, s);
    else if (!renew)
        j->counts.segments_made++;
    else
        j->counts.segments_recycled++;
}

static void
make_done(void *arg)
{
    struct journal *j = arg;
    struct journal_segment *s = j->working;

    j->working = NULL;
    if (j->make_result == 0) {
        j->last_number = s->number;
        list_append(&j->ready, &s->link);
    } else {
        j->in_use--;
        free(s);
        if (!j->current)
            fail_queue(j, &j->make_err);
    }
    task_wake_all(&j->idle_cond);
    kick(j);
}

/* Sees to it that a segment is ready or on its way, if there may be another. */
static void
make_ready(struct journal *j)
{
    struct journal_segment *s;

    if (j->working || !list_is_empty(&j->ready))
        return;
    s = first_of(&j->idle);
    if (!s) {
        if (j->in_use >= j->settings.segment_limit)
            return;
        s = calloc(1, sizeof(*s));
        if (!s)
            fatal("out of memory");
        s->fd = s->read_fd = -1;
        j->in_use++;
    }
    j->working = s;
    pool_submit(make_run, make_done, j);
}

struct removal {
    int dir_fd;
    struct journal_segment *segment;
};

static void
remove_run(void *arg)
{
    struct removal *r = arg;

    journal_segment_remove(r->dir_fd, r->segment);
    close(r->dir_fd);
}

static void
remove_done(void *arg)
{
    struct removal *r = arg;

    free(r->segment);
    free(r);
}

/* Freeing 16 MiB of a file system takes a while: not in the loop. Nobody waits for it. */
static void
remove_later(struct journal *j, struct journal_segment *s)
{
    struct removal *r = calloc(1, sizeof(*r));

    if (!r)
        fatal("out of memory");
    r->segment = s;
    r->dir_fd = fcntl(j->dir_fd, F_DUPFD_CLOEXEC, 0);
    if (r->dir_fd < 0) { /* out of descriptors: then here and now */
        journal_segment_remove(j->dir_fd, s);
        remove_done(r);
        return;
    }
    pool_submit(remove_run, remove_done, r);
}

static unsigned
list_length(const struct list *list)
{
    unsigned n = 0;

    for (const struct list *link = list->next; link != list; link = link->next)
        n++;
    return n;
}

void
journal_dispose(struct journal *j, struct journal_segment *s)
{
    if (j->settings.gone)
        j->settings.gone(j->settings.ctx, s->number, s->generation);
    if (!s->retired && !s->single && list_length(&j->idle) + list_length(&j->ready) < READY_SEGMENTS) {
        list_append(&j->idle, &s->link);
    } else {
        if (!s->single)
            j->in_use--;
        remove_later(j, s);
    }
    loop_want_turn_end(&j->hook); /* appends may wait for a segment */
}

static void
seal(struct journal *j, struct journal_segment *s)
{
    check(s == j->current);
    j->current = NULL;
    s->sealed = true;
    if (s->outstanding == 0 && j->committing_to != s)
        journal_dispose(j, s);
    else
        list_append(&j->sealed, &s->link);
}

void
journal_seal(struct journal *j)
{
    if (j->current && j->current->used > JOURNAL_HEADER_SIZE)
        seal(j, j->current);
}

/* ---- committing ---- */

static void
add_iov(struct journal *j, unsigned *count, const void *bytes, size_t len)
{
    if (*count == j->iov_room) {
        j->iov_room = j->iov_room ? j->iov_room * 2 : 64;
        j->iovs = reallocarray(j->iovs, j->iov_room, sizeof(*j->iovs));
        if (!j->iovs)
            fatal("out of memory");
    }
    j->iovs[(*count)++] = (struct iovec){(void *)(uintptr_t)bytes, len};
}

/* Sums of the image, its header, and what is to be written. */
static void
compose(struct journal *j, struct append *a, unsigned *count)
{
    const struct siphash_key *key = &j->committing_to->key;
    struct siphash_state sum;

    siphash_begin(&sum, key);
    for (unsigned i = 0; i < a->count; i++)
        siphash_add(&sum, a->content[i].iov_base, a->content[i].iov_len);
    siphash_add(&sum, end_of_data, sizeof(end_of_data));
    a->header.content_sum = siphash_end(&sum);
    a->header.envelope_sum = siphash(key, a->envelope.ptr, a->envelope.len);
    a->header.generation = j->committing_to->generation;
    image_header_encode(&a->header, key, a->encoded);

    add_iov(j, count, a->encoded, sizeof(a->encoded));
    add_iov(j, count, a->envelope.ptr, a->envelope.len);
    for (unsigned i = 0; i < a->count; i++)
        add_iov(j, count, a->content[i].iov_base, a->content[i].iov_len);
    add_iov(j, count, end_of_data, sizeof(end_of_data));
    add_iov(j, count, padding, (size_t)(aligned(a->header.length) - a->header.length));
}

/* In the pool: everything of the batch is written behind what the segment has, and synced. */
static void
commit_run(void *arg)
{
    struct journal *j = arg;
    uint64_t from = LIST_ENTRY(j->batch.next, struct append, link)->header.offset;
    unsigned count = 0;

    LIST_EACH(link, &j->batch)
    compose(j, LIST_ENTRY(link, struct append, link), &count);
    j->commit_result = journal_segment_write(j->committing_to->fd, j->iovs, count, from, &j->commit_err);
    if (j->commit_result == 0 && journal_io.fdatasync(j->committing_to->fd) < 0)
        j->commit_result = err_errno(&j->commit_err, "sync of the journal");
}

/* Best effort: the client was told that we did not take them. */
static void
strike_batch(struct journal *j, struct journal_segment *s)
{
    struct journal_segment_info info = {.segment = s->number, .generation = s->generation, .key = s->key};
    char name[JOURNAL_NAME_SIZE];
    int fd;

    snprintf(name, sizeof(name), "%08" PRIX32 ".done", s->number);
    fd = openat(j->dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    LIST_EACH(link, &j->batch)
    {
        struct journal_done done = {LIST_ENTRY(link, struct append, link)->header.offset, JOURNAL_DONE_ALL};
        struct err err;

        if (journal_done_append(fd, &info, &done, 1, &err) < 0)
            break;
    }
    close(fd);
}

static void
finish_batch(struct journal *j, struct journal_segment *s)
{
    struct list *link;

    while ((link = list_pop(&j->batch)) != NULL) {
        struct append *a = LIST_ENTRY(link, struct append, link);

        a->result = j->commit_result;
        if (a->result == 0) {
            a->segment = s->number;
            s->outstanding++;
            j->counts.appends++;
        } else {
            *a->err = j->commit_err;
        }
        a->state = APPEND_DONE;
        j->waiting -= a->header.length;
        task_wake_all(&a->cond);
    }
}

static void
commit_done(void *arg)
{
    struct journal *j = arg;
    struct journal_segment *s = j->committing_to;

    if (j->commit_result == 0)
        j->counts.syncs++;
    else
        strike_batch(j, s);
    finish_batch(j, s);
    j->committing = false;
    j->committing_to = NULL;
    s->retired = j->commit_result < 0;
    if (s->sealed && s->outstanding == 0) { /* sealed, and all released, while it was written to */
        list_remove(&s->link);
        journal_dispose(j, s);
    } else if (s->retired && !s->sealed) {
        seal(j, s);
    }
    task_wake_all(&j->idle_cond);
    kick(j);
}

static bool
fits(const struct journal_segment *s, uint64_t length)
{
    return s->used + aligned(length) <= s->size;
}

/* Moves what fits from the queue to the batch and gives it its place. */
static void
fill_batch(struct journal *j)
{
    struct journal_segment *s = j->current;
    uint64_t bytes = 0;

    while (!list_is_empty(&j->queue) && bytes < BATCH_BYTES) {
        struct append *a = LIST_ENTRY(j->queue.next, struct append, link);

        if (!fits(s, a->header.length))
            break;
        list_remove(&a->link);
        list_append(&j->batch, &a->link);
        a->state = APPEND_WRITING;
        a->header.offset = s->used;
        s->used += aligned(a->header.length);
        bytes += a->header.length;
    }
}

/* Starts a commit if there is something to commit, somewhere to put it, and none is running. */
static void
kick(struct journal *j)
{
    struct append *first;

    if (j->committing || list_is_empty(&j->queue))
        return;
    first = LIST_ENTRY(j->queue.next, struct append, link);
    if (j->current && !fits(j->current, first->header.length))
        seal(j, j->current);
    if (!j->current) {
        j->current = first_of(&j->ready);
        if (!j->current) {
            make_ready(j);
            return;
        }
    }
    fill_batch(j);
    j->committing = true;
    j->committing_to = j->current;
    pool_submit(commit_run, commit_done, j);
    if (j->current->used > j->current->size / 4 * 3)
        make_ready(j);
}

static void
turn_end(void *arg)
{
    kick(arg);
}

/* ---- appending ---- */

static uint64_t
content_length(const struct iovec *content, unsigned count)
{
    uint64_t length = 0;

    for (unsigned i = 0; i < count; i++)
        length += content[i].iov_len;
    return length;
}

static int may_wait
append_large(struct journal *j, struct slice envelope, const struct iovec *content, unsigned count,
             struct journal_place *place, struct err *err)
{
    struct journal_large *large = journal_large_new(j, content_length(content, count), envelope.len, err);

    if (!large)
        return -1;
    for (unsigned i = 0; i < count; i++)
        if (journal_large_write(large, slice_make(content[i].iov_base, content[i].iov_len), err) < 0) {
            journal_large_abort(&large);
            return -1;
        }
    return journal_large_commit(&large, envelope, place, err);
}

/* The pool works on what the caller's memory holds: from then on it must not be left before the end. */
static int may_wait
wait_append(struct journal *j, struct append *a)
{
    while (a->state != APPEND_DONE) {
        struct err err;

        if (a->state == APPEND_WRITING) {
            task_wait_always(&a->cond);
        } else if (task_wait(&a->cond, NO_DEADLINE, &err) < 0 && a->state == APPEND_QUEUED) {
            list_remove(&a->link);
            j->waiting -= a->header.length;
            *a->err = err;
            return -1;
        }
    }
    return a->result;
}

int may_wait
journal_append(struct journal *j, struct slice envelope, const struct iovec *content, unsigned count,
               struct journal_place *place, struct err *err)
{
    struct append a = {.envelope = envelope, .content = content, .count = count, .err = err};

    a.header.magic = IMAGE_MAGIC;
    a.header.envelope_length = (uint32_t)envelope.len;
    a.header.content_length = content_length(content, count);
    a.header.length = IMAGE_HEADER_SIZE + envelope.len + a.header.content_length + IMAGE_END_SIZE;
    if (envelope.len > IMAGE_ENVELOPE_LIMIT)
        return err_set(err, ERR_PERM, "envelope of %zu bytes", envelope.len);
    if (aligned(a.header.length) > j->settings.segment_size - JOURNAL_HEADER_SIZE)
        return append_large(j, envelope, content, count, place, err);
    list_append(&j->queue, &a.link);
    j->waiting += a.header.length;
    loop_want_turn_end(&j->hook); /* all that is appended in this turn goes into one commit */
    if (wait_append(j, &a) < 0)
        return -1;
    *place = (struct journal_place){
        .generation = a.header.generation, .offset = a.header.offset, .length = a.header.length, .segment = a.segment};
    return 0;
}

size_t
journal_waiting(const struct journal *j)
{
    return j->waiting;
}

/* ---- releasing ---- */

static struct journal_segment *
find_in(const struct list *list, uint32_t number, uint32_t generation)
{
    for (const struct list *link = list->next; link != list; link = link->next) {
        struct journal_segment *s = LIST_ENTRY(link, struct journal_segment, link);

        if (s->number == number && s->generation == generation)
            return s;
    }
    return NULL;
}

static struct journal_segment *
find(const struct journal *j, uint32_t number, uint32_t generation)
{
    if (j->current && j->current->number == number && j->current->generation == generation)
        return j->current;
    return find_in(&j->sealed, number, generation);
}

void
journal_release(struct journal *j, const struct journal_place *place)
{
    struct journal_segment *s = find(j, place->segment, place->generation);

    check(s && s->outstanding > 0);
    s->outstanding--;
    if (s->sealed && s->outstanding == 0 && j->committing_to != s) {
        list_remove(&s->link);
        journal_dispose(j, s);
    }
}

int
journal_segment_fd(const struct journal *j, uint32_t segment, uint32_t generation)
{
    const struct journal_segment *s = find(j, segment, generation);

    return s ? s->read_fd : -1;
}

unsigned
journal_outstanding(const struct journal *j)
{
    unsigned n = j->current ? j->current->outstanding : 0;

    for (const struct list *link = j->sealed.next; link != &j->sealed; link = link->next)
        n += LIST_ENTRY(link, const struct journal_segment, link)->outstanding;
    return n;
}

struct journal_counts
journal_counts(const struct journal *j)
{
    return j->counts;
}

/* ---- beginning and end ---- */

struct journal *
journal_new(const struct journal_settings *settings, struct err *err)
{
    struct journal *j;
    int dir_fd;

    if (mkdir(settings->directory, 0700) < 0 && errno != EEXIST) {
        err_errno(err, "mkdir %s", settings->directory);
        return NULL;
    }
    dir_fd = open(settings->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        err_errno(err, "open %s", settings->directory);
        return NULL;
    }
    j = calloc(1, sizeof(*j));
    if (!j)
        fatal("out of memory");
    j->settings = *settings;
    j->dir_fd = dir_fd;
    list_init(&j->ready);
    list_init(&j->sealed);
    list_init(&j->idle);
    list_init(&j->queue);
    list_init(&j->batch);
    j->hook = (struct loop_hook){.fn = turn_end, .arg = j};
    journal_segment_sweep(dir_fd);
    return j;
}

static void may_wait
wait_idle(struct journal *j)
{
    while (is_busy(j))
        task_wait_always(&j->idle_cond);
}

int may_wait
journal_prepare(struct journal *j, struct err *err)
{
    if (!j->current && list_is_empty(&j->ready))
        make_ready(j);
    while (j->working)
        task_wait_always(&j->idle_cond);
    if (!j->current && list_is_empty(&j->ready)) {
        *err = j->make_err;
        return -1;
    }
    return 0;
}

/* In the pool, or at the end: takes all segments of a list away. */
static void
remove_list(struct journal *j, struct list *list)
{
    struct journal_segment *s;

    while ((s = first_of(list)) != NULL) {
        journal_segment_remove(j->dir_fd, s);
        free(s);
        j->in_use--;
    }
}

static void
remove_unused(void *arg)
{
    struct journal *j = arg;

    remove_list(j, &j->ready);
    remove_list(j, &j->idle);
    j->make_result = fsync(j->dir_fd) < 0 ? err_errno(&j->make_err, "sync of the journal's directory") : 0;
}

int may_wait
journal_remove_all(struct journal *j, struct err *err)
{
    wait_idle(j);
    if (j->current && j->current->outstanding == 0) {
        list_append(&j->idle, &j->current->link);
        j->current = NULL;
    }
    if (journal_outstanding(j) > 0)
        return err_set(err, ERR_TEMP, "%u messages are left in the journal", journal_outstanding(j));
    task_run_blocking(remove_unused, j);
    if (j->make_result < 0)
        *err = j->make_err;
    return j->make_result;
}

static void
close_list(struct list *list)
{
    struct journal_segment *s;

    while ((s = first_of(list)) != NULL) {
        journal_segment_close(s);
        free(s);
    }
}

static void
close_all(void *arg)
{
    struct journal *j = arg;

    close_list(&j->sealed);
    remove_list(j, &j->ready);
    remove_list(j, &j->idle);
}

void may_wait
journal_free(struct journal **journal)
{
    struct journal *j = *journal;

    if (!j)
        return;
    check(list_is_empty(&j->queue));
    wait_idle(j);
    if (j->current)
        list_append(j->current->outstanding ? &j->sealed : &j->idle, &j->current->link);
    j->current = NULL;
    do
        task_run_blocking(close_all, j); /* a turn of the loop goes by, so the hook has been called */
    while (j->hook.wanted && task_current());
    close(j->dir_fd);
    free(j->iovs);
    free(j);
    *journal = NULL;
}
