/* SPDX-License-Identifier: Apache-2.0 */
/* imap/park.h: a session that waits for its client becomes a short state, from which another process of the user goes on
 * (lib/service/user_process.h).
 *
 * The state is what the client knows: the mailbox with its UIDVALIDITY, the UIDs behind its sequence numbers as ranges, a sum of the flags
 * for each of PARK_BLOCKS parts of them, and what it has enabled. UIDs only grow and vanish, so the ranges are few. When a sum differs later,
 * flags of that part are told again; where a part has one message, of that message alone.
 *
 * New messages are told to a parked client by the starter: "* 5 EXISTS" names no UID, and what the folder then has beyond the last UID
 * fills these numbers in order. What had gone by then is expunged. Clients who are told UIDs of what is expunged are not told so.
 *
 * A session has things that no state holds: who adds some to struct session adds them here, or to session_is_parkable(). */
#ifndef IMAP_PARK_H
#define IMAP_PARK_H

#include "imap/session.h"
#include "lib/service/user_process.h"

enum { PARK_BLOCKS = 128 };

/* The session, which is in IDLE or waits for a command, is parked: nothing more may be said in it (parked is set). False: it can't be
 * now. */
bool may_wait session_park(struct session *, bool idling, usec_t due);

/* Puts the state into a new session: selects, and has the view tell at its next update what changed. -1: it can't be: the
 * mailbox is gone or another. */
struct park_resumed {
    bool idling;
    usec_t due; /* loop_now() time */
};
int session_unpark(struct session *, struct slice state, struct user_told, struct park_resumed *,
                   struct err *) MUST_USE;

/* For struct user_program. */
size_t park_news(uint32_t messages, uint32_t recent, char text[USER_NEWS_LIMIT]);

/* ---- for tests ---- */

/* The part of the state that is about the view, and back, when the folder is as of now. */
void park_encode_view(const struct view *, const struct folder *, struct buf *out);
int park_decode_view(struct view *, const struct folder *, struct slice *bytes, struct err *) MUST_USE;

#endif
