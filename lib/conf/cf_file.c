/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/cf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"

enum { LOCK_WAIT_SECONDS = 10 };

static int
complain_of_nul(const char *path, struct slice text, struct err *err)
{
    const char *nul = memchr(text.ptr, 0, text.len);
    unsigned line = 1;
    for (const char *at = text.ptr; at < nul; at++)
        line += *at == '\n';
    return err_set(err, ERR_SYNTAX,
                   "file %s, line %u: has a NUL byte in it; take it out, or save the file as plain text", path, line);
}

static int
read_all(struct arena *arena, int fd, const char *path, struct slice *content, struct err *err)
{
    struct buf text = {0};
    for (;;) {
        ssize_t n = read(fd, buf_reserve(&text, 16384), 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || text.len > CF_FILE_SIZE_LIMIT) {
            int result = n < 0                           ? err_errno(err, "read file %s", path)
                         : n > 0                         ? err_set(err, ERR_SYNTAX, "file %s: is too large", path)
                         : text.len == 0                 ? 0
                         : memchr(text.ptr, 0, text.len) ? complain_of_nul(path, buf_slice(&text), err)
                                                         : 0;
            *content = arena_slice(arena, buf_slice(&text));
            buf_release(&text);
            return result;
        }
        buf_added(&text, (size_t)n);
    }
}

int
cf_file_read(struct arena *arena, const char *path, struct slice *content, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open %s", path);
    int result = read_all(arena, fd, path, content, err);
    close(fd);
    return result;
}

bool
cf_physical_next(struct slice *rest, struct slice *line)
{
    return slice_cut(rest, '\n', line);
}

bool
cf_is_comment(struct slice physical)
{
    struct slice text = slice_trim(physical);
    return text.len == 0 || *text.ptr == '#';
}

bool
cf_is_continuation(struct slice physical)
{
    return physical.len > 0 && text_is_space(*physical.ptr) && !cf_is_comment(physical);
}

static struct slice
trim_end(struct slice s)
{
    while (s.len > 0 && text_is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* The beginning of a logical line, for certain. */
static bool
begins_line(struct slice physical)
{
    return physical.len > 0 && (unsigned char)*physical.ptr > ' ' && *physical.ptr != '#';
}

bool
cf_line_next(struct arena *arena, struct slice *rest, unsigned *number, struct cf_line *line)
{
    struct slice physical;
    do {
        if (!cf_physical_next(rest, &physical))
            return false;
        ++*number;
    } while (!begins_line(physical) && cf_is_comment(physical));
    *line = (struct cf_line){.text = physical, .number = *number};
    line->orphan = !begins_line(physical) && cf_is_continuation(physical);

    struct buf joined = {0};
    struct slice ahead = *rest;
    unsigned ahead_number = *number;
    while (cf_physical_next(&ahead, &physical)) {
        ahead_number++;
        if (begins_line(physical))
            break;
        if (cf_is_comment(physical))
            continue;
        if (!cf_is_continuation(physical))
            break;
        if (joined.len == 0)
            buf_append_slice(&joined, line->text);
        buf_append_slice(&joined, physical);
        *rest = ahead;
        *number = ahead_number;
    }
    if (joined.len > 0)
        line->text = arena_slice(arena, buf_slice(&joined));
    line->text = trim_end(line->text);
    buf_release(&joined);
    return true;
}

/* Editors replace the file, so a lock may turn out to be on one that is no longer there: then again. */
static int
open_locked(const char *path, struct err *err)
{
    for (unsigned tries = 0; tries < LOCK_WAIT_SECONDS * 20; tries++) {
        struct stat by_fd, by_path;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, "open %s for editing", path);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &by_fd) == 0 && stat(path, &by_path) == 0 &&
            by_fd.st_ino == by_path.st_ino && by_fd.st_dev == by_path.st_dev)
            return fd;
        close(fd);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return err_set(err, ERR_TIMEOUT, "lock %s: somebody else is editing it", path);
}

int
cf_edit_begin(struct cf_edit *edit, struct arena *arena, const char *path, struct err *err)
{
    *edit = (struct cf_edit){.arena = arena, .path = arena_strdup(arena, path)};
    /* A link is followed to the file itself, so that it stays a link. */
    char *real = realpath(path, NULL);
    if (real) {
        edit->path = arena_strdup(arena, real);
        free(real);
    }
    edit->fd = open_locked(edit->path, err);
    if (edit->fd < 0)
        return -1;
    if (read_all(arena, edit->fd, path, &edit->content, err) == 0)
        return 0;
    cf_edit_abandon(edit);
    return -1;
}

void
cf_edit_abandon(struct cf_edit *edit)
{
    if (edit->fd >= 0)
        close(edit->fd);
    edit->fd = -1;
}

static int
write_all(int fd, struct slice content)
{
    while (content.len > 0) {
        ssize_t n = write(fd, content.ptr, content.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        content = slice_make(content.ptr + n, content.len - (size_t)n);
    }
    return 0;
}

static int
write_copy(const struct cf_edit *edit, const char *temporary, struct slice content, struct err *err)
{
    struct stat old;
    if (fstat(edit->fd, &old) < 0)
        return err_errno(err, "stat %s", edit->path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, old.st_mode & 0777);
    if (fd < 0)
        return err_errno(err, "create %s", temporary);
    /* Only root can keep a foreign owner; where the owner can't be kept, the mode still is. */
    int result = 0;
    if ((old.st_uid != geteuid() || old.st_gid != getegid()) && fchown(fd, old.st_uid, old.st_gid) < 0 &&
        geteuid() == 0)
        result = -1;
    if (result < 0 || fchmod(fd, old.st_mode & 07777) < 0 || write_all(fd, content) < 0 || fsync(fd) < 0)
        result = err_errno(err, "write %s", temporary);
    close(fd);
    return result;
}

int
cf_edit_commit(struct cf_edit *edit, struct slice content, struct err *err)
{
    const char *temporary = arena_printf(edit->arena, "%s.tmp", edit->path);
    int result = 0;
    /* What lies there is left over from an editor that died: we hold the lock. */
    if (unlink(temporary) < 0 && errno != ENOENT)
        result = err_errno(err, "remove %s", temporary);
    if (result == 0)
        result = write_copy(edit, temporary, content, err);
    if (result == 0 && rename(temporary, edit->path) < 0)
        result = err_errno(err, "rename %s", temporary);
    if (result < 0)
        unlink(temporary);
    cf_edit_abandon(edit);
    return result;
}
