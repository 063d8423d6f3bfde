/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/route.h: the client of rewrite: batch requests, and a cache of answers for some seconds. */
#ifndef LIB_MAIL_ROUTE_H
#define LIB_MAIL_ROUTE_H

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/mail/messages.h"

struct router;

struct router *router_new(const char *path);
void router_free(struct router **);

/* Where each address goes: answers[i] for addresses[i], texts in the arena. Answers from the cache cost no request;
 * the others are asked together. -1: rewrite can't be reached: defer. */
int may_wait router_resolve(struct router *, struct arena *, const char *sender, const char *const *addresses,
                            unsigned count, struct route_answer *answers, struct err *) MUST_USE;

/* Only the cache: true if it has the answer. For qmgr, which does not wait for what it knows. */
bool router_cached(struct router *, struct arena *, const char *sender, const char *address, struct route_answer *);

/* For qmgr: done(ctx, err) is called in the loop when the answers are there (not from within this call). */
int router_resolve_async(struct router *, struct arena *, const char *sender, const char *const *addresses,
                         unsigned count, struct route_answer *answers, void (*done)(void *ctx, const struct err *),
                         void *ctx, struct err *) MUST_USE;

/* The canonical form of an address: raw form in and out; context "local" or "remote". */
int may_wait router_rewrite(struct router *, struct arena *, const char *context, const char *address,
                            const char **result, struct err *) MUST_USE;

#endif
