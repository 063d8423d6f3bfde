/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/access_action.h: the right-hand sides of access(5): what a table or a policy service says about a client, a sender, a
 * recipient. */
#ifndef SMTPD_ACCESS_ACTION_H
#define SMTPD_ACCESS_ACTION_H

#include "smtpd/restrict.h"

/* source: the table or service, for messages; subject and kind: what it is about, as "a@b" and "Sender address". An action that
 * makes no sense refuses temporarily. */
enum access may_wait access_act(struct access_check *, const char *source, const char *action, const char *subject,
                                const char *kind);

/* Takes "5.7.1 " off the front of the text of a reply; the code without its class, or the one given. */
const char *access_take_detail(struct arena *, const char **text, const char *fallback);

/* A table or a service can't answer: 451, and the log says why. */
enum access access_table_failed(struct access_check *, const char *source, const char *subject, const struct err *why);

#endif
