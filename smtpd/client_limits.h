/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/client_limits.h: what a client may do how often, counted by anvil for all processes. Where no limit is set, anvil is
 * told without waiting for its answer; where anvil can't be reached, nothing is limited. */
#ifndef SMTPD_CLIENT_LIMITS_H
#define SMTPD_CLIENT_LIMITS_H

#include "lib/base/compiler.h"
#include "smtpd/session.h"

/* -1: too many; *refusal is what to say. */
int may_wait limits_connect(struct session *, struct smtp_reply *refusal) MUST_USE;
void limits_disconnect(struct session *);
int may_wait limits_message(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait limits_recipient(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait limits_auth(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait limits_new_tls(struct session *, struct smtp_reply *refusal) MUST_USE;

/* Counts an event of somebody else than the client: of a login. False: not known, so nothing is limited. */
bool may_wait limits_count(struct session *, const char *event, const char *who, int64_t *rate);

#endif
