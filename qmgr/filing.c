/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/filing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/bounce_log.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/source.h"
#include "lib/run/task.h"
#include "qmgr/segment.h"

/* A job, with all that its thread needs: it must not look at the message. */
struct filing {
    struct arena *arena;
    struct message *message;
    void (*run)(struct filing *);
    void (*done)(struct message *, enum filing_result, const struct err *);

    const char *id;
    const char *to; /* a queue */
    int64_t mtime;
    int segment_fd; /* -1: no image is to be written */
    struct journal_segment_info segment;
    uint64_t offset, length;
    struct envelope envelope; /* with a copy of the recipients, their status as of now */
    struct bounce_log_entry *log;
    size_t log_count;
    bool log_goes_on; /* there are reasons of earlier passes */

    int lock_fd;        /* of a file that goes elsewhere: the lock ends as soon as it is there; -1: none */
    struct arena *pass; /* the recipients of the next pass; NULL: none are read */
    struct queue_file_rest rest;
    struct envelope_recipient *more;
    size_t more_count;

    enum filing_result result;
    struct err err;
    int64_t *offsets; /* of the recipients' records in the new file; NULL: not known */
    uint64_t content; /* where it begins there */
};

static const struct queue_dir *dir;
static bool old_form;
static unsigned active;

void
filing_init(const struct queue_dir *queue_dir, bool with_old_form)
{
    dir = queue_dir;
    old_form = with_old_form;
}

unsigned
filing_active(void)
{
    return active;
}

/* ---- the snapshot ---- */

static void
copy_envelope(struct filing *filing)
{
    struct message *message = filing->message;

    filing->envelope = *message->envelope;
    filing->envelope.recipients =
        arena_array(filing->arena, message->envelope->recipient_count, sizeof(struct envelope_recipient));
    for (size_t i = 0; i < message->envelope->recipient_count; i++) {
        filing->envelope.recipients[i] = message->envelope->recipients[i];
        if (message->recipients[i].state == RECIPIENT_DONE && filing->envelope.recipients[i].status != RCPT_CANCELLED) {
            filing->envelope.recipients[i].status = RCPT_DONE;
            message->recipients[i].noted = true;
        }
    }
}

static void
copy_reasons(struct filing *filing)
{
    const struct message *message = filing->message;

    filing->log_goes_on = message->left_deferred;
    filing->log = arena_array(filing->arena, message->envelope->recipient_count, sizeof(struct bounce_log_entry));
    for (size_t i = 0; i < message->envelope->recipient_count; i++) {
        const struct envelope_recipient *given = &message->envelope->recipients[i];
        const struct delivered_recipient *result = message->recipients[i].result;

        if (message->recipients[i].state != RECIPIENT_DEFERRED || !result)
            continue;
        filing->log[filing->log_count++] =
            (struct bounce_log_entry){given->address,    given->original,  given->offset,    given->dsn_original,
                                      given->notify,     result->status,   "delayed",        result->diag_type,
                                      result->diag_text, result->mta_type, result->mta_name, result->reason};
    }
}

static void
run_in_thread(void *arg)
{
    struct filing *filing = arg;

    filing->run(filing);
}

static void
take_pass(struct filing *filing)
{
    if (filing->result != FILING_DONE) {
        arena_free(&filing->pass);
        return;
    }
    filing->message->rest = filing->rest;
    message_next_pass(filing->message, filing->pass, filing->more, filing->more_count);
}

static void
back_in_loop(void *arg)
{
    struct filing *filing = arg;
    struct message *message = filing->message;
    struct arena *arena = filing->arena;

    active--;
    message->filing = false;
    if (filing->lock_fd >= 0)
        message->lock_fd = filing->lock_fd;
    if (filing->offsets && filing->result == FILING_DONE) {
        message->content_offset = (int64_t)filing->content;
        for (size_t i = 0; i < message->envelope->recipient_count; i++)
            message->envelope->recipients[i].offset = filing->offsets[i];
    }
    if (filing->pass)
        take_pass(filing);
    filing->done(message, filing->result, &filing->err);
    arena_free(&arena);
}

