/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/room.h"

#include "lib/run/loop.h"
#include "lib/run/task.h"

enum {
    PLACES = 64,        /* 256 KiB that are gathered and two buffers of a segment for each, at most */
    ENOUGH = 20 * 1024, /* bytes for so much waiting: */
};

static const usec_t MEASURED = SECONDS(10);
static const usec_t LONGEST = SECONDS(600); /* between two pieces */
static const usec_t LOOK = SECONDS(1);      /* whether somebody else waits */

/* One who was woken still counts as waiting, until it runs: its place is not for who comes meanwhile. */
static struct {
    unsigned taken, waiting;
    struct task_cond left;
} rooms;

int may_wait
room_take(struct room *room, struct err *err)
{
    int result;

    if (rooms.taken + rooms.waiting >= PLACES) {
        rooms.waiting++;
        result = task_wait(&rooms.left, NO_DEADLINE, err);
        rooms.waiting--;
        if (result < 0)
            return -1;
    }
    rooms.taken++;
    *room = (struct room){.is_taken = true};
    return 0;
}

void
room_leave(struct room *room)
{
    if (!room->is_taken)
        return;
    room->is_taken = false;
    rooms.taken--;
    task_wake_one(&rooms.left);
}

void
room_count(struct room *room, size_t bytes)
{
    room->bytes += bytes;
}

static void
measure(struct room *room)
{
    if (room->waited < MEASURED && room->bytes < ENOUGH)
        return;
    room->is_slow = room->bytes < ENOUGH;
    room->bytes = 0;
    room->waited = 0;
}

int may_wait
room_wait(struct room *room, struct stream *stream, struct err *err)
{
    usec_t end = loop_now() + LONGEST;
    struct slice bytes;

    for (;;) {
        usec_t start = loop_now();
        int result;

        measure(room);
        if (room->is_slow && rooms.waiting > 0)
            return err_set(err, ERR_TEMP, "content came too slowly while others waited");
        stream_set_deadline(stream, start + LOOK < end ? start + LOOK : end);
        result = stream_peek(stream, &bytes, err);
        room->waited += loop_now() - start;
        if (result < 0 && err->kind == ERR_TIMEOUT && loop_now() < end) {
            stream_forgive_timeout(stream);
            continue;
        }
        stream_set_deadline(stream, end);
        return result;
    }
}
