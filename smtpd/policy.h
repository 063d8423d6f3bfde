/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/policy.h: asks policy services (SMTPD_POLICY_README): attributes in, "action=..." out. One answer for each question;
 * connections are kept for the next. A service that does not answer gives smtpd_policy_service_default_action, by default a
 * temporary refusal. */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "smtpd/session.h"

struct policies;
struct access_check;

struct policies *policies_new(const struct smtpd_settings *);
void policies_free(struct policies **);

/* As it stands behind check_policy_service: "unix:private/name", "inet:host:port", or with settings of its own
 * "{ inet:host:port, timeout=10s, default_action=DUNNO }". Kept under this text. Malformed: what is asked later fails. */
void policies_add(struct policies *, const char *text);

/* Does one of them need sockets of the network? */
bool policies_need_network(const struct policies *);

/* What the service says, or the default action: an action as in access(5), in the session's arena for commands. */
const char *may_wait policy_ask(struct access_check *, const char *text);

#endif
