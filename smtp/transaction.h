/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/transaction.h: one message to the recipients that are left, over a session: MAIL, RCPT, DATA, content. */
#ifndef SMTP_TRANSACTION_H
#define SMTP_TRANSACTION_H

#include <stdbool.h>

#include "lib/mail/agent.h"
#include "smtp/session.h"

/* What became of a recipient of the request so far. */
enum rcpt_state {
    RCPT_LEFT,     /* to be tried */
    RCPT_ACCEPTED, /* in the transaction under way */
    RCPT_LATER,    /* refused for now by this host; another may take it */
};

struct progress {
    struct delivery *delivery;
    unsigned char *states; /* enum rcpt_state, of those that are not done */
    bool is_last;          /* no other host is left: what is refused for now is deferred */
    struct failure later;  /* the last refusal that made a recipient RCPT_LATER */
    bool has_later;
};

/* Recipients get their results as far as the server has spoken about them. -1: *failure is what became of all that are still
 * RCPT_LEFT. The session can be used again unless it is marked. */
int may_wait transaction_run(struct session *, struct progress *, struct failure *) MUST_USE;

/* Gives recipient i the result that failure means (permanent: bounced). */
void progress_fail(struct progress *, unsigned i, const struct session *, const struct failure *);

#endif
