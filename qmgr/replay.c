/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/replay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/mail/journal.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "qmgr/active.h"
#include "qmgr/message.h"
#include "qmgr/segment.h"

enum { NAME_LEN = 8, REMEMBER_MOST = 100000 };
#define REMEMBER_TIME     SECONDS(300)
#define LOOK_THROUGH_TIME SECONDS(10)
#define ANNOUNCE_TIME     SECONDS(2) /* after a start: cleanup processes have come back to us by then */
#define ANNOUNCE_PAUSE    (100 * 1000)

/* An image. */
struct found {
    struct found *next;
    struct journal_place place;
    struct slice envelope;
    bool has_file;
};

/* A segment that the thread has locked, or could not. */
struct candidate {
    struct candidate *next;
    char name[NAME_LEN + 1];
    int fd; /* -1: it has an owner, or is no segment */
    bool missing;
    struct journal_segment_info info;
    struct found *found, **end;
    unsigned damaged;
    struct err err;
    bool failed;
    const struct takeover *takeover;
};

struct takeover {
    struct arena *arena;
    struct candidate *candidates;
    bool whole_directory; /* the thread lists it; else the candidates are given */
    bool sweep_done_lists;
    bool failed;
    struct err err;
};

static const struct queue_dir *queue;
static int journal_fd = -1;

/* Segments that were locked when we looked and that nobody has told us of: their writers will announce them, or die. */
static bool strangers;
static bool watching;
static usec_t started;
static usec_t begun;        /* wall clock */
static struct map *removed; /* ids of messages that had a file when we began, and are done since; NULL: no more */

/* One at a time. */
static bool busy;
static struct task_cond idle;

/* When the directory was looked through last, and its time then. */
static usec_t looked;
static struct timespec changed;

void
replay_init(const struct queue_dir *dir, int fd)
{
    queue = dir;
    journal_fd = fd;
    begun = loop_now_wall();
    removed = map_new();
}

/* ---- files of an earlier life ---- */

void
replay_removed(const struct message *message)
{
    if (loop_now_wall() - begun > REMEMBER_TIME)
        map_free(&removed, NULL);
    if (removed && message_arrival(message) < begun && map_count(removed) < REMEMBER_MOST)
        map_put_text(removed, message->id, removed);
}

static bool
was_removed(const char *id)
{
    return removed && map_get_text(removed, id);
}

/* ---- in the thread ---- */

