/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/sasl.h: logs in to a server (RFC 4954), with a name and password from smtp_sasl_password_maps: SCRAM-SHA-256, SCRAM-SHA-1,
 * CRAM-MD5, PLAIN or LOGIN, the best that both sides have and that the security options allow. */
#ifndef SMTP_SASL_H
#define SMTP_SASL_H

#include "smtp/session.h"

/* Nothing happens where logging in is off, or no password is known for the server. next_hop: as transport tables write it. sender:
 * for smtp_sender_dependent_authentication. -1: *failure. */
int may_wait sasl_log_in(struct session *, struct arena *, const char *next_hop, const char *sender,
                         struct failure *) MUST_USE;

/* The names behind AUTH in the answer to EHLO; "" if there are none. */
const char *sasl_offered(struct arena *, const char *reply_text);

#endif
