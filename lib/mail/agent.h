/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/agent.h: what every delivery agent (smtp, error, later local, virtual, pipe) shares: it takes requests from
 * qmgr's link, opens the message, logs a line for each recipient, and answers. */
#ifndef LIB_MAIL_AGENT_H
#define LIB_MAIL_AGENT_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/mail/messages.h"
#include "lib/mail/source.h"
#include "lib/run/net.h"
#include "lib/table/maps.h"

/* A delivery under way. Lives in arena, which is the request's. */
struct delivery {
    struct arena *arena;
    const struct msg_deliver *request;
    struct source *source;
    struct msg_delivered answer; /* filled through delivery_result() and delivery_hop() */
    bool *is_done;               /* for each recipient of the request */
    usec_t started;              /* wall clock */
    usec_t connected;            /* when the connection stood (or was taken from the cache); 0: not */
    int fd;                      /* of the segment or the queue file: for delivery_pass() */
};

/* deliver() runs as a task for each request; recipients without a result when it returns are deferred. */
struct agent {
    void (*deliver)(struct delivery *);
    const struct maps *filter; /* delivery_filter_new(); NULL: none */
    bool verifies; /* it heeds DELIVER_VERIFY; else such requests are answered without it: it would take the mail */
};
void agent_init(const struct agent *);

/* The value of a ..._delivery_status_filter, for struct agent. Before the sandbox. */
const struct maps *delivery_filter_new(struct arena *, const struct conf *, const char *parameter, const char *text,
                                       struct err *) MUST_USE;

/* service.serve of every agent. */
void agent_serve(int fd, const struct net_addr *peer, unsigned socket);

/* Outstanding deliveries of this process. */
unsigned agent_active(void);

/* The result for recipient i of the request. Logs "ID: to=<..>, orig_to=<..>, relay=.., conn_use=.., delay=.., delays=a/b/c/d, dsn=..,
 * status=sent (reason)". relay: "host[1.2.3.4]:25" or "none". conn_use: 0 or 1: not shown. Texts are copied. */
struct delivery_status {
    int result;             /* DELIVERED_... */
    const char *dsn;        /* "2.0.0" */
    const char *reason;
    const char *relay;
    unsigned conn_use;
    const char *diag_type, *diag_text, *mta_type, *mta_name; /* may be NULL */
    const char *action;     /* RFC 3464: "delivered"; NULL: what goes with the result, "relayed" for a success */
};
void may_wait delivery_result(struct delivery *, unsigned i, const struct delivery_status *);
/* The same for all that have none yet. */
void may_wait delivery_result_rest(struct delivery *, const struct delivery_status *);

/* What the agent's filter makes of a status; delivery_result() asks it itself. Texts in d->arena, or the status's own. */
struct delivery_status may_wait delivery_filter(struct delivery *, const struct delivery_status *);
struct delivery_status may_wait delivery_filter_ask(const struct maps *, struct delivery *,
                                                    const struct delivery_status *); /* agent_filter.c */

/* For local, where a recipient may become several: a line for one of them, and a recipient's result without a line. */
void delivery_log(const struct delivery *, const char *address, const char *original, const struct delivery_status *);
void delivery_result_silent(struct delivery *, unsigned i, const struct delivery_status *);

/* Has another agent deliver to an address in the place of recipient i: mailbox_transport and its kin. transport: a private
 * service of master.cf. Its log tells of it. *status gets the result, texts in d->arena. -1: it can't be reached: defer. */
int may_wait delivery_pass(struct delivery *, unsigned i, const char *address, const char *transport,
                           const char *nexthop, struct delivery_status *status, struct err *) MUST_USE;

/* Tells the owner of a list that an address in it failed, in the place of the message's sender. service: of bounce(8). -1: not
 * now. */
int may_wait delivery_tell(struct delivery *, const char *service, const char *owner, const struct deliver_recipient *,
                           const struct delivery_status *, struct err *) MUST_USE;

/* The destination as a whole can't be reached (HOP_DEAD) or takes less than we send (HOP_BUSY). */
void delivery_hop(struct delivery *, int hop, const char *dsn, const char *reason);

#endif
