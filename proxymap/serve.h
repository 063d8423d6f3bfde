/* SPDX-License-Identifier: Apache-2.0 */
/* proxymap/serve.h: answers the calls of lib/table/proxy_messages.def. */
#ifndef PROXYMAP_SERVE_H
#define PROXYMAP_SERVE_H

#include "lib/run/link.h"
#include "proxymap/access.h"

/* Before the sandbox: opens the tables that may be asked. may_change: this is proxywrite. */
void serve_prepare(const struct conf *, struct access *, bool may_change);

extern const struct link_handler serve_handlers[];
extern const unsigned serve_handler_count;

#endif
