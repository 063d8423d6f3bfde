/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/failure.h: why mail could not be delivered, as the log, qmgr and reports to senders get it. Texts live in the
 * arena of the delivery. */
#ifndef SMTP_FAILURE_H
#define SMTP_FAILURE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/compiler.h"
#include "lib/smtp/client_reply.h"

struct failure {
    bool is_permanent;     /* else another host, or a later attempt, may do better */
    bool is_of_host;       /* the host as a whole failed, not this message */
    bool without_tls;      /* may be tried again at once without TLS */
    bool is_stale;         /* a connection used again had gone before it said anything: take another */
    const char *dsn;       /* "4.4.1" */
    const char *reason;    /* one line */
    const char *diag_text; /* the server's reply; NULL: it said nothing */
    const char *mta_name;  /* NULL: none was reached */
};

/* Fill in and return -1. */
int failure_set(struct failure *, struct arena *, const char *dsn, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* A reply that refuses: "host NAME said: REPLY (in reply to COMMAND)"; permanent if its code is 5xx. */
int failure_reply(struct failure *, struct arena *, const char *host, const struct client_reply *, const char *command);

#endif
