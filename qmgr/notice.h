/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/notice.h: has bounce(8) tell the sender what became of recipients. */
#ifndef QMGR_NOTICE_H
#define QMGR_NOTICE_H

#include "qmgr/message.h"

enum { RECIPIENTS_IN_A_NOTICE = 1000 }; /* for more, several are sent */

/* kind: BOUNCE_FAILED: of those that failed; when the notice is durably in the queue (or none is due), they are done.
 * BOUNCE_DELAYED: of those that are deferred, once for the message. BOUNCE_SUCCESS: of those with tell_success. The
 * message is `telling` until then; active_progress() is called with the outcome. */
void notice_send(struct message *, int kind);

#endif
