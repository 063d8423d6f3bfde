/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/mbox.h: mailboxes of one file: locks, and adding a message.
 *
 * Locks: what mailbox_delivery_lock names, all of them or none: when one can't be had, those that are held are given
 * back and all are tried again after a pause, so two programs that lock in different orders never wait for each other.
 * fcntl and flock are taken on the open file, which is then looked at again (a program that replaced the mailbox meanwhile
 * leaves us with the old one: it is opened anew). The dotlock is NAME.lock, made with O_EXCL, with "pid:host" in it;
 * it is stale when it is older than stale_lock_time or (on a local disk) than the machine's start, or when it is of this host and its
 * process is gone.
 *
 * An append is one write where the message is small, then a sync; what failed is cut off again. For the case that the
 * process or the machine dies in between, the file carries an extended attribute (user.postern.append: offset, length and
 * the first bytes) from before the first byte until after the sync. Who locks the file next and finds it takes away what is
 * there, if it still is our message and not complete; after a power cut also from before another program's. Where there are no
 * such attributes (NFS 3, some tmpfs) a kill or a cut at the wrong moment can leave a part of a message. */
#ifndef LIB_STORE_MBOX_H
#define LIB_STORE_MBOX_H

#include <sys/types.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/store/letter.h"
#include "lib/store/safe_open.h"

enum { MBOX_LOCK_FCNTL = 1, MBOX_LOCK_FLOCK = 2, MBOX_LOCK_DOT = 4 };

struct mbox_locking {
    unsigned kinds; /* MBOX_LOCK_... */
    unsigned attempts;
    usec_t delay, stale;
};

/* "fcntl, dotlock": mailbox_delivery_lock's words. */
int mbox_lock_kinds(const char *text, unsigned *kinds, struct err *) MUST_USE;

struct mbox {
    struct safe_file file;
    const char *path;
    unsigned held; /* MBOX_LOCK_... */
};

enum {
    MBOX_CREATE = 1,
    MBOX_DEVICES = 2,       /* a character device may stand there: nothing is locked or cut */
    MBOX_READ_ONLY = 4,     /* for reading, with shared kernel locks */
    MBOX_READ_WRITE = 8,    /* for programs that rewrite it */
    MBOX_DOTLOCK_TRY = 16,  /* a directory in which no dotlock can be made is no reason to fail */
    MBOX_LEAVE_MARKED = 32, /* fail if it needs a repair first, which may take as long as its owner likes */
};

/* Opens the mailbox safely and locks it; repairs what a crash left of an append. path is kept, not copied. */
int mbox_open(struct mbox *, const char *path, unsigned options, const struct mbox_locking *,
              struct store_fault *) MUST_USE;
void mbox_close(struct mbox *);

/* Adds letters to the open mailbox: durable when 0 is returned, all cut off again on -1 (EFBIG: beyond limit; 0: none).
 * *position (may be NULL) gets where the first begins. A file that lacks its last newline gets one first. flags: LETTER_... */
int mbox_append(struct mbox *, struct letter *, unsigned flags, int64_t limit, off_t *position,
                struct store_fault *) MUST_USE;

/* Its two halves, so that one sync may serve many mailboxes: written (or cut off again), and then made durable, unless
 * the caller has done that. position: what mbox_write() gave. Without the second half the message counts as unfinished. */
int mbox_write(struct mbox *, struct letter *, unsigned flags, int64_t limit, off_t *position,
               struct store_fault *) MUST_USE;
int mbox_settle(struct mbox *, off_t position, bool synced, struct store_fault *) MUST_USE;

int mbox_sync_name(const struct mbox *, struct store_fault *) MUST_USE; /* of a file that mbox_open() created */

#endif
