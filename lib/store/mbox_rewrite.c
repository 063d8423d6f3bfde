/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox_rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
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
    START = 160,       /* bytes of the file that a mark repeats, so that it is not believed of another content */
    SHORT_START = 32,  /* of what is cut off: such a mark can mostly be set on a full disk too */
    PATCH_LIMIT = 300, /* a longer change across blocks is made by a rewrite */
    SLIDES = 64,       /* steps in which a hole is closed */
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

/* What the file system writes whole, within limits. */
static off_t
block_size(int fd, off_t least, off_t most)
{
    struct stat st;
    off_t size = fstat(fd, &st) == 0 ? st.st_blksize : least;
    return size < least ? least : size > most ? most : size;
}

static off_t
data_block(int fd)
{
    return block_size(fd, 4096, 65536);
}

/* What stands in the mark; the numbers are those of struct mbox_rewrite, or two ends.
 *   w from old_end at size        the new form is being written
 *   c from old_end at size START  it is complete, and takes its place; so it begins
 *   t from end START              all from there on is cut off; so it begins
 *   h from end START              what stands between is no mail, and is taken out; so begins what is behind */
static int
set_mark(int fd, char state, const off_t *numbers, size_t count, off_t start_at, size_t start_len)
{
    char text[MARK_LIMIT];
    ssize_t n = 0;
    int len = snprintf(text, sizeof(text), "%c", state);
    for (size_t i = 0; i < count; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, " %lld", (long long)numbers[i]);
    text[len++] = ' ';
    if (start_len > 0)
        n = pread(fd, text + len, start_len, start_at);
    if (n < 0)
        return -1;
    return fsetxattr(fd, rewrite_mark, text, (size_t)(len + n), 0) == 0 || errno == EOPNOTSUPP ? 0 : -1;
}

static int
mark_rewrite(const struct mbox_rewrite *w, char state)
{
    const off_t numbers[] = {w->from, w->old_end, w->at, w->size};
    return set_mark(w->fd, state, numbers, 4, w->at, state == 'c' ? START : 0);
}

static int
mark_ends(int fd, char state, off_t from, off_t end)
{
    const off_t numbers[] = {from, end};
    return set_mark(fd, state, numbers, 2, state == 't' ? from : end, state == 't' ? SHORT_START : START);
}

static void
unmark(int fd)
{
    (void)fremovexattr(fd, rewrite_mark);
}

/* After it what is written next can't come to the disk before the mark and the old length have gone. */
static int
cut_back(int fd, off_t end)
{
    if (ftruncate(fd, end) < 0)
        return -1;
    unmark(fd);
    return fsync(fd);
}

void
mbox_rewrite_abort(struct mbox_rewrite *w)
{
    (void)!cut_back(w->fd, w->old_end);
    free(w->piece);
    w->piece = NULL;
}

/* Cutting a file fills its last block with zeros, and those may come to the disk without the new length: so there has to be a mark
 * first. On a full disk there may be none. */
static int
cut_off(int fd, off_t from, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, "stat");
    if (from % data_block(fd) != 0 && mark_ends(fd, 't', from, st.st_size) < 0 && errno != ENOSPC && errno != EDQUOT)
        return err_errno(err, "mark what is cut off");
    if (fsync(fd) < 0 || cut_back(fd, from) < 0)
        return err_errno(err, "cut");
    return 0;
}

/* The space is had before anything is written; what lies between the old end and the new form is empty lines, so that nobody
 * who looks meanwhile finds more than messages twice. One block of these follows the one in which the file will be cut, or was: zeros
 * of a cut don't reach the new form, and by that block, which no mail has, a repair sees that the mark is the file's. */
