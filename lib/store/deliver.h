/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/deliver.h: puts a letter into a mailbox by its path, as local(8) and virtual(8) do: a path that ends in '/' is
 * a Maildir, every other one an mbox. Runs as the mailbox's owner. */
#ifndef LIB_STORE_DELIVER_H
#define LIB_STORE_DELIVER_H

#include "lib/store/letter.h"
#include "lib/store/maildir.h"
#include "lib/store/mbox.h"

struct store_target {
    const char *path;
    struct mbox_locking locking;
    int64_t limit;         /* mailbox_size_limit, virtual_mailbox_limit; 0: none */
    unsigned maildir;      /* MAILDIR_... */
    bool devices;          /* /dev/null and the like will do: "/file" destinations */
    bool strict_owner;     /* defer if the mbox is another user's */
    bool leave_marked;     /* fail if an mbox needs a repair first */
    bool dotlock_may_fail; /* where no dotlock can be made, go on without */
};

/* *position: where in an mbox the letter begins (for biff); -1 for a Maildir. */
int store_deliver(const struct store_target *, struct letter *, off_t *position, struct store_fault *) MUST_USE;

/* The same in steps, so that one sync may serve many mailboxes: written; in its place (Maildir); durable. synced: the caller
 * has synced the file system after the step before. store_end() in any case, also after -1: what is not in its place yet is
 * taken back. */
struct store_letter {
    bool is_maildir, written;
    off_t position;
    struct mbox mbox;
    struct maildir_letter maildir;
};
int store_begin(struct store_letter *, const struct store_target *, struct letter *, struct store_fault *) MUST_USE;
int store_publish(struct store_letter *, bool synced, struct store_fault *) MUST_USE;
int store_settle(struct store_letter *, bool synced, struct store_fault *) MUST_USE;
void store_end(struct store_letter *);

/* Of what is being written. */
int store_descriptor(const struct store_letter *);

#endif
