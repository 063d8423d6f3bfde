/* SPDX-License-Identifier: Apache-2.0 */
#include "flush/site_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"
#include "lib/mail/queue_id.h"

enum {
    READ_SIZE = 65536,
    MODE_FLUSH = 0040, /* qmgr tries it although its destination was dead */
};

static const char *
log_path(const struct queue_dir *dir, struct arena *arena, struct slice site)
{
    char *name = arena_strndup(arena, site.ptr, site.len);

    for (char *at = name; *at; at++)
        *at = text_is_alnum(*at) ? text_lower(*at) : '_';
    return queue_dir_path(dir, arena, "flush", name);
}

/* Opened and locked. -1 with err->code ENOENT: there is none. */
static int
open_path(const struct queue_dir *dir, const char *path, int flags, struct err *err)
{
    int fd = openat(dir->fd, path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0 && errno == ENOENT && (flags & O_CREAT)) {
        if (queue_dir_make_parents(dir, path, err) < 0)
            return -1;
        fd = openat(dir->fd, path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    if (fd < 0)
        return err_errno(err, "open %s", path);
    if (flock(fd, LOCK_EX) < 0) {
        err_errno(err, "lock %s", path);
        close(fd);
        return -1;
    }
    return fd;
}

static void
note_time(int fd)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};

    (void)!futimens(fd, times);
}

static void
note_failure(struct site_log_outcome *outcome, int result, const struct err *err)
{
    if (result == 0)
        return;
    outcome->failed++;
    outcome->err = *err;
}

/* ---- a message more ---- */

static int
add_line(int fd, const char *path, const char *line, struct err *err)
{
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) == 0 && st.st_size == 0)
        note_time(fd);
    n = write(fd, line, strlen(line));
    if (n < 0)
        return err_errno(err, "write %s", path);
    return n == (ssize_t)strlen(line) ? 0 : err_set(err, ERR_IO, "write %s: the disk is full", path);
}

void
site_log_add(const struct queue_dir *dir, struct slice site, const char *queue_id, struct site_log_outcome *outcome)
{
    struct arena *arena = arena_new();
    const char *path = log_path(dir, arena, site);
    struct err err;
    int fd = open_path(dir, path, O_WRONLY | O_APPEND | O_CREAT, &err), result = -1;

    if (fd >= 0) {
        result = add_line(fd, path, arena_printf(arena, "%s\n", queue_id), &err);
        close(fd);
    }
    note_failure(outcome, result, &err);
    arena_free(&arena);
}

/* ---- to be tried ---- */

