/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/queue_file.h: queue files exactly as Postfix writes and reads them (queue_file(5)).
 *
 * All calls block: they run in the thread pool (task_run_blocking), in commands, or at start-up. A file is written
 * under a name with a dot, mode 0600, then fchmod 0700, fsync, mtime, rename, fsync of the directory. */
#ifndef LIB_MAIL_QUEUE_FILE_H
#define LIB_MAIL_QUEUE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/mail/messages.h"

/* A longer sender or recipient is none: such a file is corrupt. */
enum { QUEUE_ADDRESS_LIMIT = 2048 };

/* Reads size record, envelope and extracted segments of an open file; pointers are followed; the content is jumped over.
 * recipients' offsets are those of their R records. content_offset gets where the content begins. queue_id and number
 * are not in a file: "" and 0. The result (texts copied) lives in the arena. -1: ERR_SYNTAX: corrupt, to be moved to
 * corrupt/. ERR_IO: try later. */
int queue_file_read(int fd, struct arena *, struct envelope *, uint64_t *content_offset, struct err *) MUST_USE;

/* Recipients of a file that are still to be read, by those who don't take all of them into memory at once. */
struct queue_file_rest {
    size_t most;       /* to be stored by the next call; at least 1 */
    bool more;         /* there are recipients to do behind those stored */
    size_t total;      /* recipients of the file, whatever their status */
    uint64_t next;     /* where reading goes on */
    bool in_extracted; /* in which segment that is */
};

/* As queue_file_read(), but the envelope gets no more than the first rest->most recipients that are to be done, and none
 * that are done or cancelled. They live in an arena of their own. The whole file is looked at. */
int queue_file_read_some(int fd, struct arena *, struct arena *recipients, struct envelope *, uint64_t *content_offset,
                         struct queue_file_rest *rest, struct err *) MUST_USE;

/* The next of them, rest->most at most; none (count 0) if those behind are done meanwhile. */
int queue_file_read_more(int fd, struct arena *, struct queue_file_rest *, struct envelope_recipient **, size_t *count,
                         struct err *) MUST_USE;

/* Where content comes from when a file is written: calls return bytes in text form (LF line ends, no dot-stuffing).
 * 0 at the end, -1 on error. */
struct queue_file_content {
    ssize_t (*read)(void *ctx, void *bytes, size_t size, struct err *);
    void *ctx;
};

struct queue_file_target {
    int queue_dir_fd; /* of the queue directory */
    const char *path; /* "deferred/4/4F1A2..." (directories are made when missing) */
    int64_t mtime;    /* seconds: the next attempt; 0: now */
    unsigned mode;    /* 0700 */
};

/* Writes a complete file, durable under its name when 0 is returned; on -1 nothing is left behind. An envelope without
 * recipients, sender ("" is one) or arrival time is ERR_PERM, and so is a content without a byte. */
int queue_file_write(const struct queue_file_target *, const struct envelope *, const struct queue_file_content *,
                     struct err *) MUST_USE;

/* Marks a recipient as done in place (R becomes D). ERR_SYNTAX: there is none at that offset. */
int queue_file_mark_done(int fd, int64_t offset, struct err *) MUST_USE;
/* Overwrites the W record: the sender was told of the delay. Nothing to do if there is none. */
int queue_file_mark_warned(int fd, struct err *) MUST_USE;

/* Reading the content as text: LF ends, L records joined; a last line that lacks its newline gets one. Opaque reader over
 * an open file. -1: ERR_SYNTAX: a record that does not belong there. */
struct queue_file_reader;
struct queue_file_reader *queue_file_reader_new(struct arena *, int fd, uint64_t content_offset, struct err *);
ssize_t queue_file_reader_read(struct queue_file_reader *, void *bytes, size_t size, struct err *);
void queue_file_reader_rewind(struct queue_file_reader *);

#endif
