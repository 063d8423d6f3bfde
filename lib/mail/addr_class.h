/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/addr_class.h: which class a domain belongs to: local, virtual alias, virtual mailbox, relay, or elsewhere. */
#ifndef LIB_MAIL_ADDR_CLASS_H
#define LIB_MAIL_ADDR_CLASS_H

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/interfaces.h"
#include "lib/conf/settings_rewrite.h"

struct classes;

/* Makes the lists. own, proxy: the addresses at which mail for this host arrives; kept. It lives
 * in the arena. */
struct classes *classes_new(struct arena *, const struct conf *, const struct rewrite_settings *,
                            const struct interfaces *own, const struct interfaces *proxy, struct err *) MUST_USE;

/* *class gets one of ROUTE_LOCAL, ROUTE_ALIAS, ROUTE_VIRTUAL, ROUTE_RELAY, ROUTE_DEFAULT. domain may be a literal,
 * "[192.0.2.1]", which is local if it is an address of ours. -1: a table failed, so nothing is known. */
int may_wait classes_of_domain(const struct classes *, struct slice domain, int *class, struct err *) MUST_USE;

/* Is the domain $myorigin, one of mydestination, or an address literal of ours: where tables are asked for the local part
 * alone (canonical(5), virtual(5)...)? */
int may_wait classes_is_ours(const struct classes *, struct slice domain, bool *, struct err *) MUST_USE;

#endif
