/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/login.h: SMTP AUTH (RFC 4954): which mechanisms a client is offered, and what it may do when it has logged in. */
#ifndef SMTPD_LOGIN_H
#define SMTPD_LOGIN_H

#include "smtpd/session.h"

/* Has the service AUTH, for this client, now? */
bool login_is_offered(struct session *);

/* "PLAIN LOGIN", in the session's arena for commands; "" if there is none, or the server can't be asked. */
const char *may_wait login_mechanisms(struct session *);

/* How a login is mentioned in the log: ", sasl_method=..., sasl_username=..."; "" without one. */
const char *login_log_text(struct session *);

/* Messages and recipients of one login in a time unit (smtpd_login_..._rate_limit). -1: *refusal. Where the action is to hold,
 * the message is held instead. */
int may_wait login_limit_message(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait login_limit_recipient(struct session *, struct smtp_reply *refusal) MUST_USE;

#endif
