/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/room.h: places for contents that come through descriptors. Each costs memory for as long as it comes, so there are only so many, and who
 * comes when all are taken waits, in the order of coming. Senders can be slow, or mean to be: while somebody waits, a content that comes
 * at less than 2 KiB a second (that did not bring 20 KiB in the last ten seconds in which we waited for it) loses its place. */
#ifndef CLEANUP_ROOM_H
#define CLEANUP_ROOM_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/clock.h"
#include "lib/base/compiler.h"
#include "lib/base/err.h"
#include "lib/run/stream.h"

struct room {
    bool is_taken;
    bool is_slow;  /* was, when last measured */
    size_t bytes;  /* that came since then */
    usec_t waited; /* for them */
};

/* Waits for a place and takes it. -1: ERR_CANCELLED. */
int may_wait room_take(struct room *, struct err *) MUST_USE;

/* Nothing if it has none. */
void room_leave(struct room *);

/* Waits until the stream has something to read, ten minutes at most, which are also the deadline of what is then read.
 * -1: what the stream says; ERR_TEMP: the place is lost. */
int may_wait room_wait(struct room *, struct stream *, struct err *) MUST_USE;

/* So many bytes were read. */
void room_count(struct room *, size_t bytes);

#endif
