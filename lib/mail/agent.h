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

/* A delivery under way. Lives in arena, which is the request's. */
struct delivery {
    struct arena *arena;
    const struct msg_deliver *request;
    struct source *source;
    struct msg_delivered answer; /* filled through delivery_result() and delivery_hop() */
    bool *is_done;               /* for each recipient of the request */
    usec_t started;              /* wall clock */
    usec_t connected;            /* when the connection stood (or was taken from the cache); 0: not */
};

/* deliver() runs as a task for each request; recipients without a result when it returns are deferred. */
struct agent {
    void (*deliver)(struct delivery *);
};
void agent_init(const struct agent *);

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
};
void delivery_result(struct delivery *, unsigned i, const struct delivery_status *);
/* The same for all that have none yet. */
void delivery_result_rest(struct delivery *, const struct delivery_status *);

/* The destination as a whole can't be reached (HOP_DEAD) or takes less than we send (HOP_BUSY). */
void delivery_hop(struct delivery *, int hop, const char *dsn, const char *reason);

#endif