int
mbox_rewrite_begin(struct mbox_rewrite *w, int fd, off_t from, off_t size, struct err *err)
{
    struct stat st;
    off_t block = data_block(fd);
    *w = (struct mbox_rewrite){.fd = fd, .from = from, .size = size};
    if (fstat(fd, &st) < 0)
        return err_errno(err, "stat");
    w->old_end = st.st_size;
    w->at = from + size > w->old_end ? from + size : w->old_end;
    w->at = ((w->at + block - 1) / block + 1) * block;
    if (size == 0)
        return 0;
    if (mark_rewrite(w, 'w') < 0)
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

/* Another program that heeds no lock may change the file between the plan and the copy. */
static int
check_room(const struct mbox_rewrite *w, off_t size, struct err *err)
{
    return w->written + (off_t)w->filled + size <= w->size ? 0
                                                           : err_set(err, ERR_TEMP, "the mailbox changed meanwhile");
}

int
mbox_rewrite_put(struct mbox_rewrite *w, struct slice bytes, struct err *err)
{
    if (check_room(w, (off_t)bytes.len, err) < 0)
        return -1;
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
    if (check_room(w, size, err) < 0)
        return -1;
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
    if (fdatasync(w->fd) < 0 || cut_back(w->fd, w->from + w->size) < 0)
        return err_errno(err, "rewrite");
    return 0;
}

/* Past the point where the mark says that it is complete, a failure leaves what the next one who locks the file will end. */
int
mbox_rewrite_commit(struct mbox_rewrite *w, struct err *err)
{
    if (w->size == 0)
        return cut_off(w->fd, w->from, err);
    bool is_flushed = flush(w, err) == 0;
    if (!is_flushed || w->written != w->size || fdatasync(w->fd) < 0) {
        if (w->written == w->size)
            err_errno(err, "rewrite");
        else if (is_flushed)
            err_set(err, ERR_TEMP, "the mailbox changed meanwhile");
        mbox_rewrite_abort(w);
        return -1;
    }
    /* What is not known to be complete is taken back after a kill, and must not be half copied by then. */
    if (mark_rewrite(w, 'c') < 0) {
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

/* What is changed across a block's end: "at length old-bytes new-bytes". -1 with errno. */
static int
mark_patch(int fd, off_t at, struct slice old, struct slice new)
{
    char text[2 * PATCH_LIMIT + 64];
    int len = snprintf(text, sizeof(text), "%lld %zu ", (long long)at, old.len);
    memcpy(text + len, old.ptr, old.len);
    memcpy(text + len + (int)old.len, new.ptr, new.len);
    return fsetxattr(fd, patch_mark, text, (size_t)len + 2 * old.len, 0) == 0 ? fsync(fd) : -1;
}

/* Within a block a write is whole; across, the old bytes stand in a mark from before until after. On a full disk, and where there are no
 * marks, it is done without. */
static int
patch_across(int fd, off_t at, struct slice old, struct slice new, struct err *err)
{
    bool marked = mark_patch(fd, at, old, new) == 0;
    if (!marked && errno != EOPNOTSUPP && errno != ENOSPC && errno != EDQUOT)
        return err_errno(err, "mark a change");
    if (write_at(fd, new.ptr, new.len, at, err) < 0)
        return -1;
    if (marked && (fdatasync(fd) < 0 || fremovexattr(fd, patch_mark) < 0))
        return err_errno(err, "sync a change");
    return 0;
}

int
mbox_patch(int fd, off_t at, struct slice old, struct slice new, bool *is_too_long, struct err *err)
{
    *is_too_long = false;
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
    off_t block = block_size(fd, 512, 4096);
    if (at / block == (at + (off_t)old.len - 1) / block)
        return write_at(fd, new.ptr, new.len, at, err);
    *is_too_long = old.len > PATCH_LIMIT;
    return *is_too_long ? 0 : patch_across(fd, at, old, new, err);
}

/* ---- after a kill, or a power cut ---- */

/* Has the file, at the place of the change, nothing but bytes of before and after? */
static bool
is_between(int fd, off_t at, const char *old, const char *new, size_t len)
{
    char there[PATCH_LIMIT];
    if (len > sizeof(there) || pread(fd, there, len, at) != (ssize_t)len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (there[i] != old[i] && there[i] != new[i])
            return false;
    return true;
}

static void
repair_patch(int fd)
{
    char text[2 * PATCH_LIMIT + 65], *rest;
    struct err err;
    ssize_t len = fgetxattr(fd, patch_mark, text, sizeof(text) - 1);
    if (len <= 0)
        return;
    text[len] = '\0';
    off_t at = strtoll(text, &rest, 10);
    size_t size = strtoull(rest, &rest, 10);
    if (*rest == ' ' && at >= 0 && size <= PATCH_LIMIT && rest + 1 + 2 * size == text + len &&
        is_between(fd, at, rest + 1, rest + 1 + size, size) &&
        (write_at(fd, rest + 1, size, at, &err) < 0 || fdatasync(fd) < 0))
        return;
    (void)fremovexattr(fd, patch_mark);
}

/* may_be_zeros: a cut that the power met may have left those, as far as the block goes. */
static bool
begins_with(int fd, off_t at, struct slice start, bool may_be_zeros)
{
    char bytes[START];
    off_t block = data_block(fd), zeros_end = may_be_zeros ? (at / block + 1) * block : 0;
    if (start.len == 0 || start.len > sizeof(bytes) || pread(fd, bytes, start.len, at) != (ssize_t)start.len)
        return false;
    for (size_t i = 0; i < start.len; i++)
        if (bytes[i] != start.ptr[i] && (bytes[i] != '\0' || at + (off_t)i >= zeros_end))
            return false;
    return true;
}

/* Where something begins that is neither an empty line nor zeros; at most `end`. */
static off_t
skip_nothing(int fd, off_t at, off_t end, bool *zeros)
{
    char bytes[2048];
    *zeros = false;
    while (at < end) {
        ssize_t n = pread(fd, bytes, end - at < (off_t)sizeof(bytes) ? (size_t)(end - at) : sizeof(bytes), at);
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] != '\n' && bytes[i] != '\0')
                return at + i;
            *zeros |= bytes[i] == '\0';
        }
        at += n;
    }
    return at;
}

static bool
has_gap(int fd, off_t at)
{
    bool zeros;
    off_t block = data_block(fd);
    return at % block == 0 && at >= block && skip_nothing(fd, at - block, at, &zeros) == at;
}

static bool
is_from_at(int fd, off_t at)
{
    char bytes[6];
    return at > 0 && pread(fd, bytes, 6, at - 1) == 6 && (bytes[0] == '\n' || bytes[0] == '\0') &&
           memcmp(bytes + 1, "From ", 5) == 0;
}

/* A mark of the hole is durable. What is behind is moved down, in pieces that have room in the hole: each can be done again. Where that
 * were too many, the hole becomes empty lines. */
static int
close_hole(int fd, off_t from, off_t end, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, "stat");
    bool is_small = (st.st_size - end) / (end - from) > SLIDES;
    char *piece = malloc(PIECE);
    if (!piece)
        fatal("out of memory");
    int result = 0;
    memset(piece, '\n', PIECE);
    for (off_t at = from; is_small && result == 0 && at < end; at += PIECE)
        result = write_at(fd, piece, end - at < PIECE ? (size_t)(end - at) : PIECE, at, err);
    while (!is_small && result == 0 && end < st.st_size) {
        off_t size = end - from < st.st_size - end ? end - from : st.st_size - end;
        result = copy_down(fd, piece, end, size, from, err);
        from += size;
        end += size;
        if (result == 0 &&
            (fdatasync(fd) < 0 || (end < st.st_size && (mark_ends(fd, 'h', from, end) < 0 || fsync(fd) < 0))))
            result = err_errno(err, "sync");
    }
    free(piece);
    if (result < 0 || !is_small)
        return result < 0 ? -1 : cut_off(fd, from, err);
    if (fdatasync(fd) < 0)
        return err_errno(err, "sync");
    unmark(fd);
    return 0;
}

