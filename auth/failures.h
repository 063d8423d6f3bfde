/* SPDX-License-Identifier: Apache-2.0 */
/* auth/failures.h: counts failed logins for each client and for each user, and says how long the answer to the next is to be
 * held back. A client with too many is turned away without looking at its password; a user never is, so that nobody can
 * lock another out. Of an IPv6 address the network counts, since a client may have all of it. */
#ifndef AUTH_FAILURES_H
#define AUTH_FAILURES_H

#include <stdbool.h>

#include "lib/base/clock.h"
#include "lib/base/slice.h"
#include "lib/conf/settings_auth.h"

struct failures;

struct failures *failures_new(const struct auth_settings *);
void failures_free(struct failures **);

/* Is the client to be turned away? client "" is never. */
bool failures_bar(struct failures *, const char *client, usec_t now);

/* Counts, and returns how long to wait before the client is told. */
usec_t failures_note(struct failures *, const char *client, const char *user, usec_t now);

/* A login that succeeded: the user's count begins anew. */
void failures_forget(struct failures *, const char *user);

#endif
