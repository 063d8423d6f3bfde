/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/segment.h: the journal segments that messages in hand lie in: their descriptors, and their done-lists.
 *
 * A segment is known from the moment that a cleanup process passes its descriptor, or that it is taken over because
 * its writer has gone, until nothing of it is needed and its writer says (or its link's end does) that it goes. What
 * is struck from it during a turn is written with one call, and only then are cleanup's announcements answered. It is
 * synced a moment later, without anybody waiting for it. */
#ifndef QMGR_SEGMENT_H
#define QMGR_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/mail/journal.h"
#include "lib/run/link.h"
#include "qmgr/message.h"

struct segment {
    struct list link;
    uint32_t number, generation;
    int fd;      /* for reading the images */
    int done_fd; /* of its done-list, for appending; -1 if it can't be opened */
    struct journal_segment_info info;
    struct link *announcer;      /* the cleanup process that writes it; NULL: it has gone */
    int lock_fd;                 /* -1, or: taken over, we hold the lock, and remove it in the end */
    unsigned messages;           /* in hand with their image here */
    struct journal_done *struck; /* what the done-list strikes, sorted, as of when we got to know the segment */
    size_t struck_count;
    struct journal_done *pending; /* to be appended to the done-list at the end of this turn */
    size_t pending_count, pending_size;
    bool unsynced; /* the done-list has records that may not be on the disk */
};

/* Told when a segment is forgotten: whoever passed its descriptor on tells the other side. */
void segment_on_forget(void (*fn)(const struct segment *));

/* Gets to know a segment, or that it is announced again by another link, or (announcer NULL) that we have taken it over
 * and hold its lock by that descriptor. Takes over the descriptor. NULL: it is no segment. Reads its done-list. */
struct segment *segment_add(int dir_fd, int fd, struct link *announcer, struct err *);
struct segment *segment_find(uint32_t number, uint32_t generation);

/* Was the message at that offset done before we got to know the segment? */
bool segment_is_struck(const struct segment *, uint64_t offset);

/* Marks the recipients that were done before. */
void segment_apply_struck(const struct segment *, uint64_t offset, struct envelope *);

/* The message lies in it now. */
void segment_attach(struct segment *, struct message *);

/* A recipient of the message is done. */
void segment_strike_recipient(struct message *, size_t recipient);

/* The image is no longer needed: strikes it, and answers the announcement once that is written. message->segment is
 * NULL afterwards. */
void segment_strike(struct message *);

/* Writes what was struck in this turn, then answers. */
void segment_flush(void);

/* Writes it too, and has it on the disk as soon as that can be: after a notice to the sender, which nobody wants twice. */
void segment_sync_now(void);

/* The writer will not name it again. */
void segment_gone(uint32_t number, uint32_t generation);

/* A link of a cleanup process ended: its segments have no writer now, for all we know. */
void segment_announcer_gone(struct link *);

/* Forgets those that nobody needs. dir_fd: of journal/; those owned are removed there. */
void segment_sweep_unused(int dir_fd);

/* Those without a writer that are not ours: visits each. */
void segment_each_orphan(void (*fn)(void *ctx, const struct segment *), void *ctx);

/* Is a segment of that number known, whatever its generation, that has a writer we know of, or that is ours? */
bool segment_is_attended(uint32_t number);

#endif
