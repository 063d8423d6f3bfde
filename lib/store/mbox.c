/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/store/file.h"
#include "lib/store/mbox_lock.h"
#include "lib/store/mbox_repair.h"
#include "lib/store/mbox_rewrite.h"
#include "lib/store/mbox_sum.h"

enum {
    PIECE = 128 * 1024, /* a message up to this size goes out in one write */
    FIRST_WAIT = 2000,  /* microseconds: who holds a lock for a short append is gone soon */
};

static bool
is_device(const struct mbox *mbox)
{
    return S_ISCHR(mbox->file.st.st_mode);
}

/* Opens for reading too, where that is allowed: for the repair, and to see how the file ends. */
static int
open_file(struct mbox *mbox, unsigned options, struct store_fault *fault)
{
    unsigned safe = (options & MBOX_CREATE ? SAFE_CREATE : 0u) | (options & MBOX_DEVICES ? SAFE_DEVICES : 0u);

    if (options & MBOX_READ_ONLY)
        return safe_open(&mbox->file, mbox->path, O_RDONLY, safe, fault);
    int append = options & MBOX_READ_WRITE ? 0 : O_APPEND;
    if (safe_open(&mbox->file, mbox->path, O_RDWR | append, safe, fault) == 0)
        return 0;
    if (fault->code != EACCES || (options & MBOX_READ_WRITE))
        return -1;
    return safe_open(&mbox->file, mbox->path, O_WRONLY | append, safe, fault);
}

static void
pause_for(usec_t time)
{
    struct timespec ts = {.tv_sec = time / SECONDS(1), .tv_nsec = (long)(time % SECONDS(1)) * 1000};

    (void)nanosleep(&ts, NULL);
}

int
mbox_open(struct mbox *mbox, const char *path, unsigned options, const struct mbox_locking *locking,
          struct store_fault *fault)
{
    usec_t begun = clock_monotonic(), patience = locking->delay * locking->attempts, wait = FIRST_WAIT;

    bool created = false; /* in an earlier round too */

    mbox->path = path;
    for (;;) {
        int got;

        mbox->held = 0;
        if (open_file(mbox, options, fault) < 0)
            return -1;
        created = mbox->file.created = mbox->file.created || created;
        if (is_device(mbox))
            return 0;
        got = mbox_lock_try(mbox, locking->kinds, options & MBOX_READ_ONLY, options & MBOX_DOTLOCK_TRY, locking->stale,
                            fault);
        if (got > 0 && safe_is_current(&mbox->file))
            break;
        mbox_close(mbox);
        if (got < 0)
            return -1;
        if (clock_monotonic() - begun >= patience) {
            errno = EAGAIN; /* the fault tells of the lock, or the file was replaced all the time */
            return got == 0 ? -1 : fault_errno(fault, "4.2.0", "unable to lock for exclusive access");
        }
        if (got == 0)
            pause_for(wait);
        wait = wait * 2 < locking->delay ? wait * 2 : locking->delay;
    }
    if ((options & MBOX_LEAVE_MARKED) && (mbox_is_marked(mbox->file.fd) || mbox_rewrite_is_marked(mbox->file.fd))) {
        mbox_close(mbox);
        return fault_set(fault, "4.2.0", "mailbox %s needs a repair", path);
    }
    if (!(options & MBOX_READ_ONLY)) {
        mbox_rewrite_repair(mbox->file.fd);
        (void)mbox_repair(mbox->file.fd);
    }
    return 0;
}

void
mbox_close(struct mbox *mbox)
{
    mbox_unlock(mbox);
    safe_close(&mbox->file);
}

/* ---- append ---- */

/* A file whose last line has no end gets one, so that the next From_ line stands at the start of a line. */
static void
end_last_line(int fd, off_t end, struct buf *out)
{
    char last;

    if (end > 0 && pread(fd, &last, 1, end - 1) == 1 && last != '\n')
        buf_append_byte(out, '\n');
}

static int
write_all(int fd, const char *at, size_t len, struct store_fault *fault)
{
    return file_write_all(fd, at, len) < 0 ? fault_errno(fault, "4.3.0", "error writing message") : 0;
}

