/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/active.h: the life of a message in hand:
 *
 *   active_take_up()   logged, routed (routing.h), given to the scheduler
 *   delivery.h         requests and their results, for each recipient
 *   active_progress()  when nothing is outstanding: senders are told (notice.h), and then the message is removed,
 *                      or its next pass is read (message.h), or it is deferred to a queue file, or, when the system stops, handed back to disk
 *
 * A message that is in the journal for longer than journal_file_delay gets a file in active/ meanwhile, and its image is
 * given back.
 *
 * The end of a process of ours has two forms. At a stop all goes back to disk. After a reload a successor is to have what is
 * not begun, and we finish what is: so all that waits goes back to disk, and what is being delivered (or of which a sender
 * is being told) gets a file in active/ that we hold locked. Only then may the successor start. Its look through
 * active/ (scan.h) leaves what is locked alone; a lock that ends with us, however that comes, gives it the message. Nothing is begun here
 * any more: what is left of a message when its deliveries have ended goes to incoming/ and the successor is poked. */
#ifndef QMGR_ACTIVE_H
#define QMGR_ACTIVE_H

#include <stdbool.h>

#include "lib/conf/settings_qmgr.h"
#include "qmgr/message.h"

void active_init(const struct qmgr_settings *);
const struct qmgr_settings *active_settings(void);
struct sched *active_scheduler(void);

/* Starts the task that does what is left at the end of a turn, and the timers. */
void active_start(void);

/* A registered message that has its place. It may be gone when this returns. */
void active_take_up(struct message *);

/* Something that was outstanding has come to its end. The message may be gone when this returns. */
void active_progress(struct message *);

/* There are results or entries: the scheduler runs, and done-lists are written, before this turn ends. */
void active_want_turn(void);

/* Hands all back to disk, at a stop: deliveries under way get some time to end (patience), then what they are for is
 * written to files as not done. Waits until that is done, or the deadline. false: something is left in the journal. */
bool may_wait active_leave_all(usec_t patience, usec_t deadline);
bool active_is_stopping(void); /* or handing over */

/* Hands over to a successor as described above: returns when it may start. false: that could not be done until the deadline,
 * or the system stops: active_leave_all() is to follow. */
bool may_wait active_hand_over(usec_t deadline);

/* After that: waits until nothing is in hand any more. false: the system stops. */
bool may_wait active_finish(void);

/* Before a stop: begins nothing any more, and waits until what is under way has ended and senders are told, or the deadline. */
void may_wait active_quiet(usec_t deadline);

/* The system stops now. */
void active_hurry(void);

/* Makes a file of a message in the journal (of all: id NULL), and waits for it. */
void may_wait active_file(const char *id, usec_t deadline);

/* How many recipients more may be in memory; *minimum gets how many a message may have in any case, at least 1. */
size_t active_recipient_room(size_t *minimum);

/* How many messages more may be in memory; 0 when the system stops. */
unsigned active_room(void);

#endif