static struct filing *
filing_new(struct message *message, void (*run)(struct filing *),
           void (*done)(struct message *, enum filing_result, const struct err *))
{
    struct arena *arena = arena_new();
    struct filing *filing = ARENA_NEW(arena, struct filing);

    check(!message->filing);
    message->filing = true;
    active++;
    *filing = (struct filing){.arena = arena, .message = message, .run = run, .done = done, .id = message->id};
    filing->segment_fd = filing->lock_fd = -1;
    if (message->segment && !message->in_file) {
        filing->segment_fd = message->segment->fd;
        filing->segment = message->segment->info;
        filing->offset = message->offset;
        filing->length = message->length;
    }
    copy_envelope(filing);
    return filing;
}

static void
start(struct filing *filing)
{
    pool_submit(run_in_thread, back_in_loop, filing);
}

/* ---- in the thread ---- */

static void
fail(struct filing *filing)
{
    filing->result = filing->err.kind == ERR_IO && filing->err.code == ENOENT ? FILING_GONE : FILING_FAILED;
}

static ssize_t
read_source(void *ctx, void *bytes, size_t size, struct err *err)
{
    return source_read_text(ctx, bytes, size, err);
}

/* The image to a file in that queue. */
static int
write_file(struct filing *filing, const char *path)
{
    struct queue_file_target target = {.queue_dir_fd = dir->fd, .path = path, .mtime = filing->mtime, .mode = 0700};
    struct source *source = source_open_image(filing->arena, filing->segment_fd, &filing->segment, filing->offset,
                                              filing->length, &filing->err);
    struct queue_file_content content = {.read = read_source, .ctx = source};

    if (!source || queue_file_write(&target, &filing->envelope, &content, &filing->err) < 0) {
        filing->result = FILING_FAILED;
        return -1;
    }
    return 0;
}

static int
open_file(struct filing *filing, const char *queue, int flags)
{
    const char *path = queue_dir_path(dir, filing->arena, queue, filing->id);
    int fd = openat(dir->fd, path, flags | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        err_errno(&filing->err, "open %s", path);
        fail(filing);
    }
    return fd;
}

/* Where the records of recipients stand in the file that we have written. */
static void
learn_offsets(struct filing *filing)
{
    struct envelope envelope;
    int fd = open_file(filing, "active", O_RDONLY);

    if (fd < 0)
        return;
    if (queue_file_read(fd, filing->arena, &envelope, &filing->content, &filing->err) < 0 ||
        envelope.recipient_count != filing->envelope.recipient_count) {
        filing->result = FILING_FAILED;
    } else {
        filing->offsets = arena_array(filing->arena, envelope.recipient_count, sizeof(int64_t));
        for (size_t i = 0; i < envelope.recipient_count; i++)
            filing->offsets[i] = envelope.recipients[i].offset;
    }
    close(fd);
}

static void
run_write_active(struct filing *filing)
{
    struct err err;

    if (write_file(filing, queue_dir_path(dir, filing->arena, "active", filing->id)) < 0)
        return;
    learn_offsets(filing);
    /* A file that the message does not live in would be delivered once more. */
    if (!filing->offsets && queue_dir_remove(dir, "active", filing->id, NULL, &err) < 0)
        filing->err = err;
}

static int
write_log(struct filing *filing)
{
    const char *path = queue_dir_path(dir, filing->arena, "defer", filing->id);
    int (*put)(int, const char *, const struct bounce_log_entry *, size_t, bool, struct err *) =
        filing->log_goes_on ? bounce_log_append : bounce_log_write;

    if (filing->log_count == 0)
        return 0;
    if (put(dir->fd, path, filing->log, filing->log_count, old_form, &filing->err) == 0)
        return 0;
    if (filing->err.code != ENOENT || queue_dir_make_parents(dir, path, &filing->err) < 0)
        return -1;
    return put(dir->fd, path, filing->log, filing->log_count, old_form, &filing->err);
}

