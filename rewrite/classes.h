/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite/classes.h: which class a domain belongs to: local, virtual alias, virtual mailbox, relay, or elsewhere. */
#ifndef REWRITE_CLASSES_H
#define REWRITE_CLASSES_H

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/interfaces.h"
#include "lib/conf/settings_rewrite.h"

struct classes;

/* Makes the lists. own, proxy: the addresses at which mail for this host arrives; kept. It lives
 * in the arena. */
struct classes *classes_new(struct arena *, const struct rewrite_settings *, const struct interfaces *own,
                            const struct interfaces *proxy, struct err *) MUST_USE;

/* *class gets one of ROUTE_LOCAL, ROUTE_ALIAS, ROUTE_VIRTUAL, ROUTE_RELAY, ROUTE_DEFAULT. domain may be a literal,
 * "[192.0.2.1]", which is local if it is an address of ours. -1: a table failed, so nothing is known. */
int may_wait classes_of_domain(struct classes *, struct slice domain, int *class, struct err *) MUST_USE;

#endif
