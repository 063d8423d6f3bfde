/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox_rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/base/check.h"

static const char rewrite_mark[] = "user.postern.rewrite";
static const char patch_mark[] = "user.postern.patch";
enum {
    PIECE = 128 * 1024,
    MARK_LIMIT = 320,
    START = 160,        /* bytes of what was written that the mark repeats */
    PATCH_LIMIT = 1024, /* a longer change is made without a mark */
    PAGE = 4096,        /* what a write puts in its place whole */
};

static int
write_at(int fd, const char *bytes, size_t len, off_t at, struct err *err)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "write");
        bytes += n;
        len -= (size_t)n;
        at += n;
    }
    return 0;
}

/* One piece, of up to PIECE bytes. */
static ssize_t
read_at(int fd, char *bytes, off_t size, off_t at, struct err *err)
{
    ssize_t n;
    do
        n = pread(fd, bytes, size < PIECE ? (size_t)size : PIECE, at);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(err, "read");
    return n == 0 ? err_set(err, ERR_TEMP, "the mailbox became shorter") : n;
}

static int
copy_down(int fd, char *piece, off_t from, off_t size, off_t to, struct err *err)
{
    while (size > 0) {
        ssize_t n = read_at(fd, piece, size, from, err);
        if (n < 0 || write_at(fd, piece, (size_t)n, to, err) < 0)
            return -1;
        from += n;
        to += n;
        size -= n;
    }
    return 0;
}

/* state: 'w' being written, 'c' complete, to be copied. start: of what was written, in state 'c'. */
static int
set_mark(const struct mbox_rewrite *w, char state, struct slice start)
{
    char text[MARK_LIMIT];
    int len = snprintf(text, sizeof(text), "%c %lld %lld %lld %lld ", state, (long long)w->from, (long long)w->old_end,
                       (long long)w->at, (long long)w->size);
    if (start.len > START)
        start.len = START;
    if (start.len > 0)
        memcpy(text + len, start.ptr, start.len);
    return fsetxattr(w->fd, rewrite_mark, text, (size_t)len + start.len, 0) == 0 || errno == EOPNOTSUPP ? 0 : -1;
}

static void
unmark(int fd)
{
    (void)fremovexattr(fd, rewrite_mark);
}

void
mbox_rewrite_abort(struct mbox_rewrite *w)
{
    if (ftruncate(w->fd, w->old_end) == 0)
        unmark(w->fd);
    free(w->piece);
    w->piece = NULL;
}

/* The space is had before anything is written; what lies between the old end and the new form is empty lines, so that nobody
 * who looks meanwhile finds more than messages twice. */
int
mbox_rewrite_begin(struct mbox_rewrite *w, int fd, off_t from, off_t size, struct err *err)
{
    struct stat st;
    *w = (struct mbox_rewrite){.fd = fd, .from = from, .size = size};
    if (fstat(fd, &st) < 0)
        return err_errno(err, "stat");
    w->old_end = st.st_size;
    w->at = from + size > w->old_end ? from + size : w->old_end;
    if (size == 0)
        return 0;
    if (set_mark(w, 'w', slice_make(NULL, 0)) < 0)
        return err_errno(err, "mark the rewrite");
    errno = posix_fallocate(fd, w->old_end, w->at + size - w->old_end);
    if (errno) {
        err_errno(err, "rewrite");
        mbox_rewrite_abort(w);
        return -1;
    }
    w->piece = malloc(PIECE);
    if (!w->piece)
        fatal("out of memory");
    memset(w->piece, '\n', PIECE);
    for (off_t at = w->old_end; at < w->at; at += PIECE)
        if (write_at(fd, w->piece, w->at - at < PIECE ? (size_t)(w->at - at) : PIECE, at, err) < 0) {
            mbox_rewrite_abort(w);
            return -1;
        }
    return 0;
}

static int
flush(struct mbox_rewrite *w, struct err *err)
{
    if (w->filled > 0 && write_at(w->fd, w->piece, w->filled, w->at + w->written, err) < 0)
        return -1;
    w->written += (off_t)w->filled;
    w->filled = 0;
    return 0;
}