static void
move_file(struct filing *filing)
{
    struct timespec times[2] = {{.tv_sec = filing->mtime}, {.tv_sec = filing->mtime}};
    int fd = open_file(filing, "active", O_RDWR);

    if (fd < 0)
        return;
    if (filing->mtime == 0)
        times[0].tv_nsec = times[1].tv_nsec = UTIME_NOW;
    if (futimens(fd, times) < 0) {
        err_errno(&filing->err, "set time of %s", filing->id);
        fail(filing);
    } else if (queue_dir_move(dir, "active", filing->to, filing->id, NULL, NULL, &filing->err) < 0) {
        fail(filing);
    } else if (filing->lock_fd >= 0) {
        close(filing->lock_fd);
        filing->lock_fd = -1;
    }
    close(fd);
}

static void
run_leave(struct filing *filing)
{
    /* Reasons that can't be written are no reason to lose the message. */
    if (write_log(filing) < 0)
        filing->err.kind = ERR_NONE;
    if (filing->segment_fd >= 0)
        (void)write_file(filing, queue_dir_path(dir, filing->arena, filing->to, filing->id));
    else
        move_file(filing);
}

static void
run_next_pass(struct filing *filing)
{
    int fd;

    if (write_log(filing) < 0)
        filing->err.kind = ERR_NONE;
    fd = open_file(filing, "active", O_RDONLY);
    if (fd < 0)
        return;
    if (queue_file_read_more(fd, filing->pass, &filing->rest, &filing->more, &filing->more_count, &filing->err) < 0)
        filing->result = FILING_FAILED;
    close(fd);
}

static void
run_remove(struct filing *filing)
{
    bool found;

    if (queue_dir_remove(dir, "active", filing->id, &found, &filing->err) < 0)
        filing->result = FILING_FAILED;
    else if (!found)
        filing->result = FILING_GONE;
}

/* ---- for callers ---- */

void
filing_write_active(struct message *message, void (*done)(struct message *, enum filing_result, const struct err *))
{
    struct filing *filing = filing_new(message, run_write_active, done);

    check(filing->segment_fd >= 0);
    start(filing);
}

void
filing_leave(struct message *message, const char *queue, int64_t next_attempt,
             void (*done)(struct message *, enum filing_result, const struct err *))
{
    struct filing *filing = filing_new(message, run_leave, done);

    filing->to = queue;
    filing->mtime = next_attempt;
    filing->lock_fd = message->lock_fd;
    message->lock_fd = -1;
    if (strcmp(queue, "deferred") == 0)
        copy_reasons(filing);
    start(filing);
}

void
filing_next_pass(struct message *message, size_t most,
                 void (*done)(struct message *, enum filing_result, const struct err *))
{
    struct filing *filing = filing_new(message, run_next_pass, done);

    filing->pass = arena_new();
    filing->rest = message->rest;
    filing->rest.most = most;
    copy_reasons(filing);
    start(filing);
}

void
filing_remove(struct message *message, void (*done)(struct message *, enum filing_result, const struct err *))
{
    start(filing_new(message, run_remove, done));
}

int
filing_open(const struct message *message, int flags, struct err *err)
{
    struct arena *arena = arena_new();
    const char *path = queue_dir_path(dir, arena, "active", message->id);
    int fd = openat(dir->fd, path, flags | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        err_errno(err, "open %s", path);
    arena_free(&arena);
    return fd;
}

int
filing_lock(const struct message *message, struct err *err)
{
    int fd = filing_open(message, O_RDWR, err);

    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        err_errno(err, "lock of active/%s", message->id);
        close(fd);
        return -1;
    }
    return fd;
}

int
filing_mark_done(const struct message *message, size_t recipient, struct err *err)
{
    int fd = filing_open(message, O_RDWR, err), result;

    if (fd < 0)
        return -1;
    result = queue_file_mark_done(fd, message->envelope->recipients[recipient].offset, err);
    close(fd);
    return result;
}

int
filing_mark_warned(const struct message *message, struct err *err)
{
    int fd = filing_open(message, O_RDWR, err), result;

    if (fd < 0)
        return -1;
    result = queue_file_mark_warned(fd, err);
    close(fd);
    return result;
}
