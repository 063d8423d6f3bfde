/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/xforward.h: what an authorized filter says of the client from which it had a message (XFORWARD), for the log and for
 * the next filter. It holds for one transaction and takes no part in access control. */
#ifndef SMTPD_XFORWARD_H
#define SMTPD_XFORWARD_H

#include <stdbool.h>

#include "lib/mail/messages.h"
#include "lib/smtp/reply.h"

struct session;

/* "" stands for [UNAVAILABLE]. */
struct xforward {
    struct arena *arena; /* its own */
    const char *name, *address, *port, *protocol, *helo, *ident, *source;
};

/* Is the client in the list? A list that can't be asked says no. */
bool may_wait xforward_is_allowed(struct session *);
bool may_wait xclient_is_allowed(struct session *);
bool may_wait verp_is_allowed(struct session *);

/* NAME=value, both in the command's arena: value decoded, "" for [UNAVAILABLE]. -1: *refusal. */
int xattribute_next(struct session *, struct slice *rest, struct slice *name, const char **value,
                    struct smtp_reply *refusal) MUST_USE;

/* Puts it in the place of the client's attributes for logging. */
void xforward_apply(const struct xforward *, struct arena *, struct envelope *);

/* ", orig_queue_id=..., orig_client=..." for the line "client="; "" if there is nothing to say. */
const char *xforward_log_text(const struct xforward *, struct arena *);

void xforward_free(struct xforward **);

#endif
