/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/mbox_rewrite.h: changes inside an mbox that a kill, a power cut or a full disk can't turn into lost mail.
 *
 * The file keeps its inode, and nothing is needed but the file itself (in /var/mail a user can't make another). The new form
 * of all that follows the first change is written behind the old end; then it is copied to its place, and the end is cut
 * off. In an extended attribute (user.postern.rewrite) stands what is under way, so that the next of our programs which locks the
 * file takes a rewrite back that was not complete, and ends one that was; a message that another program added meanwhile stays. Where
 * there are no such attributes a kill at the wrong moment leaves messages twice, never none. Syncs keep that order on the disk.
 *
 * What a power cut leaves (tests/unit/test_mbox_cuts.c makes the states): changes of length and of attributes in their order, but of each
 * block any content that it had since the last sync. ftruncate() too writes into a block: it fills the last one with zeros, and these may
 * be on the disk without the new length. So nothing that a repair needs stands in that block, and where mail ends with it, a mark is
 * synced before the cut.
 *
 * The price is that a rewrite needs as much free space as there is mail behind the change, for a moment; without it nothing is
 * changed. All calls need the write lock and a descriptor for reading and writing. */
#ifndef LIB_STORE_MBOX_REWRITE_H
#define LIB_STORE_MBOX_REWRITE_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

struct mbox_rewrite {
    int fd;
    off_t from, old_end; /* [from, old_end) gets a new form */
    off_t at, size;      /* which is written here first */
    off_t written;
    char *piece;
    size_t filled;
};

/* size: of the new form, exactly. On -1 the file is as it was. */
int mbox_rewrite_begin(struct mbox_rewrite *, int fd, off_t from, off_t size, struct err *) MUST_USE;
int mbox_rewrite_put(struct mbox_rewrite *, struct slice, struct err *) MUST_USE;
int mbox_rewrite_copy(struct mbox_rewrite *, off_t from, off_t size, struct err *) MUST_USE;
int mbox_rewrite_commit(struct mbox_rewrite *, struct err *) MUST_USE;
void mbox_rewrite_abort(struct mbox_rewrite *); /* after a failed put or copy */

/* Changes some bytes at their place: whole, or not at all. old and new: of one length. *is_too_long: nothing was changed, it takes a
 * rewrite. */
int mbox_patch(int fd, off_t at, struct slice old, struct slice new, bool *is_too_long, struct err *err) MUST_USE;

/* Takes out [from, end), which is no mail; behind it is some. It needs no space. A failure leaves what the next one who locks the file
 * will end. */
int mbox_take_out(int fd, off_t from, off_t end, struct err *) MUST_USE;

/* Whoever has got the write lock calls this first. */
void mbox_rewrite_repair(int fd);

/* Is there something for it to do? */
bool mbox_rewrite_is_marked(int fd);

#endif
