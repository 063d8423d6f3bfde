/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/footer.h: what the administrator adds to replies of 4xx and 5xx: smtpd_reject_footer, or for single replies
 * smtpd_reject_footer_maps. It is for the client alone; the log has the reply without it. */
#ifndef SMTPD_FOOTER_H
#define SMTPD_FOOTER_H

#include "smtpd/session.h"

/* The reply with its footer, in the command's arena; a footer that can't be had is left out, and the log says why. */
struct smtp_reply may_wait footer_add(struct session *, struct smtp_reply);

#endif
