/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/source.h: a message to be delivered, wherever it lies: an image in a segment, or a queue file. Delivery reads
 * either through this one interface. Reads of files go straight (page cache); they may block for the disk, not for peers. */
#ifndef LIB_MAIL_SOURCE_H
#define LIB_MAIL_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/mail/journal.h"
#include "lib/mail/messages.h"

struct source;

/* The descriptor stays the caller's and must outlive the source. segment: what journal_segment_read() gave for it when
 * the place was made known: if it was recycled since, or what lies there is not whole, NULL (ERR_SYNTAX): nobody gets
 * another message's bytes. Of an image that is read in pieces the content's sum is known at its end: the piece that
 * holds the end of data is not given if it is wrong. Small images are read whole with one call. The source lives in the
 * arena. */
struct source *source_open_image(struct arena *, int segment_fd, const struct journal_segment_info *segment,
                                 uint64_t offset, uint64_t length, struct err *);
struct source *source_open_file(struct arena *, int fd, struct err *);

/* What whoever asks for a delivery tells of a message with very many recipients, so that not each of a thousand requests reads them
 * all: the envelope, encoded, without recipients, and where the content begins (of a file; in an image that is known). */
struct source_hint {
    struct slice envelope; /* empty: nothing is told */
    uint64_t content_offset;
};
struct source *source_open_image_told(struct arena *, int segment_fd, const struct journal_segment_info *segment,
                                      uint64_t offset, uint64_t length, const struct source_hint *, struct err *);
struct source *source_open_file_told(struct arena *, int fd, const struct source_hint *, struct err *);

/* Lives as long as the source. */
const struct envelope *source_envelope(struct source *);

/* Content in wire form: CRLF, dot-stuffed, the final ".\r\n" included; in pieces as they come cheapest: *bytes stays valid until
 * the next call. 1: a piece; 0: the end; -1: error. */
int source_next_wire(struct source *, struct slice *bytes, struct err *) MUST_USE;

/* Content as text: LF ends, dot-stuffing undone; up to size bytes; 0 at the end. Not to be mixed with source_next_wire()
 * without a source_rewind() between. */
ssize_t source_read_text(struct source *, void *bytes, size_t size, struct err *) MUST_USE;

/* Back to the start of the content. */
void source_rewind(struct source *);

/* The whole content in one piece in wire form, with the final dot line, if it is an image of at most `max` bytes that was
 * read whole, else an empty slice: the fast path of relaying. */
struct slice source_whole_wire(struct source *, size_t max);

/* For queue_file_write(): ctx is the source. */
ssize_t source_read_content(void *ctx, void *bytes, size_t size, struct err *);

#endif