/* Without O_APPEND: with it each write would go to the end. Returns what the flags were. */
static int
write_anywhere(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags > 0 && (flags & O_APPEND))
        (void)fcntl(fd, F_SETFL, flags & ~O_APPEND);
    return flags;
}

int
mbox_take_out(int fd, off_t from, off_t end, struct err *err)
{
    if (mark_ends(fd, 'h', from, end) < 0 || fsync(fd) < 0)
        return err_errno(err, "mark what is taken out");
    int flags = write_anywhere(fd), result = close_hole(fd, from, end, err);
    (void)fcntl(fd, F_SETFL, flags);
    return result;
}

/* The file's end is there, or more behind it. */
static void
drop(int fd, off_t from, off_t end, off_t size)
{
    struct err err;
    if (end == size)
        (void)!cut_back(fd, from);
    else
        (void)!mbox_take_out(fd, from, end, &err);
}

/* Not all of the space was had; then all that may be there of it are zeros. */
static void
drop_space(const struct mbox_rewrite *w, off_t size)
{
    bool zeros;
    off_t end = size > w->old_end ? skip_nothing(w->fd, w->old_end, size, &zeros) : size;
    if (end > w->old_end && (end == size || (zeros && is_from_at(w->fd, end))))
        drop(w->fd, w->old_end, end, size);
    else
        unmark(w->fd);
}

