/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/mail/queue_file.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "qmgr/active.h"
#include "qmgr/message.h"

enum {
    SLICE_NAMES = 1000,  /* looked at in one go */
    SLICE_FILES = 100,   /* taken up in one go */
    LARGE_FILE = 65536,  /* may have so many recipients that their memory is kept apart */
    EARLY_SECONDS = 1,   /* a file whose time comes so soon is taken up */
    LOCKED_SECONDS = 60, /* one that somebody else has locked waits so long */
    MODE_FLUSH = 0040,   /* group bits: flushed by id or site; to be returned at once */
    MODE_EXPIRE = 0010,
};

#define ROOM_WAIT       SECONDS(1)
#define FILING_TIME     SECONDS(5) /* for a job of the pool to tell what it did */
#define FILING_PAUSE    (5 * 1000)
#define LOOK_AFTER_TIME SECONDS(5) /* at what a predecessor has in hand */

static const struct queue_dir *dir;

/* A scan of one queue. */
struct queue_scan {
    const char *queue;
    bool wanted, wanted_all; /* to be started, anew if it is under way */
    bool again;              /* once more when it is over */
    bool all;
    struct queue_walk *walk; /* NULL: none under way */
};

static struct queue_scan incoming = {.queue = "incoming"}, deferred = {.queue = "deferred"};
static struct task_cond wanted;
static usec_t last_deferred;

/* A file of a slice, and what became of it. */
struct picked {
    char *id;
    unsigned mode;
    int64_t size;
    bool skip; /* in hand already */
    struct message *message;
    enum { PICKED_TAKEN, PICKED_GONE, PICKED_LOCKED, PICKED_CORRUPT, PICKED_FAILED } outcome;
    struct err err;
};

struct slice_job {
    struct arena *arena;
    const struct queue_scan *scan;
    int64_t now;
    unsigned most;        /* files that there is room for */
    size_t room, minimum; /* recipients that may still come into memory, and that each message may have at least */
    struct picked files[SLICE_FILES];
    unsigned count;
    bool at_end;
    bool failed;
    struct err err;
};

void
scan_init(const struct queue_dir *with)
{
    dir = with;
    list_init(&wanted.waiters);
}

/* ---- in the thread: looking ---- */

static bool
is_due(const struct slice_job *job, const struct stat *st)
{
    return S_ISREG(st->st_mode) && (st->st_mode & 0700) == 0700 &&
           (job->scan->all || st->st_mtime <= job->now + EARLY_SECONDS);
}

