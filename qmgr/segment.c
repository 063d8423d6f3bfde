/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

enum { RECIPIENTS_MOST = 1048575 }; /* that a done-list can name */

static struct list all = {&all, &all};
static unsigned count;
static void (*forget_hook)(const struct segment *);

/* Done-lists go to the disk SYNC_TIME after the first record that is not there yet, all with one job in the pool: a
 * power cut repeats the deliveries of that time, not those since the system last wrote its pages by itself. */
enum { SYNC_MOST = 64 };
static const usec_t SYNC_TIME = 200000;
static struct {
    struct loop_timer timer;
    bool running;
    int fds[SYNC_MOST]; /* duplicates: a segment may be forgotten meanwhile */
    unsigned count;
    bool failed;
} sync_job;

/* Announcements to be answered when the done-lists have been written. */
static struct link_request **answers;
static size_t answer_count, answer_size;

void
segment_on_forget(void (*fn)(const struct segment *))
{
    forget_hook = fn;
}

struct segment *
segment_find(uint32_t number, uint32_t generation)
{
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->number == number && segment->generation == generation)
            return segment;
    }
    return NULL;
}

bool
segment_is_attended(uint32_t number)
{
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->number == number && (segment->announcer || segment->lock_fd >= 0))
            return true;
    }
    return false;
}

static void
forget(struct segment *segment)
{
    check(segment->messages == 0);
    if (forget_hook)
        forget_hook(segment);
    list_remove(&segment->link);
    count--;
    close(segment->fd);
    if (segment->lock_fd >= 0 && segment->lock_fd != segment->fd)
        close(segment->lock_fd);
    if (segment->done_fd >= 0)
        close(segment->done_fd);
    free(segment->struck);
    free(segment->pending);
    free(segment);
}

static int
compare_done(const void *a, const void *b)
{
    const struct journal_done *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->recipient < y->recipient ? -1 : x->recipient > y->recipient;
}

/* What was struck so far, whoever did: us in an earlier life, or cleanup, for what it could not make durable. */
static void
read_done_list(struct segment *segment)
{
    struct arena *arena = arena_new();
    struct journal_done *done = NULL;
    size_t n = 0;
    struct err err;

    free(segment->struck);
    segment->struck = NULL;
    segment->struck_count = 0;
    if (segment->done_fd >= 0 && journal_done_read(segment->done_fd, &segment->info, arena, &done, &n, &err) < 0) {
        log_warning("done-list of journal segment %08X: %s", segment->number, err.text);
        n = 0;
    }
    if (n > 0) {
        segment->struck = calloc(n, sizeof(*segment->struck));
        if (!segment->struck)
            fatal("out of memory");
        memcpy(segment->struck, done, n * sizeof(*done));
        segment->struck_count = n;
        qsort(segment->struck, n, sizeof(*segment->struck), compare_done);
    }
    arena_free(&arena);
}

/* The older generations of a segment that is named again are of no use to anybody. */
static void
forget_older(uint32_t number, uint32_t generation)
{
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->number == number && segment->generation != generation && segment->messages == 0)
            forget(segment);
    }
}

/* The first one is for reading: it stays, since jobs in the pool use it. */
static void
keep_descriptor(struct segment *segment, int fd)
{
    bool is_lock = !segment->announcer;

    if (is_lock && segment->lock_fd < 0)
        segment->lock_fd = fd;
    if (segment->fd < 0)
        segment->fd = fd;
    if (fd != segment->lock_fd && fd != segment->fd)
        close(fd);
}

struct segment *
segment_add(int dir_fd, int fd, struct link *announcer, struct err *err)
{
    struct journal_segment_info info;
    struct segment *segment;
    char name[32];

    if (journal_segment_read(fd, &info, err) < 0) {
        close(fd);
        return NULL;
    }
    segment = segment_find(info.segment, info.generation);
    if (segment) {
        segment_flush();
    } else {
        forget_older(info.segment, info.generation);
        segment = calloc(1, sizeof(*segment));
        if (!segment)
            fatal("out of memory");
        snprintf(name, sizeof(name), "%08X.done", info.segment);
        segment->done_fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (segment->done_fd < 0)
            log_warning("open journal/%s: %m", name);
        segment->fd = segment->lock_fd = -1;
        list_append(&all, &segment->link);
        count++;
    }
    segment->number = info.segment;
    segment->generation = info.generation;
    segment->info = info;
    segment->announcer = announcer;
    keep_descriptor(segment, fd);
    read_done_list(segment);
    return segment;
}

static bool
is_struck(const struct segment *segment, uint64_t offset, uint32_t recipient)
{
    struct journal_done wanted = {.offset = offset, .recipient = recipient};

    return segment->struck_count > 0 &&
           bsearch(&wanted, segment->struck, segment->struck_count, sizeof(*segment->struck), compare_done) != NULL;
}

bool
segment_is_struck(const struct segment *segment, uint64_t offset)
{
    return is_struck(segment, offset, JOURNAL_DONE_ALL);
}