static void
end_rewrite(struct mbox_rewrite *w, off_t size)
{
    struct err err;
    w->piece = malloc(PIECE);
    if (!w->piece)
        fatal("out of memory");
    if (copy_down(w->fd, w->piece, w->at, w->size, w->from, &err) == 0 && fdatasync(w->fd) == 0)
        drop(w->fd, w->from + w->size, w->at + w->size, size);
    free(w->piece);
}

/* The mailbox's owner can write what he likes into a mark: sums of three of these don't overflow. */
static const off_t NUMBER_LIMIT = INT64_MAX / 4;

static bool
take_numbers(char **rest, off_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *begin = *rest;
        numbers[i] = strtoll(begin, rest, 10);
        if (*begin != ' ' || *rest == begin || numbers[i] < 0 || numbers[i] > NUMBER_LIMIT)
            return false;
    }
    return *(*rest)++ == ' ';
}

static void
repair_ends(int fd, char state, char *rest, const char *text_end, off_t size)
{
    off_t numbers[2];
    struct err err;
    bool is_good = take_numbers(&rest, numbers, 2) && numbers[0] < numbers[1];
    struct slice start = slice_make(rest, is_good ? (size_t)(text_end - rest) : 0);
    /* A kill stopped us before the cut, or the power in it; what a program has added since stays. */
    if (is_good && state == 't' && size >= numbers[1] && begins_with(fd, numbers[0], start, true) &&
        (size == numbers[1] || is_from_at(fd, numbers[1])))
        drop(fd, numbers[0], numbers[1], size);
    else if (is_good && state == 'h' && size > numbers[1] && begins_with(fd, numbers[1], start, false))
        (void)!close_hole(fd, numbers[0], numbers[1], &err);
    else
        unmark(fd); /* the file is cut already, or somebody else wrote the mailbox anew */
}

static void
repair_rewrite(int fd)
{
    char text[MARK_LIMIT + 1], *rest = text + 1;
    off_t numbers[4];
    struct stat st;
    ssize_t len = fgetxattr(fd, rewrite_mark, text, MARK_LIMIT);
    if (len <= 0 || fstat(fd, &st) < 0)
        return;
    text[len] = '\0';
    if (text[0] == 't' || text[0] == 'h') {
        repair_ends(fd, text[0], rest, text + len, st.st_size);
        return;
    }
    bool is_good = take_numbers(&rest, numbers, 4);
    struct mbox_rewrite w = {.fd = fd, .from = numbers[0], .old_end = numbers[1], .at = numbers[2], .size = numbers[3]};
    bool is_whole = is_good && w.size > 0 && w.from <= w.old_end && w.from + w.size < w.at && w.old_end < w.at &&
                    st.st_size >= w.at + w.size && has_gap(fd, w.at);
    if (is_whole && text[0] == 'w')
        drop(fd, w.old_end, w.at + w.size, st.st_size);
    else if (is_whole && text[0] == 'c' && begins_with(fd, w.at, slice_make(rest, (size_t)(text + len - rest)), false))
        end_rewrite(&w, st.st_size);
    else if (is_good && text[0] == 'w' && st.st_size < w.at + w.size)
        drop_space(&w, st.st_size);
    else
        unmark(fd); /* ended already, or somebody else wrote the mailbox anew */
}

bool
mbox_rewrite_is_marked(int fd)
{
    return fgetxattr(fd, rewrite_mark, NULL, 0) > 0 || fgetxattr(fd, patch_mark, NULL, 0) > 0;
}

void
mbox_rewrite_repair(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR)
        return;
    if (!mbox_rewrite_is_marked(fd))
        return;
    flags = write_anywhere(fd);
    repair_patch(fd);
    repair_rewrite(fd);
    (void)fcntl(fd, F_SETFL, flags);
}
