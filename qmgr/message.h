/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/message.h: a message that qmgr has in hand: one that is being delivered, or about to be.
 *
 * It lies in the journal (segment is set), in a queue file in active/ (in_file), or, while a slow delivery still reads
 * the image, in both. It exists from the moment that it is taken up until it is removed, deferred to disk or handed
 * back to disk at a stop; `open` work (deliveries, a routing question, a job in the pool, a notice) keeps it alive:
 * message_is_idle() tells that there is none.
 *
 * A message in a file is read in passes if it has more recipients than may be in memory: the envelope holds those of this
 * pass only, the numbers of recipients count from its start. When all of them are done, deferred or failed, the reasons of
 * the deferred are put into the log in defer/, and the next pass takes their place; those of whom the sender is still
 * to be told go along (message_next_pass()). */
#ifndef QMGR_MESSAGE_H
#define QMGR_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/slice.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_file.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "qmgr/sched.h"

struct segment;
struct routing;

/* envelope.trace_flags: only ask (sendmail -bv); report the first attempt (-v) */
enum { TRACE_VERIFY = 256 | 512, TRACE_VERBOSE = 1024 };

enum recipient_state {
    RECIPIENT_TODO,
    RECIPIENT_DONE,     /* delivered, or its sender was told */
    RECIPIENT_DEFERRED, /* in this pass; result says why */
    RECIPIENT_FAILED,   /* the sender is still to be told */
};

struct recipient {
    enum recipient_state state;
    const char *address;                      /* as it is delivered to: after routing */
    const struct delivered_recipient *result; /* of the last attempt; NULL: none */
    bool tell_success;                        /* NOTIFY=SUCCESS, and nobody behind us will tell */
    bool noted;                               /* that it is done stands in the file, or in one that is being written */
};

struct message {
    unsigned magic;
    struct sched_message sched;
    struct arena *arena;
    const char *id;
    struct envelope *envelope;    /* recipients[i].offset: in the queue file */
    struct recipient *recipients; /* envelope->recipient_count */

    struct slice hint;      /* for those who read it (source.h); empty: they may look for themselves */
    int64_t content_offset; /* in the file; 0: not known */

    struct arena *pass_arena;    /* for recipients and what is made for them; the message's own, if it has one pass */
    struct queue_file_rest rest; /* the recipients of later passes */
    bool in_passes;              /* there are, or were, several */
    bool left_deferred;          /* recipients of earlier passes are deferred, and logged */
    bool told_of_delay;          /* the sender was, of recipients of some pass */
    bool pass_told_of_delay;     /* of those of this pass */

    /* The image. */
    struct segment *segment; /* NULL: none, or no longer needed */
    uint64_t offset, length;
    struct link_request *announcement; /* to be answered when the image is no longer needed; NULL: taken over */
    unsigned image_readers;            /* requests given out that name the image */
    usec_t image_given;                /* when the last one was */
    struct list by_age;                /* of those in the journal; see filing.h */

    struct routing *route; /* while routing */

    bool in_file;       /* in active/ */
    int lock_fd;        /* its file, locked, for a successor to leave it to us (active.h); -1: not */
    bool force_expire;  /* postsuper -e */
    bool routing;       /* rewrite was asked */
    bool filing;        /* a job in the pool works on its file */
    bool telling;       /* bounce was asked */
    bool notice_failed; /* bounce could not, in this pass: keep what failed as deferred */
    bool expired;       /* what is deferred is to be returned */
    bool removed;       /* all done, or the file has gone: only what is outstanding keeps it */
    bool no_room;       /* in memory, for it or all its recipients: goes to incoming/, to be taken up when there is */
    bool going_out;     /* leaves memory as soon as it is idle: the system stops */
    struct loop_timer again; /* when what could not be done is tried again */
    usec_t taken_up;         /* loop_now() */
    usec_t taken_up_wall;
};

/* A message without recipients or place; id and envelope are set later. Its arena is its own. */
struct message *message_new(void);

/* Makes its recipients from its envelope and lets it be found by its id. False if one of that id is there already. */
bool message_register(struct message *);

/* Idle and without an image. Its lock ends. */
void message_free(struct message **);

struct message *message_find(const char *id);
unsigned message_count(void);

/* Recipients in memory, of all registered messages. */
size_t message_recipients(void);

/* Puts recipients (in that arena, which the message takes over) in place of those of this pass, and takes along those of
 * whom the sender is to be told. The message is idle, and nobody is to be done. */
void message_next_pass(struct message *, struct arena *, const struct envelope_recipient *, size_t count);

/* A copy in that arena. */
const struct delivered_recipient *message_copy_result(struct arena *, const struct delivered_recipient *);

/* Goes through all: start with *position 0; false at the end. The visited one may be freed. */
bool message_next(size_t *position, struct message **);

/* Is there nothing outstanding for it? */
bool message_is_idle(const struct message *);

/* When it arrived, wall clock. */
usec_t message_arrival(const struct message *);

/* Recipients in that state. */
unsigned message_count_recipients(const struct message *, enum recipient_state);

#endif
