/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/local_client.h: local_header_rewrite_clients: whose headers are completed with our own domain. */
#ifndef SMTPD_LOCAL_CLIENT_H
#define SMTPD_LOCAL_CLIENT_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/conf.h"

struct local_clients;
struct session;

/* Before the sandbox: opens tables. NULL: an item makes no sense. */
struct local_clients *local_clients_new(struct arena *, const struct conf *, const char *text, struct err *) MUST_USE;

/* Does the client of the session count as local now (it may have logged in)? -1: a table failed. */
int may_wait local_clients_has(const struct local_clients *, struct session *, bool *is_local, struct err *) MUST_USE;

#endif
