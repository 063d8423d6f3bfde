/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite/resolve.h: where an address goes: transport, next hop, recipient, class. */
#ifndef REWRITE_RESOLVE_H
#define REWRITE_RESOLVE_H

#include "lib/base/arena.h"
#include "lib/conf/settings_rewrite.h"
#include "lib/mail/messages.h"
#include "rewrite/classes.h"

/* Always gives an answer: a look-up that fails is ROUTE_FAIL with the reason. */
void may_wait resolve_address(struct arena *, const struct rewrite_settings *, struct classes *, const char *sender,
                              const char *address, struct route_answer *);

#endif
