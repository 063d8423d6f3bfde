/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/journal.h: the journal: segments that cleanup processes write and qmgr reads.
 *
 * In the directory journal/ of the queue:
 *   ids          the next number for queue ids; changed under a lock, synced before a number below it is used
 *   NNNNNNNN     a segment (its number in hexadecimal): a header block (4096 bytes: magic, version, number, generation,
 *                key, sum), then images at offsets that are multiples of IMAGE_ALIGN, one behind the other; what follows
 *                the last complete image is rubbish. Written by the one process that holds the exclusive flock on it.
 *                Preallocated (written with zeros and synced) so that an append needs no change of the file system's
 *                own records. NNNNNNNN.new is a segment in the making
 *   NNNNNNNN.done  the done-list: 16-byte records {u64 offset << 20 | recipient + 1 (0: the whole message),
 *                u64 siphash(key of the segment's generation, the first 8 bytes)}, appended by qmgr, synced a moment later:
 *                a power cut may lose some, and repeats those deliveries
 *
 * Who holds the lock owns the segment. A segment without an owner was left by a crash: qmgr takes it over (flock), reads
 * the images that the done-list does not strike, and removes it when nothing is left in it.
 *
 * A failed fdatasync fails every image that it covered; the segment is retired at once: never written or synced again;
 * images synced earlier in it stay good. Those that failed are struck in the done-list, so that as a rule they are not
 * delivered after a crash by qmgr and again by the client. */
#ifndef LIB_MAIL_JOURNAL_H
#define LIB_MAIL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/siphash.h"
#include "lib/base/slice.h"
#include "lib/mail/image.h"

enum { JOURNAL_HEADER_SIZE = 4096 };

struct journal_place {
    uint32_t segment;
    uint32_t generation;
    uint64_t offset;
    uint64_t length;
};

/* ---- Writing: one journal in each cleanup process. All that blocks runs in the thread pool. ---- */
struct journal;

struct journal_settings {
    const char *directory; /* "journal", relative to the queue directory, or absolute; kept */
    uint64_t segment_size;
    unsigned segment_limit; /* how many may be in use by this process; then appends wait */

    /* Called in the loop when nothing in that segment is needed any more and its place names become invalid; may be
     * NULL. segment_fd's descriptor is still good. */
    void (*gone)(void *ctx, uint32_t segment, uint32_t generation);
    void *ctx;
};

/* Opens or makes the directory. The first segment is made at the first append, or by journal_prepare(). */
struct journal *journal_new(const struct journal_settings *, struct err *);

/* Closes all; segments with images are left for qmgr to take over, others are removed. No append may be under way. */
void may_wait journal_free(struct journal **);

/* Makes a segment ready before it is needed. */
int may_wait journal_prepare(struct journal *, struct err *) MUST_USE;

/* Appends an image and returns after the fdatasync that covers it: group commit, all appends that come while a sync
 * runs share the next (the pool's thread writes them with one pwritev and syncs). The encoded envelope, then the
 * content parts; the final dot line is added. -1: it is not durable and will not be delivered from the journal (ERR_IO:
 * say 451; ENOSPC in err.code: 452). The parts must stay until it returns, also when cancelled. An image that does not
 * fit a segment gets one of its own size. */
int may_wait journal_append(struct journal *, struct slice envelope, const struct iovec *content, unsigned count,
                            struct journal_place *, struct err *) MUST_USE;

/* Bytes of images that wait for a commit or are in one. */
size_t journal_waiting(const struct journal *);

/* For contents that don't fit in memory: a segment of its own, written in pieces. The envelope has to be known at the
 * end only; envelope_max bytes are set apart for it. expected_size: of the content; 0: not known. */
struct journal_large;
struct journal_large *may_wait journal_large_new(struct journal *, uint64_t expected_size, size_t envelope_max,
                                                 struct err *);
int may_wait journal_large_write(struct journal_large *, struct slice bytes, struct err *) MUST_USE;
/* Both free it. commit adds the final dot line; as journal_append() otherwise. */
int may_wait journal_large_commit(struct journal_large **, struct slice envelope, struct journal_place *,
                                  struct err *) MUST_USE;
void may_wait journal_large_abort(struct journal_large **); /* NULL is fine */

/* The image is no longer needed (released by qmgr): a sealed segment with none left is recycled. Once for each. */
void journal_release(struct journal *, const struct journal_place *);

/* A read-only descriptor of the segment, borrowed, for passing on; -1 if it is not ours. */
int journal_segment_fd(const struct journal *, uint32_t segment, uint32_t generation);

/* Go on in another segment, so that this one becomes free when its images are released. */
void journal_seal(struct journal *);

/* Images not yet released. */
unsigned journal_outstanding(const struct journal *);

/* At a clean stop, with nothing outstanding: removes our segments. */
int may_wait journal_remove_all(struct journal *, struct err *) MUST_USE;

/* For tests and for people who tune: images appended, and the syncs that made them durable. */
struct journal_counts {
    uint64_t appends, syncs, segments_made, segments_recycled;
};
struct journal_counts journal_counts(const struct journal *);

/* Numbers for queue ids: `count` of them from *first on, which nobody else gets, durably so before it returns. They
 * begin at a random place in a new queue. */
int may_wait journal_take_ids(const char *directory, uint64_t count, uint64_t *first, struct err *) MUST_USE;

/* ---- Reading: by qmgr. These block: for the thread pool or for start-up. ---- */
struct journal_segment_info {
    uint32_t segment, generation;
    struct siphash_key key;
    uint64_t size;
};

/* Checks the header of an open segment. */
int journal_segment_read(int fd, struct journal_segment_info *, struct err *) MUST_USE;

/* Removes what ends of processes left of segments in the making: NNNNNNNN.new that nobody holds. Does no harm while
 * others write. done_lists: and done-lists whose segment has gone; for when nobody makes segments: a number may come
 * again. dir_fd: of the directory. */
void journal_sweep(int dir_fd, bool done_lists);

/* Calls found() for each complete image in the order of their places; -1 from it ends the scan. envelope: as encoded,
 * NULs may follow. damaged (may be NULL) is told of each place where an image of this generation begins that is not
 * complete (a write that a crash tore); it is skipped, complete ones behind it are found. Memory is bounded by the
 * largest envelope. -1: the file can't be read, or found() said so. */
int journal_scan(int fd, const struct journal_segment_info *,
                 int (*found)(void *ctx, const struct journal_place *, struct slice envelope),
                 void (*damaged)(void *ctx, uint64_t offset), void *ctx, struct err *) MUST_USE;

/* The done-list of a segment. */
enum { JOURNAL_DONE_SIZE = 16 };
#define JOURNAL_DONE_ALL UINT32_MAX
struct journal_done {
    uint64_t offset;
    uint32_t recipient; /* its index in the envelope, below 1048575; JOURNAL_DONE_ALL: the whole message */
};
/* Appends the records (one write). The descriptor was opened with O_APPEND. */
int journal_done_append(int done_fd, const struct journal_segment_info *, const struct journal_done *, size_t count,
                        struct err *) MUST_USE;
/* Reads all valid ones; those of other generations and torn ones are passed over. */
int journal_done_read(int done_fd, const struct journal_segment_info *, struct arena *, struct journal_done **,
                      size_t *count, struct err *) MUST_USE;

#endif