static bool
has_file(struct arena *arena, const char *id)
{
    for (unsigned i = 0; queue_dir_all[i]; i++)
        if (faccessat(queue->fd, queue_dir_path(queue, arena, queue_dir_all[i], id), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    return false;
}

bool
replay_is_filed(const struct message *message)
{
    return message_arrival(message) < begun && (was_removed(message->id) || has_file(message->arena, message->id));
}

/* A crash may have come between writing why a message is deferred and writing its file. */
static void
remove_log(const char *id)
{
    bool found;
    struct err err;

    if (queue_dir_remove(queue, "defer", id, &found, &err) < 0)
        return; /* it says what was true then */
}

static int
on_found(void *ctx, const struct journal_place *place, struct slice bytes)
{
    struct candidate *candidate = ctx;
    struct arena *arena = candidate->takeover->arena;
    struct found *found = ARENA_NEW(arena, struct found);
    const struct envelope *envelope;
    struct slice rest;

    found->place = *place;
    found->envelope = arena_slice(arena, bytes);
    envelope = msg_decode(arena, &type_envelope, found->envelope, &rest, NULL);
    if (!envelope) {
        candidate->damaged++;
        return 0;
    }
    found->has_file = has_file(arena, envelope->queue_id);
    if (!found->has_file)
        remove_log(envelope->queue_id);
    *candidate->end = found;
    candidate->end = &found->next;
    return 0;
}

static void
on_damaged(void *ctx, uint64_t offset)
{
    (void)offset;
    ((struct candidate *)ctx)->damaged++;
}

static void
take_over(struct candidate *candidate)
{
    struct stat st;

    candidate->fd = openat(journal_fd, candidate->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    candidate->end = &candidate->found;
    if (candidate->fd < 0) {
        candidate->missing = errno == ENOENT;
        return;
    }
    if (flock(candidate->fd, LOCK_EX | LOCK_NB) < 0) {
        close(candidate->fd);
        candidate->fd = -1;
        return;
    }
    /* Its writer may have removed it just now, and its done-list: all in it was done. */
    if (fstat(candidate->fd, &st) < 0 || st.st_nlink == 0) {
        close(candidate->fd);
        candidate->fd = -1;
        candidate->missing = true;
        return;
    }
    if (journal_segment_read(candidate->fd, &candidate->info, &candidate->err) < 0 ||
        journal_scan(candidate->fd, &candidate->info, on_found, on_damaged, candidate, &candidate->err) < 0)
        candidate->failed = true;
}

static void
add_candidate(struct takeover *takeover, const char *name)
{
    struct candidate *candidate = ARENA_NEW(takeover->arena, struct candidate);

    snprintf(candidate->name, sizeof(candidate->name), "%s", name);
    candidate->takeover = takeover;
    candidate->next = takeover->candidates;
    takeover->candidates = candidate;
}

static bool
is_segment_name(const char *name)
{
    return strlen(name) == NAME_LEN && strspn(name, "0123456789ABCDEF") == NAME_LEN;
}

static int
list_directory(struct takeover *takeover)
{
    int fd = openat(journal_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!directory) {
        err_errno(&takeover->err, "open journal directory");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    while ((entry = readdir(directory)))
        if (is_segment_name(entry->d_name))
            add_candidate(takeover, entry->d_name);
    closedir(directory);
    return 0;
}

static void
run(void *arg)
{
    struct takeover *takeover = arg;

    if (takeover->whole_directory) {
        journal_sweep(journal_fd, takeover->sweep_done_lists);
        if (list_directory(takeover) < 0) {
            takeover->failed = true;
            return;
        }
    }
    for (struct candidate *candidate = takeover->candidates; candidate; candidate = candidate->next)
        take_over(candidate);
}

/* ---- in the loop ---- */

/* The message is in hand already: its writer will not ask for an answer any more. */
static void
take_from_writer(struct message *message)
{
    static const struct msg_released released;

    if (!message->announcement)
        return;
    link_reply(message->announcement, &type_released, &released, slice_make(NULL, 0), NULL, 0);
    message->announcement = NULL;
}

static bool
take_up(struct segment *segment, const struct found *found)
{
    struct message *message, *known;
    struct slice rest;

    if (segment_is_struck(segment, found->place.offset))
        return false;
    message = message_new();
    message->envelope =
        msg_decode(message->arena, &type_envelope, arena_slice(message->arena, found->envelope), &rest, NULL);
    if (!message->envelope) {
        message_free(&message);
        return false;
    }
    message->id = message->envelope->queue_id;
    message->offset = found->place.offset;
    message->length = found->place.length;
    known = message_find(message->id);
    segment_apply_struck(segment, found->place.offset, message->envelope);
    if (known || found->has_file || was_removed(message->id) || !message_register(message)) {
        if (known)
            take_from_writer(known);
        if (!known || known->segment != segment) {
            /* It has a file: the image is one too many. */
            segment_attach(segment, message);
            segment_strike(message);
        }
        message_free(&message);
        return false;
    }
    segment_attach(segment, message);
    active_take_up(message);
    return true;
}

static void
take_up_all(struct candidate *candidate)
{
    struct segment *segment;
    unsigned count = 0;

    if (candidate->missing && candidate->info.segment)
        segment_gone(candidate->info.segment, candidate->info.generation);
    else if (candidate->fd < 0 && !segment_is_attended((uint32_t)strtoul(candidate->name, NULL, 16)))
        strangers = true;
    if (candidate->fd < 0)
        return;
    if (candidate->failed) {
        log_warning("journal/%s: %s", candidate->name, candidate->err.text);
        close(candidate->fd);
        return;
    }
    segment = segment_add(journal_fd, candidate->fd, NULL, &candidate->err);
    if (!segment) {
        log_warning("journal/%s: %s", candidate->name, candidate->err.text);
        return;
    }
    for (const struct found *found = candidate->found; found; found = found->next)
        if (take_up(segment, found))
            count++;
    if (candidate->damaged > 0)
        log_warning("journal/%s: %u images were not complete: never acknowledged, or damaged", candidate->name,
                    candidate->damaged);
    if (count > 0)
        log_took_over(candidate->name, count);
}

static void may_wait
take_over_all(struct takeover *takeover)
{
    while (busy)
        task_wait_always(&idle);
    busy = true;
    task_run_blocking(run, takeover);
    for (struct candidate *candidate = takeover->candidates; candidate; candidate = candidate->next)
        take_up_all(candidate);
    segment_sweep_unused(journal_fd);
    busy = false;
    task_wake_all(&idle);
}

int may_wait
replay_all(struct err *err)
{
    struct arena *arena = arena_new();
    struct takeover takeover = {.arena = arena, .whole_directory = true};

    /* Between start and stop cleanup makes segments. */
    takeover.sweep_done_lists = !watching || service_is_terminating();
    strangers = false;
    take_over_all(&takeover);
    if (takeover.failed) {
        *err = takeover.err;
        strangers = true; /* once more, soon */
    }
    arena_free(&arena);
    return takeover.failed ? -1 : 0;
}

static void
collect(void *ctx, const struct segment *segment)
{
    struct takeover *takeover = ctx;
    char name[NAME_LEN + 1];

    snprintf(name, sizeof(name), "%08X", segment->number);
    add_candidate(takeover, name);
    takeover->candidates->info.segment = segment->number;
    takeover->candidates->info.generation = segment->generation;
}

void may_wait
replay_orphans(void)
{
    struct arena *arena = arena_new();
    struct takeover takeover = {.arena = arena};

    segment_each_orphan(collect, &takeover);
    if (takeover.candidates)
        take_over_all(&takeover);
    else
        segment_sweep_unused(journal_fd);
    arena_free(&arena);
}

/* A writer may die before it has told us of its segment: the directory is looked through again when it changed (a new
 * segment), while there are strangers, and now and then in any case. */
static bool
must_look_through(void)
{
    struct stat st;
    bool due = strangers || loop_now() - looked > LOOK_THROUGH_TIME;

    if (fstat(journal_fd, &st) == 0 && (st.st_mtim.tv_sec != changed.tv_sec || st.st_mtim.tv_nsec != changed.tv_nsec)) {
        changed = st.st_mtim;
        due = true;
    }
    if (due)
        looked = loop_now();
    return due;
}

static void may_wait
look(void)
{
    struct err err;

    if (!must_look_through())
        replay_orphans();
    else if (replay_all(&err) < 0)
        log_warning("%s", err.text);
}

static void
watch(void *arg)
{
    struct err err;

    (void)arg;
    while (task_sleep(SECONDS(1), &err) == 0 && !active_is_stopping())
        look();
}

void
replay_watch(void)
{
    watching = true;
    started = loop_now();
    task_spawn(service_tasks(), "replay", watch, NULL);
}

void may_wait
replay_now(void)
{
    struct err err;

    if (active_is_stopping())
        return;
    look();
    while (strangers && loop_now() - started < ANNOUNCE_TIME && task_sleep(ANNOUNCE_PAUSE, &err) == 0)
        look();
}
