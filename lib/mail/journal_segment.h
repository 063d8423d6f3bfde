/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/journal_segment.h: the files of a journal; used by the journal's own sources and their tests only.
 *
 * A segment comes to be under NNNNNNNN.new, locked, and gets its name when it is complete and synced: so whoever finds a
 * name that nobody locks has found what a crash left. Who holds NNNNNNNN.new alone may make NNNNNNNN: numbers are not
 * taken twice. All functions here block: they run in the thread pool or at start-up. */
#ifndef LIB_MAIL_JOURNAL_SEGMENT_H
#define LIB_MAIL_JOURNAL_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/base/siphash.h"

enum { JOURNAL_NAME_SIZE = 16 }; /* "0000004F.done" and its NUL */

/* What a segment's header block holds beside the magic and its sum. */
struct journal_segment_info;

struct journal_segment {
    struct list link;
    uint32_t number, generation;
    struct siphash_key key;
    uint64_t size;        /* of the file */
    uint64_t used;        /* where the next image goes */
    unsigned outstanding; /* images in it that were not released */
    int fd;               /* locked */
    int read_fd;          /* read only, for passing on */
    bool sealed;          /* takes no more images */
    bool retired;         /* a sync failed: never written or synced again */
    bool single;          /* made for one large image: removed, not recycled */
    bool named;           /* has lost its ".new" */
};

/* The system calls that may fail: tests put others in their place. */
struct journal_io {
    ssize_t (*pwritev)(int fd, const struct iovec *, int count, off_t offset);
    int (*fdatasync)(int fd);
};
extern struct journal_io journal_io;

/* Makes the file NNNNNNNN.new, with a number after `hint`, locked; with size > 0 filled with zeros up to it; header
 * written; not synced, not yet named. */
int journal_segment_create(int dir_fd, uint32_t hint, uint64_t size, struct journal_segment *, struct err *) MUST_USE;

/* Syncs it and gives it its name, durably. */
int journal_segment_name(int dir_fd, struct journal_segment *, struct err *) MUST_USE;

/* A new generation and key, durable; then the done-list is emptied. */
int journal_segment_renew(int dir_fd, struct journal_segment *, struct err *) MUST_USE;

/* Removes its files and closes the descriptors; errors don't matter. */
void journal_segment_remove(int dir_fd, struct journal_segment *);

/* Only closes: the files stay for whoever takes them over. */
void journal_segment_close(struct journal_segment *);

/* Removes *.new files that nobody holds. */
void journal_segment_sweep(int dir_fd);

/* Writes all, however many there are; the iovs are used up. */
int journal_segment_write(int fd, struct iovec *, unsigned count, uint64_t offset, struct err *) MUST_USE;

#endif
