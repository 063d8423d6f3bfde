/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/pix.h: firewalls that spoil SMTP: their "fixup" mode masks the greeting with asterisks, and may lose a final dot that comes in
 * a packet with the content. smtp_pix_workarounds says what is done then, for mail that has waited for some time. */
#ifndef SMTP_PIX_H
#define SMTP_PIX_H

#include "lib/smtp/client_reply.h"
#include "smtp/session.h"

enum { PIX_DISABLE_ESMTP = 1, PIX_DELAY_DOTCRLF = 2 };

/* Is the greeting a masked one? Pure. */
bool pix_is_masked(const char *reply_text);

/* PIX_... of a list of names. -1: a name is not known. Pure. */
int pix_parse(struct slice list, unsigned *workarounds, struct err *) MUST_USE;

/* What is to be done in this session, whose greeting this is. -1: a table failed, or has nonsense. */
int may_wait pix_find(struct session *, struct arena *, const struct client_reply *greeting,
                      const struct session_target *, struct err *) MUST_USE;

#endif