static int
too_large(struct store_fault *fault)
{
    errno = EFBIG;
    return fault_errno(fault, "5.2.2", "error writing message");
}

/* Writes the letter behind what is there. The mark gets the whole length before the sync: who finds it later leaves a message
 * that is complete. */
static int
write_letter(const struct mbox *mbox, struct letter_reader *reader, struct buf *piece, off_t end, int64_t limit,
             struct store_fault *fault)
{
    char start[MBOX_MARK_START];
    struct slice first = {start, 0};
    bool done = false;
    off_t written = 0;
    struct mbox_sum sum = {0};

    while (!done) {
        if (letter_read(reader, PIECE, piece, &done, fault) < 0)
            return -1;
        if (limit > 0 && !is_device(mbox) && end + written + (off_t)piece->len > limit)
            return too_large(fault);
        if (first.len == 0) {
            first.len = piece->len < sizeof start ? piece->len : sizeof start;
            memcpy(start, piece->ptr, first.len);
        }
        if (!is_device(mbox)) {
            mbox_sum_add(&sum, buf_slice(piece));
            if (done)
                (void)!mbox_mark_whole(mbox->file.fd, end, written + (off_t)piece->len, mbox_sum_end(&sum), false,
                                       first);
            else if (written == 0)
                mbox_mark(mbox->file.fd, end, 0, first);
        }
        if (write_all(mbox->file.fd, piece->ptr, piece->len, fault) < 0)
            return -1;
        written += (off_t)piece->len;
        buf_clear(piece);
    }
    return 0;
}

/* The name of a new file must last too; a directory that may not be read can't be synced. */
int
mbox_sync_name(const struct mbox *mbox, struct store_fault *fault)
{
    int dir, result = 0;

    if (!mbox->file.created)
        return 0;
    dir = openat(mbox->file.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return 0;
    if (fsync(dir) < 0 && errno != EINVAL)
        result = fault_errno(fault, "4.3.0", "error syncing the directory of %s", mbox->path);
    close(dir);
    return result;
}

static int
make_durable(const struct mbox *mbox, struct store_fault *fault)
{
    if (is_device(mbox))
        return 0;
    if (fdatasync(mbox->file.fd) < 0)
        return fault_errno(fault, "4.3.0", "error writing message");
    return mbox_sync_name(mbox, fault);
}

/* With the mark still there the next who locks it cuts it, should this fail. */
static void
cut_back(const struct mbox *mbox, off_t end)
{
    if (!is_device(mbox))
        mbox_cut_back(mbox->file.fd, end);
}

int
mbox_write(struct mbox *mbox, struct letter *letter, unsigned flags, int64_t limit, off_t *position,
           struct store_fault *fault)
{
    struct letter_reader reader = {0};
    struct buf piece = {0};
    off_t end = is_device(mbox) ? 0 : lseek(mbox->file.fd, 0, SEEK_END);
    int result;

    if (end < 0)
        return fault_errno(fault, "4.2.0", "cannot seek in %s", mbox->path);
    if (!is_device(mbox))
        end_last_line(mbox->file.fd, end, &piece);
    letter_begin(&reader, letter, flags);
    result = write_letter(mbox, &reader, &piece, end, limit, fault);
    letter_end(&reader);
    buf_release(&piece);
    if (result < 0)
        cut_back(mbox, end);
    *position = end;
    return result;
}

int
mbox_settle(struct mbox *mbox, off_t position, bool synced, struct store_fault *fault)
{
    if (!synced && make_durable(mbox, fault) < 0) {
        cut_back(mbox, position);
        return -1;
    }
    if (!is_device(mbox) && mbox_unmark(mbox->file.fd) < 0) {
        fault_errno(fault, "4.3.0", "error finishing message in %s", mbox->path);
        cut_back(mbox, position);
        return -1;
    }
    return 0;
}

int
mbox_append(struct mbox *mbox, struct letter *letter, unsigned flags, int64_t limit, off_t *position,
            struct store_fault *fault)
{
    off_t end = 0;
    int result = mbox_write(mbox, letter, flags, limit, &end, fault);

    if (result == 0)
        result = mbox_settle(mbox, end, false, fault);
    if (position)
        *position = end;
    return result;
}