int
mbox_rewrite_put(struct mbox_rewrite *w, struct slice bytes, struct err *err)
{
    check(w->written + (off_t)(w->filled + bytes.len) <= w->size);
    while (bytes.len > 0) {
        size_t n = PIECE - w->filled < bytes.len ? PIECE - w->filled : bytes.len;
        memcpy(w->piece + w->filled, bytes.ptr, n);
        w->filled += n;
        bytes = slice_make(bytes.ptr + n, bytes.len - n);
        if (w->filled == PIECE && flush(w, err) < 0)
            return -1;
    }
    return 0;
}

int
mbox_rewrite_copy(struct mbox_rewrite *w, off_t from, off_t size, struct err *err)
{
    check(w->written + (off_t)w->filled + size <= w->size);
    while (size > 0) {
        off_t room = (off_t)(PIECE - w->filled);
        ssize_t n = read_at(w->fd, w->piece + w->filled, size < room ? size : room, from, err);
        if (n < 0)
            return -1;
        w->filled += (size_t)n;
        from += n;
        size -= n;
        if (w->filled == PIECE && flush(w, err) < 0)
            return -1;
    }
    return 0;
}

/* The second half: everything stands behind the old end. */
static int
put_in_place(struct mbox_rewrite *w, struct err *err)
{
    if (copy_down(w->fd, w->piece, w->at, w->size, w->from, err) < 0)
        return -1;
    if (fdatasync(w->fd) < 0 || ftruncate(w->fd, w->from + w->size) < 0)
        return err_errno(err, "rewrite");
    unmark(w->fd);
    return fsync(w->fd) < 0 ? err_errno(err, "sync") : 0;
}

/* Past the point where the mark says that it is complete, a failure leaves what the next one who locks the file will end. */
int
mbox_rewrite_commit(struct mbox_rewrite *w, struct err *err)
{
    char start[START];
    ssize_t n = 0;
    if (w->size == 0)
        return ftruncate(w->fd, w->from) < 0 || fsync(w->fd) < 0 ? err_errno(err, "rewrite") : 0;
    if (flush(w, err) < 0 || fdatasync(w->fd) < 0 || (n = pread(w->fd, start, sizeof(start), w->at)) < 0 ||
        w->written != w->size) {
        if (w->written == w->size)
            err_errno(err, "rewrite");
        mbox_rewrite_abort(w);
        return -1;
    }
    /* What is not known to be complete is taken back after a kill, and must not be half copied by then. */
    if (set_mark(w, 'c', slice_make(start, (size_t)n)) < 0) {
        err_errno(err, "mark the rewrite");
        mbox_rewrite_abort(w);
        return -1;
    }
    int result = fsync(w->fd) < 0 ? err_errno(err, "sync") : put_in_place(w, err);
    free(w->piece);
    w->piece = NULL;
    return result;
}

/* ---- small changes ---- */

/* Within a page a write is whole, as far as a kill goes; across, the old bytes stand in a mark meanwhile. */
int
mbox_patch(int fd, off_t at, struct slice old, struct slice new, struct err *err)
{
    char text[PATCH_LIMIT + 64];
    check(old.len == new.len);
    while (old.len > 0 && old.ptr[0] == new.ptr[0]) {
        at++;
        old = slice_make(old.ptr + 1, old.len - 1);
        new = slice_make(new.ptr + 1, new.len - 1);
    }
    while (old.len > 0 && old.ptr[old.len - 1] == new.ptr[old.len - 1])
        old.len = --new.len;
    if (old.len == 0)
        return 0;
    bool marked = at / PAGE != (at + (off_t)old.len - 1) / PAGE && old.len <= PATCH_LIMIT;
    if (marked) {
        int len = snprintf(text, sizeof(text), "%lld ", (long long)at);
        memcpy(text + len, old.ptr, old.len);
        (void)fsetxattr(fd, patch_mark, text, (size_t)len + old.len, 0);
    }
    int result = write_at(fd, new.ptr, new.len, at, err);
    if (marked && result == 0)
        (void)fremovexattr(fd, patch_mark);
    return result;
}