void
segment_apply_struck(const struct segment *segment, uint64_t offset, struct envelope *envelope)
{
    if (segment->struck_count == 0)
        return;
    for (size_t i = 0; i < envelope->recipient_count; i++)
        if (i < RECIPIENTS_MOST && is_struck(segment, offset, (uint32_t)i) &&
            envelope->recipients[i].status == RCPT_TODO)
            envelope->recipients[i].status = RCPT_DONE;
}

void
segment_attach(struct segment *segment, struct message *message)
{
    check(!message->segment);
    message->segment = segment;
    segment->messages++;
}

static void
strike(struct segment *segment, uint64_t offset, uint32_t recipient)
{
    if (segment->pending_count == segment->pending_size) {
        segment->pending_size = segment->pending_size ? 2 * segment->pending_size : 16;
        segment->pending = realloc(segment->pending, segment->pending_size * sizeof(*segment->pending));
        if (!segment->pending)
            fatal("out of memory");
    }
    segment->pending[segment->pending_count++] = (struct journal_done){.offset = offset, .recipient = recipient};
}

void
segment_strike_recipient(struct message *message, size_t recipient)
{
    if (recipient < RECIPIENTS_MOST)
        strike(message->segment, message->offset, (uint32_t)recipient);
}

static void
detach(struct message *message)
{
    check(message->segment->messages > 0);
    message->segment->messages--;
    message->segment = NULL;
    list_remove(&message->by_age);
}

void
segment_strike(struct message *message)
{
    strike(message->segment, message->offset, JOURNAL_DONE_ALL);
    if (message->announcement) {
        if (answer_count == answer_size) {
            answer_size = answer_size ? 2 * answer_size : 64;
            answers = realloc(answers, answer_size * sizeof(struct link_request *));
            if (!answers)
                fatal("out of memory");
        }
        answers[answer_count++] = message->announcement;
        message->announcement = NULL;
    }
    detach(message);
}

static void
run_sync(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sync_job.count; i++)
        if (fdatasync(sync_job.fds[i]) < 0)
            sync_job.failed = true;
}

static void want_sync(usec_t delay);

/* A record that did not reach the disk is one delivery more after a power cut; there is nothing to undo. */
static void
sync_done(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sync_job.count; i++)
        close(sync_job.fds[i]);
    sync_job.running = false;
    if (sync_job.failed)
        log_warning("a done-list of the journal could not be synced: a power cut may repeat deliveries");
    want_sync(SYNC_TIME);
}

static void
start_sync(void *arg)
{
    (void)arg;
    sync_job.count = 0;
    sync_job.failed = false;
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (!segment->unsynced || sync_job.count == SYNC_MOST)
            continue;
        segment->unsynced = false;
        int fd = fcntl(segment->done_fd, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0)
            sync_job.fds[sync_job.count++] = fd;
    }
    if (sync_job.count == 0)
        return;
    sync_job.running = true;
    pool_submit(run_sync, sync_done, NULL);
}

/* If anything is not on the disk yet. */
static void
want_sync(usec_t delay)
{
    bool any = false;

    LIST_EACH(link, &all)
    any = any || LIST_ENTRY(link, struct segment, link)->unsynced;
    if (!any || sync_job.running)
        return;
    if (sync_job.timer.due == 0 || sync_job.timer.due > loop_now() + delay)
        loop_timer_set(&sync_job.timer, loop_now() + delay, start_sync, NULL);
}

void
segment_sync_now(void)
{
    segment_flush();
    want_sync(0);
}

void
segment_flush(void)
{
    bool wrote = false;

    static const struct msg_released released;
    struct err err;

    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->pending_count == 0)
            continue;
        /* Without the record a crash repeats these deliveries, no more: not a reason to keep the images. */
        if (segment->done_fd >= 0 &&
            journal_done_append(segment->done_fd, &segment->info, segment->pending, segment->pending_count, &err) < 0)
            log_warning("done-list of journal segment %08X: %s", segment->number, err.text);
        segment->pending_count = 0;
        segment->unsynced = segment->done_fd >= 0;
        wrote = true;
    }
    if (wrote)
        want_sync(SYNC_TIME);
    for (size_t i = 0; i < answer_count; i++)
        link_reply(answers[i], &type_released, &released, slice_make(NULL, 0), NULL, 0);
    answer_count = 0;
}

void
segment_gone(uint32_t number, uint32_t generation)
{
    struct segment *segment = segment_find(number, generation);

    if (segment && segment->messages == 0)
        forget(segment);
}

void
segment_announcer_gone(struct link *announcer)
{
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->announcer == announcer)
            segment->announcer = NULL;
    }
}

void
segment_sweep_unused(int dir_fd)
{
    char name[32];

    segment_flush();
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->messages > 0 || segment->lock_fd < 0)
            continue;
        snprintf(name, sizeof(name), "%08X", segment->number);
        if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT) {
            /* Its done-list has to stay with it: without, all its messages would be delivered again. */
            log_warning("remove journal/%s: %m", name);
        } else {
            snprintf(name, sizeof(name), "%08X.done", segment->number);
            unlinkat(dir_fd, name, 0);
        }
        forget(segment);
    }
}

void
segment_each_orphan(void (*fn)(void *ctx, const struct segment *), void *ctx)
{
    LIST_EACH(link, &all)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (!segment->announcer && segment->lock_fd < 0)
            fn(ctx, segment);
    }
}
