/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "cleanup/server.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/source.h"
#include "lib/run/task.h"

struct job {
    struct journal_place place;
    int segment_fd;
    const char *queue; /* NULL: no file, the image is only struck */
    struct arena *arena;
    int result;
    struct err *err;
};

/* Applies the done-list to the envelope. False: the whole message is done. */
static bool
apply_done_list(struct job *job, int done_fd, const struct journal_segment_info *info, struct envelope *e)
{
    struct journal_done *done;
    size_t count;
    struct err err;

    if (journal_done_read(done_fd, info, job->arena, &done, &count, &err) < 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (done[i].offset != job->place.offset)
            continue;
        if (done[i].recipient == JOURNAL_DONE_ALL)
            return false;
        if (done[i].recipient < e->recipient_count)
            e->recipients[done[i].recipient].status = RCPT_DONE;
    }
    return true;
}

static int
write_file(struct job *job, struct source *source, const struct envelope *e)
{
    struct queue_file_target target = {.queue_dir_fd = server.queue_dir.fd, .mode = 0700};
    struct queue_file_content content = {.read = source_read_content, .ctx = source};

    if (!queue_id_is_valid(slice_from(e->queue_id)))
        return err_set(job->err, ERR_SYNTAX, "image with a bad queue id");
    target.path = queue_dir_path(&server.queue_dir, job->arena, job->queue, e->queue_id);
    return queue_file_write(&target, e, &content, job->err);
}

static int
open_done_list(struct job *job)
{
    int fd = open(arena_printf(job->arena, "journal/%08" PRIX32 ".done", job->place.segment),
                  O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd >= 0 ? fd : err_errno(job->err, "done-list of segment %08" PRIX32, job->place.segment);
}

static int
strike(struct job *job, int done_fd, const struct journal_segment_info *info, struct err *err)
{
    struct journal_done struck = {job->place.offset, JOURNAL_DONE_ALL};

    return journal_done_append(done_fd, info, &struck, 1, err);
}

static int
spool(struct job *job)
{
    struct source *source;
    struct journal_segment_info info;
    struct envelope e;
    struct err err;
    int done_fd, result = 0;

    if (journal_segment_read(job->segment_fd, &info, job->err) < 0)
        return -1;
    source = source_open_image(job->arena, job->segment_fd, &info, job->place.offset, job->place.length, job->err);
    if (!source)
        return -1;
    e = *source_envelope(source);
    done_fd = open_done_list(job);
    if (done_fd < 0)
        return -1;
    if (apply_done_list(job, done_fd, &info, &e)) {
        result = write_file(job, source, &e);
        if (result == 0)
            (void)!strike(job, done_fd, &info, &err); /* else a crash makes a second copy */
    }
    close(done_fd);
    return result;
}

static int
strike_only(struct job *job)
{
    struct journal_segment_info info;
    int done_fd, result;

    if (journal_segment_read(job->segment_fd, &info, job->err) < 0)
        return -1;
    done_fd = open_done_list(job);
    if (done_fd < 0)
        return -1;
    result = strike(job, done_fd, &info, job->err);
    close(done_fd);
    return result;
}

static void
run(void *arg)
{
    struct job *job = arg;

    job->arena = arena_new();
    job->result = job->queue ? spool(job) : strike_only(job);
    arena_free(&job->arena);
}

static int may_wait
run_job(struct job *job)
{
    job->segment_fd = journal_segment_fd(server.journal, job->place.segment, job->place.generation);
    if (job->segment_fd < 0)
        return err_set(job->err, ERR_IO, "segment %08" PRIX32 " is not ours", job->place.segment);
    task_run_blocking(run, job);
    return job->result;
}

int may_wait
spool_image(const struct journal_place *place, const char *queue, struct err *err)
{
    struct job job = {.place = *place, .queue = queue, .err = err};

    return run_job(&job);
}

int may_wait
spool_strike(const struct journal_place *place, struct err *err)
{
    struct job job = {.place = *place, .err = err};

    return run_job(&job);
}
