/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/resolve.h: where an address goes: transport, next hop, recipient, class. What trivial-rewrite(8) answers, and
 * `postfix trace-address` shows. */
#ifndef LIB_MAIL_RESOLVE_H
#define LIB_MAIL_RESOLVE_H

#include "lib/base/arena.h"
#include "lib/conf/settings_rewrite.h"
#include "lib/mail/addr_class.h"
#include "lib/mail/messages.h"

/* Settings, classes and tables that decide. */
struct routes;

/* Opens the tables. settings, own and proxy are kept; the routes live in the arena. NULL: a setting makes no sense. */
struct routes *routes_new(struct arena *, const struct conf *, const struct rewrite_settings *,
                          const struct interfaces *own, const struct interfaces *proxy, struct err *) MUST_USE;

/* Always gives an answer: a look-up that fails is ROUTE_FAIL with the reason. */
void may_wait resolve_address(struct arena *, const struct routes *, const char *sender, const char *address,
                              struct route_answer *);

/* What decided about transport and next hop, for `postfix trace-address`. Names of parameters, NULL: none of them. */
struct route_reason {
    const char *class_by, *transport_by, *nexthop_by;
};
void may_wait resolve_explain(struct arena *, const struct routes *, const char *sender, const char *address,
                              struct route_answer *, struct route_reason *);

#endif
