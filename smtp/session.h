/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/session.h: a connection to a server, from connect to QUIT: greeting, EHLO, STARTTLS. Messages go through it one
 * after another (transaction.h); between them it may wait in the cache (cache.h) without a task. */
#ifndef SMTP_SESSION_H
#define SMTP_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/run/stream.h"
#include "smtp/client.h"
#include "smtp/dane.h"
#include "smtp/failure.h"
#include "smtp/hosts.h"
#include "smtp/tls_policy.h"

/* Whom a session is for. */
struct session_target {
    const char *next_hop; /* as transport tables write it: "[mail.example.com]:587" */
    const char *domain;   /* its name alone */
    const char *sender;   /* of the message: for passwords that depend on it */
    usec_t age;           /* of the message */
};

struct session {
    struct list link; /* of the cache, while it waits there; the newest at the end */
    struct list same; /* the cache's, of the same destination */
    struct arena *arena;
    const struct client *client;
    struct stream *stream;
    struct net_addr addr;
    const char *name;         /* of the host */
    const char *label;        /* "mx.example.com[192.0.2.1]" */
    const char *relay;        /* "mx.example.com[192.0.2.1]:25" */
    const char *destination;  /* next hop; under this name it may be used again; NULL: it may not */
    bool is_last;             /* no other host was left to try when it was opened */
    unsigned features;        /* FEATURE_... */
    const char *auth_offered; /* mechanisms; "" */
    struct tls_policy policy; /* texts in the arena */
    struct dane dane;         /* its records are there until the session is open */
    int64_t size_limit;       /* 0: none known */
    unsigned workarounds;     /* PIX_... of pix.h */
    unsigned uses;            /* deliveries, the present one included */
    usec_t opened;            /* loop_now() */
    usec_t idle_since;
    bool logged_in;   /* by SASL */
    bool is_extended; /* its greeting has the word ESMTP */
    bool broken;      /* no more to be used; not even QUIT */
    bool closing;     /* the server said 421: it will close */
    bool needs_reset; /* a transaction was left in the middle */
};

/* Connects, says hello, logs in. without_tls: TLS failed before. -1: *failure. The
 * session lives on the heap, the failure in the arena. */
struct session *may_wait session_open(const struct client *, struct arena *, const struct host *,
                                      const struct session_target *, bool without_tls, struct failure *);

/* Says QUIT if the server may care, and frees it. */
void may_wait session_close(struct session **);

/* Reads a reply within the limit, to what was sent before. doing: "sending MAIL FROM", for a connection that broke. A reply of 421
 * marks the session. */
int may_wait session_reply(struct session *, struct arena *, usec_t limit, const char *doing, struct client_reply *,
                           struct failure *) MUST_USE;

/* The connection broke while doing something; err says how. Marks the session; returns -1. */
int session_lost(struct session *, struct arena *, const char *doing, const struct err *, struct failure *);

/* The reply refuses command ("MAIL FROM command"). Returns -1. */
int session_refused(struct session *, struct arena *, const struct client_reply *, const char *command,
                    struct failure *);

#endif
