/* SPDX-License-Identifier: Apache-2.0 */
/* anvil/anvil.h: the counts. A client is a service and an address ("smtpd:192.0.2.1"): how many connections it has, and
 * how often it did each of the things that are counted in the current time unit, which begins with its first act after
 * the last one ended. The process that reports a connection is remembered, so that its death ends its connections. */
#ifndef ANVIL_ANVIL_H
#define ANVIL_ANVIL_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"

enum anvil_event {
    ANVIL_CONNECT,
    ANVIL_MESSAGE,
    ANVIL_RECIPIENT,
    ANVIL_NEWTLS,
    ANVIL_AUTH,
    ANVIL_RATES,                    /* how many are rates */
    ANVIL_DISCONNECT = ANVIL_RATES, /* is none */
    ANVIL_UNKNOWN,
};

struct anvil;
struct anvil_reporter; /* a process that reports */

struct anvil_count {
    int64_t count; /* connections now */
    int64_t rate;  /* of the event, in this time unit */
};

struct anvil *anvil_new(usec_t time_unit);
void anvil_free(struct anvil **);

struct anvil_reporter *anvil_reporter_new(struct anvil *);
/* The connections that it reported have ended, as far as it did not say so itself. */
void anvil_reporter_free(struct anvil_reporter **);

enum anvil_event anvil_event(const char *name);

/* amount: how many at once (recipients). A disconnect that no connect preceded counts nothing. */
struct anvil_count anvil_count(struct anvil_reporter *, const char *client, enum anvil_event, int64_t amount,
                               usec_t now_wall);

/* Forgets clients that have no connection, and did nothing in the last time unit. */
void anvil_expire(struct anvil *, usec_t now_wall);
size_t anvil_client_count(const struct anvil *);

/* Calls line(ctx, text) for each maximum since the last time ("statistics: max connection rate 3/60s for (smtpd:192.0.2.1) at
 * Nov 24 06:00:00"), and begins anew. */
void anvil_report(struct anvil *, void (*line)(void *ctx, const char *text), void *ctx);

#endif
