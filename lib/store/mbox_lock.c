/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/store/lock_file.h"

enum { NAME_LIMIT = 300 };

int
mbox_lock_kinds(const char *text, unsigned *kinds, struct err *err)
{
    struct slice rest = slice_from(text), word;

    *kinds = 0;
    while (slice_word(&rest, ", \t\r\n", &word)) {
        if (slice_equal_text(word, "fcntl"))
            *kinds |= MBOX_LOCK_FCNTL;
        else if (slice_equal_text(word, "flock"))
            *kinds |= MBOX_LOCK_FLOCK;
        else if (slice_equal_text(word, "dotlock"))
            *kinds |= MBOX_LOCK_DOT;
        else
            return err_set(err, ERR_SYNTAX, "unknown way to lock a mailbox: %.*s", SLICE_ARG(word));
    }
    return 0;
}

/* ---- kernel locks: 1 held, 0 somebody else's, -1 ---- */

/* Locks of the open file where the system has them: they don't go when another descriptor of the file is closed. */
static int
lock_fcntl(int fd, bool shared)
{
    struct flock all = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &all) == 0 || (errno == EINVAL && fcntl(fd, F_SETLK, &all) == 0))
        return 1;
    return errno == EACCES || errno == EAGAIN ? 0 : -1;
}

static int
lock_flock(int fd, bool shared)
{
    if (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
        return 1;
    return errno == EWOULDBLOCK ? 0 : -1;
}

/* ---- dotlock ---- */

static int
dotlock_name(const struct mbox *mbox, char *name, struct store_fault *fault)
{
    if (snprintf(name, NAME_LIMIT, "%s.lock", mbox->file.name) >= NAME_LIMIT)
        return fault_set(fault, "5.2.0", "unable to create lock file %s.lock: File name too long", mbox->path);
    return 0;
}

static int
lock_dot(const struct mbox *mbox, bool may_fail, usec_t stale, struct store_fault *fault)
{
    char name[NAME_LIMIT];

    if (dotlock_name(mbox, name, fault) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (lock_file_make(mbox->file.dir, name, 0444) == 0)
            return 1;
        if (errno != EEXIST)
            break;
        lock_file_break_stale(mbox->file.dir, name, stale);
        errno = EEXIST;
    }
    if (errno == EEXIST) {
        fault_errno(fault, "4.2.0", "unable to create lock file %s.lock", mbox->path);
        return 0;
    }
    return may_fail ? 2 : fault_errno(fault, "4.2.0", "unable to create lock file %s.lock", mbox->path);
}

int
mbox_lock_try(struct mbox *mbox, unsigned kinds, bool shared, bool dotlock_may_fail, usec_t stale,
              struct store_fault *fault)
{
    static const unsigned order[] = {MBOX_LOCK_FCNTL, MBOX_LOCK_FLOCK, MBOX_LOCK_DOT};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        int got;

        if (!(kinds & order[i]))
            continue;
        switch (order[i]) {
        case MBOX_LOCK_FCNTL: got = lock_fcntl(mbox->file.fd, shared); break;
        case MBOX_LOCK_FLOCK: got = lock_flock(mbox->file.fd, shared); break;
        default: got = lock_dot(mbox, dotlock_may_fail, stale, fault); break;
        }
        if (got <= 0 && order[i] != MBOX_LOCK_DOT)
            fault_errno(fault, "4.2.0", "unable to lock for exclusive access");
        if (got == 1)
            mbox->held |= order[i];
        if (got <= 0) {
            mbox_unlock(mbox);
            return got;
        }
    }
    return 1;
}

void
mbox_unlock(struct mbox *mbox)
{
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    struct store_fault ignored;
    char name[NAME_LIMIT];

    if ((mbox->held & MBOX_LOCK_DOT) && dotlock_name(mbox, name, &ignored) == 0)
        (void)unlinkat(mbox->file.dir, name, 0);
    if (mbox->held & MBOX_LOCK_FLOCK)
        (void)flock(mbox->file.fd, LOCK_UN);
    if ((mbox->held & MBOX_LOCK_FCNTL) && fcntl(mbox->file.fd, F_OFD_SETLK, &all) < 0)
        (void)fcntl(mbox->file.fd, F_SETLK, &all);
    mbox->held = 0;
}