/* Its time is now, and it goes where qmgr looks first. qmgr may take it meanwhile: then it has what it should. */
static int
send_one(const struct queue_dir *dir, struct arena *arena, const char *queue_id, bool *found, struct err *err)
{
    const char *path = queue_dir_path(dir, arena, "deferred", queue_id);
    struct stat st;
    int fd;

    *found = false;
    if (utimensat(dir->fd, path, NULL, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, "set time of %s", path);
    fd = openat(dir->fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        if (fstat(fd, &st) == 0)
            (void)!fchmod(fd, (st.st_mode & 0777) | MODE_FLUSH); /* it may have postsuper's "return it" */
        close(fd);
    }
    return queue_dir_move(dir, "deferred", "incoming", queue_id, NULL, found, err);
}

void
site_log_send_message(const struct queue_dir *dir, const char *queue_id, struct site_log_outcome *outcome)
{
    struct arena *arena = arena_new();
    struct err err;
    bool found;
    int result = send_one(dir, arena, queue_id, &found, &err);

    note_failure(outcome, result, &err);
    outcome->moved += result == 0 && found;
    arena_free(&arena);
}

/* True: it is being tried, for others of its recipients too, and goes back to deferred/ after that. */
static bool
is_active(const struct queue_dir *dir, const char *queue_id)
{
    struct arena *arena = arena_new();
    struct stat st;
    bool yes = fstatat(dir->fd, queue_dir_path(dir, arena, "active", queue_id), &st, AT_SYMLINK_NOFOLLOW) == 0;

    arena_free(&arena);
    return yes;
}

static bool
was_found(const struct queue_dir *dir, const char *queue_id, struct site_log_outcome *outcome)
{
    unsigned before = outcome->moved + outcome->failed;

    site_log_send_message(dir, queue_id, outcome);
    return outcome->moved + outcome->failed != before;
}

/* What is active stays in the list. It may have left for deferred/ between the two looks. */
static void
send_listed(const struct queue_dir *dir, const char *queue_id, struct buf *kept, struct site_log_outcome *outcome)
{
    if (was_found(dir, queue_id, outcome))
        return;
    if (is_active(dir, queue_id))
        buf_printf(kept, "%s\n", queue_id);
    else
        (void)was_found(dir, queue_id, outcome);
}

/* Lines that are no ids are passed over. */
static void
send_lines(const struct queue_dir *dir, struct buf *lines, struct buf *kept, struct site_log_outcome *outcome)
{
    char id[QUEUE_ID_SIZE];
    const char *end;

    while (lines->len > 0 && (end = memchr(lines->ptr, '\n', lines->len))) {
        size_t len = (size_t)(end - lines->ptr);
        if (len > 0 && len < sizeof id) {
            memcpy(id, lines->ptr, len);
            id[len] = '\0';
            if (queue_id_is_valid(slice_make(id, len)))
                send_listed(dir, id, kept, outcome);
        }
        buf_consume(lines, len + 1);
    }
}

/* Of all but `kept`. By opening it: ftruncate() is no call that the work on a queue needs. The lock is held by the caller's descriptor. */
static int
empty_file(const struct queue_dir *dir, const char *path, struct slice kept, struct err *err)
{
    int fd = openat(dir->fd, path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC), result = 0;

    if (fd < 0)
        return err_errno(err, "empty %s", path);
    note_time(fd);
    if (kept.len > 0 && write(fd, kept.ptr, kept.len) != (ssize_t)kept.len)
        result = err_set(err, ERR_IO, "write %s: %s", path, strerror(errno));
    close(fd);
    return result;
}

static int
send_file(const struct queue_dir *dir, int fd, const char *path, struct site_log_outcome *outcome, struct err *err)
{
    struct buf lines = {0}, kept = {0};
    ssize_t n;
    int result;

    while ((n = read(fd, buf_reserve(&lines, READ_SIZE), READ_SIZE)) > 0) {
        buf_added(&lines, (size_t)n);
        send_lines(dir, &lines, &kept, outcome);
        if (lines.len > QUEUE_ID_SIZE)
            buf_clear(&lines); /* no list of ours */
    }
    result = n < 0 ? err_errno(err, "read %s", path) : empty_file(dir, path, buf_slice(&kept), err);
    buf_release(&lines);
    buf_release(&kept);
    return result;
}

static int
send_path(const struct queue_dir *dir, const char *path, struct site_log_outcome *outcome, struct err *err)
{
    int fd = open_path(dir, path, O_RDONLY, err), result;

    if (fd < 0)
        return err->code == ENOENT ? 0 : -1;
    result = send_file(dir, fd, path, outcome, err);
    close(fd);
    return result;
}

void
site_log_send(const struct queue_dir *dir, struct slice site, struct site_log_outcome *outcome)
{
    struct arena *arena = arena_new();
    struct err err;

    note_failure(outcome, send_path(dir, log_path(dir, arena, site), outcome, &err), &err);
    arena_free(&arena);
}

/* ---- from time to time ---- */

static int
refresh_one(const struct queue_dir *dir, const char *path, int64_t unread_since, int64_t empty_since,
            struct site_log_outcome *outcome, struct err *err)
{
    struct stat st;

    if (fstatat(dir->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, "look at %s", path);
    if (!S_ISREG(st.st_mode))
        return 0;
    if (st.st_size > 0)
        return st.st_atime <= unread_since ? send_path(dir, path, outcome, err) : 0;
    if (st.st_mtime <= empty_since && unlinkat(dir->fd, path, 0) < 0 && errno != ENOENT)
        return err_errno(err, "remove %s", path);
    return 0;
}

void
site_log_refresh(const struct queue_dir *dir, int64_t now, int64_t refresh, int64_t purge,
                 struct site_log_outcome *outcome)
{
    struct queue_walk *walk = queue_walk_new(dir, "flush");
    struct arena *arena = arena_new();
    const char *name;
    struct err err;
    int result;

    queue_walk_show_all(walk);
    while ((result = queue_walk_next(walk, &name, NULL, &err)) != 0) {
        if (result > 0)
            result = refresh_one(dir, queue_walk_path(walk, arena, name), now - refresh, now - purge, outcome, &err);
        note_failure(outcome, result, &err);
        arena_reset(arena);
    }
    arena_free(&arena);
    queue_walk_free(&walk);
}