/* ---- after a kill ---- */

static void
repair_patch(int fd)
{
    char text[PATCH_LIMIT + 65], *bytes;
    struct stat st;
    struct err err;
    ssize_t len = fgetxattr(fd, patch_mark, text, sizeof(text) - 1);
    if (len <= 0)
        return;
    text[len] = '\0';
    off_t at = strtoll(text, &bytes, 10);
    len -= bytes + 1 - text;
    if (*bytes == ' ' && at >= 0 && len > 0 && fstat(fd, &st) == 0 && st.st_size >= at + len &&
        write_at(fd, bytes + 1, (size_t)len, at, &err) < 0)
        return;
    (void)fremovexattr(fd, patch_mark);
}

static bool
begins_with(int fd, off_t at, struct slice start)
{
    char bytes[START];
    return start.len > 0 && start.len <= sizeof(bytes) && pread(fd, bytes, start.len, at) == (ssize_t)start.len &&
           memcmp(bytes, start.ptr, start.len) == 0;
}

/* Takes out [from, to), once more by a rewrite: what follows was added by somebody else. */
static void
take_out(int fd, off_t from, off_t to, off_t end)
{
    struct mbox_rewrite w;
    struct err err;
    if (mbox_rewrite_begin(&w, fd, from, end - to, &err) < 0)
        return;
    if (mbox_rewrite_copy(&w, to, end - to, &err) < 0)
        mbox_rewrite_abort(&w);
    else
        (void)!mbox_rewrite_commit(&w, &err);
}

static void
end_rewrite(struct mbox_rewrite *w, off_t size)
{
    struct err err;
    w->piece = malloc(PIECE);
    if (!w->piece)
        fatal("out of memory");
    if (size == w->at + w->size)
        (void)!put_in_place(w, &err);
    else if (copy_down(w->fd, w->piece, w->at, w->size, w->from, &err) == 0 && fdatasync(w->fd) == 0)
        take_out(w->fd, w->from + w->size, w->at + w->size, size);
    free(w->piece);
}

static void
repair_rewrite(int fd)
{
    char text[MARK_LIMIT + 1], state;
    long long from, old_end, at, size;
    struct stat st;
    int used = 0;
    ssize_t len = fgetxattr(fd, rewrite_mark, text, MARK_LIMIT);
    if (len <= 0)
        return;
    text[len] = '\0';
    if (fstat(fd, &st) < 0)
        return;
    if (sscanf(text, "%c %lld %lld %lld %lld%n", &state, &from, &old_end, &at, &size, &used) != 5 || from < 0 ||
        size <= 0 || old_end < from || at < old_end || at < from + size || st.st_size < at + size) {
        unmark(fd); /* the space was not even had, or somebody else wrote the mailbox anew */
        return;
    }
    struct mbox_rewrite w = {.fd = fd, .from = from, .old_end = old_end, .at = at, .size = size};
    if (state == 'w' && st.st_size == at + size) {
        mbox_rewrite_abort(&w);
    } else if (state == 'w') {
        take_out(fd, old_end, at + size, st.st_size);
    } else if (used + 1 < len && begins_with(fd, at, slice_make(text + used + 1, (size_t)(len - used - 1)))) {
        end_rewrite(&w, st.st_size);
    } else {
        unmark(fd);
    }
}

void
mbox_rewrite_repair(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR)
        return;
    if (fgetxattr(fd, rewrite_mark, NULL, 0) <= 0 && fgetxattr(fd, patch_mark, NULL, 0) <= 0)
        return;
    if (flags & O_APPEND) /* else each write would go to the end */
        (void)fcntl(fd, F_SETFL, flags & ~O_APPEND);
    repair_patch(fd);
    repair_rewrite(fd);
    if (flags & O_APPEND)
        (void)fcntl(fd, F_SETFL, flags);
}