static void
look(void *arg)
{
    struct slice_job *job = arg;
    const char *id;
    bool in_place;
    struct stat st;

    for (unsigned i = 0; i < SLICE_NAMES && job->count < job->most; i++) {
        int result = queue_walk_next(job->scan->walk, &id, &in_place, &job->err);
        if (result <= 0) {
            job->failed = result < 0;
            job->at_end = result == 0;
            return;
        }
        if (!in_place ||
            fstatat(dir->fd, queue_dir_path(dir, job->arena, job->scan->queue, id), &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !is_due(job, &st))
            continue;
        job->files[job->count].id = arena_strdup(job->arena, id);
        job->files[job->count].size = st.st_size;
        job->files[job->count++].mode = st.st_mode;
    }
}

/* ---- in the thread: taking up ---- */

static void
put_back(const char *queue, struct picked *picked, const char *active_path, int64_t time)
{
    struct timespec times[2] = {{.tv_sec = time}, {.tv_sec = time}};

    if (time > 0)
        utimensat(dir->fd, active_path, times, AT_SYMLINK_NOFOLLOW);
    if (queue_dir_move(dir, "active", queue, picked->id, NULL, NULL, &picked->err) < 0)
        picked->outcome = PICKED_FAILED;
}

static int
read_message(int fd, struct slice_job *job, struct picked *picked)
{
    struct message *message = message_new();
    uint64_t content;

    message->envelope = ARENA_NEW(message->arena, struct envelope);
    if (picked->size > LARGE_FILE)
        message->pass_arena = arena_new();
    message->rest.most = job->room > job->minimum ? job->room : job->minimum;
    if (queue_file_read_some(fd, message->arena, message->pass_arena, message->envelope, &content, &message->rest,
                             &picked->err) < 0) {
        message_free(&message);
        return -1;
    }
    job->room -= message->envelope->recipient_count < job->room ? message->envelope->recipient_count : job->room;
    message->envelope->queue_id = message->id = arena_strdup(message->arena, picked->id);
    message->in_file = true;
    message->content_offset = (int64_t)content;
    message->force_expire = picked->mode & MODE_EXPIRE;
    picked->message = message;
    return 0;
}

static void
take_file(struct slice_job *job, struct picked *picked)
{
    const char *path = queue_dir_path(dir, job->arena, "active", picked->id);
    bool found;
    int fd;

    if (queue_dir_move(dir, job->scan->queue, "active", picked->id, NULL, &found, &picked->err) < 0) {
        picked->outcome = PICKED_FAILED;
        return;
    }
    if (!found) {
        picked->outcome = PICKED_GONE;
        return;
    }
    fd = openat(dir->fd, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        picked->outcome = PICKED_FAILED;
        err_errno(&picked->err, "open %s", path);
        struct err why = picked->err;
        put_back(job->scan->queue, picked, path, 0);
        picked->err = why;
        return;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        picked->outcome = PICKED_LOCKED;
        put_back("incoming", picked, path, job->now + LOCKED_SECONDS);
    } else if (read_message(fd, job, picked) < 0) {
        struct err why = picked->err;
        picked->outcome = why.kind == ERR_SYNTAX ? PICKED_CORRUPT : PICKED_FAILED;
        put_back(why.kind == ERR_SYNTAX ? "corrupt" : job->scan->queue, picked, path, 0);
        picked->err = why;
    } else {
        if (picked->mode & (MODE_FLUSH | MODE_EXPIRE))
            (void)!fchmod(fd, 0700);
        /* Its reasons are of the last attempt; this is the next. */
        if (queue_dir_remove(dir, "defer", picked->id, &found, &picked->err) < 0)
            picked->err.kind = ERR_NONE;
    }
    close(fd);
}

static void
take(void *arg)
{
    struct slice_job *job = arg;

    for (unsigned i = 0; i < job->count; i++)
        if (!job->files[i].skip)
            take_file(job, &job->files[i]);
}

static bool leftovers;    /* files in active/ that are not in hand: they could not be moved */
static usec_t look_after; /* when to look again at those that a predecessor has in hand; 0: there are none */
static unsigned busy;
static bool may_wait rescue(bool at_start);

/* ---- in the loop ---- */

static void
take_up(struct slice_job *job, struct picked *picked)
{
    switch (picked->outcome) {
    case PICKED_GONE: return;
    case PICKED_LOCKED: log_still_delivered(picked->id); return;
    case PICKED_CORRUPT:
        log_warning("saving corrupt file \"%s\" from queue \"%s\" to queue \"corrupt\": %s", picked->id,
                    job->scan->queue, picked->err.text);
        return;
    case PICKED_FAILED: log_warning("%s: %s", picked->id, picked->err.text); return;
    case PICKED_TAKEN: break;
    }
    if (!message_register(picked->message)) {
        /* It was announced meanwhile: that one goes on, with our file as its own. */
        message_free(&picked->message);
        return;
    }
    picked->message->sched.tries_dead = picked->mode & MODE_FLUSH;
    active_take_up(picked->message);
}

/* The files of messages that are put away just now: what was found may be such a file, whose directory is yet to be synced.
 * It is to be taken up like the others, so we wait until it is not in hand any more. */
static void may_wait
wait_for_filing(const struct slice_job *job)
{
    usec_t deadline = loop_now() + FILING_TIME;
    const struct message *message;
    struct err err;

    for (unsigned i = 0; i < job->count; i++)
        while ((message = message_find(job->files[i].id)) && message->filing)
            if (loop_now() >= deadline || task_sleep(FILING_PAUSE, &err) < 0)
                return;
}

/* -1: the system stops. */
static int may_wait
do_slice(struct queue_scan *scan, struct err *err)
{
    struct arena *arena = arena_new();
    struct slice_job *job = ARENA_NEW(arena, struct slice_job);

    *job = (struct slice_job){.arena = arena, .scan = scan, .now = loop_now_wall() / SECONDS(1), .most = active_room()};
    if (job->most > SLICE_FILES)
        job->most = SLICE_FILES;
    busy++;
    task_run_blocking(look, job);
    if (job->failed)
        log_warning("scan of queue %s: %s", scan->queue, job->err.text);
    wait_for_filing(job);
    for (unsigned i = 0; i < job->count; i++) {
        job->files[i].skip = message_find(job->files[i].id) != NULL;
        if (job->files[i].skip)
            log_still_delivered(job->files[i].id);
    }
    if (job->count > 0 && !active_is_stopping()) {
        job->room = active_recipient_room(&job->minimum);
        task_run_blocking(take, job);
        for (unsigned i = 0; i < job->count; i++)
            if (!job->files[i].skip)
                take_up(job, &job->files[i]);
    }
    busy--;
    if (job->at_end)
        queue_walk_free(&scan->walk);
    arena_free(&arena);
    return active_is_stopping() ? -1 : task_yield(err);
}

static void
begin_if_wanted(struct queue_scan *scan)
{
    scan->wanted = scan->wanted || (scan->again && !scan->walk);
    if (!scan->wanted)
        return;
    scan->again = false;
    queue_walk_free(&scan->walk);
    scan->walk = queue_walk_new(dir, scan->queue);
    scan->all = scan->wanted_all;
    scan->wanted = scan->wanted_all = false;
}

static int may_wait
wait_for_room(struct err *err)
{
    while (active_room() == 0)
        if (active_is_stopping() || task_sleep(ROOM_WAIT, err) < 0)
            return -1;
    return 0;
}

static void
scan_task(void *arg)
{
    struct err err;
    usec_t next = 0;

    (void)arg;
    while (!active_is_stopping()) {
        usec_t until;

        if (look_after && loop_now() >= look_after)
            (void)rescue(false);
        if (loop_now() >= next) {
            if (leftovers)
                (void)rescue(false);
            scan_want_incoming(false);
            scan_want_deferred(false);
            next = loop_now() + active_settings()->queue_run_delay;
        }
        begin_if_wanted(&incoming);
        begin_if_wanted(&deferred);
        until = look_after && look_after < next ? look_after : next;
        if (incoming.walk || deferred.walk) {
            if (wait_for_room(&err) < 0 || (incoming.walk && do_slice(&incoming, &err) < 0) ||
                (deferred.walk && do_slice(&deferred, &err) < 0))
                break;
        } else if (task_wait(&wanted, until, &err) < 0 && err.kind != ERR_TIMEOUT) {
            break;
        }
    }
    queue_walk_free(&incoming.walk);
    queue_walk_free(&deferred.walk);
}

static void
want(struct queue_scan *scan, bool all)
{
    scan->wanted = true;
    scan->wanted_all = scan->wanted_all || all;
    task_wake_all(&wanted);
}

void
scan_want_incoming(bool all)
{
    want(&incoming, all);
}

void
scan_want_deferred(bool all)
{
    last_deferred = loop_now();
    want(&deferred, all);
}

void
scan_incoming_again(void)
{
    incoming.again = true;
    task_wake_all(&wanted);
}

void
scan_remind(void)
{
    scan_want_incoming(false);
    if (loop_now() - last_deferred > active_settings()->queue_run_delay / 2)
        scan_want_deferred(false);
}

bool
scan_is_busy(void)
{
    return busy > 0;
}

void
scan_start(void)
{
    task_spawn(service_tasks(), "scan", scan_task, NULL);
}

/* ---- at the start ---- */

enum { RESCUE_MOST = 1000 };

/* A pass over active/ that moves to incoming/ what is not in hand. */
struct reset_job {
    struct arena *arena;
    bool at_start;
    const char *ids[RESCUE_MOST];
    unsigned count;
    bool more;       /* than there was room for */
    unsigned held;   /* that a predecessor has in hand */
    unsigned failed; /* could not be moved, or read */
    struct err err;
};

/* Locked: see queue_file_write.c, and active.h. */
static bool
is_locked(const char *path)
{
    int fd = openat(dir->fd, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;

    if (fd >= 0)
        close(fd);
    return locked;
}

static bool
is_unfinished(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot && strcmp(dot, ".new") == 0;
}

/* Files that an earlier life of ours, or of cleanup, was writing. */
static void
remove_unfinished(struct arena *arena, const char *queue)
{
    struct queue_walk *walk = queue_walk_new(dir, queue);
    const char *name;
    struct err err;
    int result;

    queue_walk_show_all(walk);
    while ((result = queue_walk_next(walk, &name, NULL, &err)) != 0)
        if (result > 0 && is_unfinished(name) && !is_locked(queue_walk_path(walk, arena, name)))
            unlinkat(dir->fd, queue_walk_path(walk, arena, name), 0);
    queue_walk_free(&walk);
}

/* Files that lie where the hashing does not look for them (it was changed, or they were restored from somewhere). */
static void
put_in_place(struct arena *arena, const char *queue)
{
    struct queue_walk *walk = queue_walk_new(dir, queue);
    const char *id;
    struct err err;
    bool in_place;
    int result;

    while ((result = queue_walk_next(walk, &id, &in_place, &err)) != 0) {
        const char *place;

        if (result < 0 || in_place)
            continue;
        place = queue_dir_path(dir, arena, queue, id);
        if (faccessat(dir->fd, place, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
            queue_dir_make_parents(dir, place, &err) == 0)
            (void)!renameat(dir->fd, queue_walk_path(walk, arena, id), dir->fd, place);
    }
    queue_walk_free(&walk);
}

/* A predecessor may move it while we look: from active, so that comes first. */
static bool
has_message(struct arena *arena, const char *id)
{
    static const char *const likely[] = {"active", "deferred", "hold", "incoming", "corrupt"};

    for (size_t i = 0; i < ARRAY_LEN(likely); i++)
        if (faccessat(dir->fd, queue_dir_path(dir, arena, likely[i], id), F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
            errno != ENOENT)
            return true;
    return false;
}

/* Logs whose message is no more: a crash came between the two. What is in the journal only has none either. */
static void
remove_orphans(const char *queue)
{
    struct queue_walk *walk = queue_walk_new(dir, queue);
    struct arena *arena = arena_new();
    const char *id;
    struct err err;
    int result;

    while ((result = queue_walk_next(walk, &id, NULL, &err)) != 0) {
        if (result > 0 && !has_message(arena, id))
            unlinkat(dir->fd, queue_walk_path(walk, arena, id), 0);
        arena_reset(arena);
    }
    arena_free(&arena);
    queue_walk_free(&walk);
}

static void
keep_order(struct arena *arena)
{
    static const char *const queues[] = {"incoming", "active", "deferred", "hold"};
    static const char *const logs[] = {"bounce", "defer", "trace"};

    for (size_t i = 0; i < ARRAY_LEN(queues); i++)
        put_in_place(arena, queues[i]);
    for (size_t i = 0; i < ARRAY_LEN(logs); i++)
        remove_orphans(logs[i]);
}

static void
list_active(void *arg)
{
    struct reset_job *job = arg;
    struct queue_walk *walk;
    const char *id;
    int result = 0;

    if (job->at_start) {
        keep_order(job->arena);
        remove_unfinished(job->arena, "incoming");
        remove_unfinished(job->arena, "active");
        remove_unfinished(job->arena, "deferred");
        remove_unfinished(job->arena, "hold");
    }
    walk = queue_walk_new(dir, "active");
    while (job->count < RESCUE_MOST && (result = queue_walk_next(walk, &id, NULL, &job->err)) != 0) {
        if (result < 0)
            job->failed++;
        else if (is_locked(queue_dir_path(dir, job->arena, "active", id)))
            job->held++;
        else
            job->ids[job->count++] = arena_strdup(job->arena, id);
    }
    job->more = result != 0 && job->count == RESCUE_MOST;
    queue_walk_free(&walk);
}

static void
move_listed(void *arg)
{
    struct reset_job *job = arg;
    bool found;

    for (unsigned i = 0; i < job->count; i++) {
        if (queue_dir_move(dir, "active", "incoming", job->ids[i], NULL, &found, &job->err) < 0)
            job->failed++;
        else if (found)
            utimensat(dir->fd, queue_dir_path(dir, job->arena, "incoming", job->ids[i]), NULL, AT_SYMLINK_NOFOLLOW);
    }
}

/* True: there are more, and none failed. */
static bool may_wait
rescue(bool at_start)
{
    struct arena *arena = arena_new();
    struct reset_job *job = ARENA_NEW(arena, struct reset_job);
    unsigned kept = 0;
    bool again;

    busy++;
    job->arena = arena;
    job->at_start = at_start;
    task_run_blocking(list_active, job);
    for (unsigned i = 0; i < job->count; i++)
        if (!message_find(job->ids[i]))
            job->ids[kept++] = job->ids[i];
    job->count = kept;
    if (!active_is_stopping())
        task_run_blocking(move_listed, job);
    busy--;
    look_after = job->held > 0 ? loop_now() + LOOK_AFTER_TIME : 0;
    if (job->failed > 0)
        log_warning("%u files in active could not be moved to incoming: %s", job->failed, job->err.text);
    leftovers = job->failed > 0 || job->more;
    if (!at_start && kept > 0)
        scan_want_incoming(false);
    again = job->more && job->failed == 0 && kept > 0 && !active_is_stopping();
    arena_free(&arena);
    return again;
}

void may_wait
scan_reset_active(void)
{
    for (bool first = true; rescue(first); first = false)
        continue;
}
