/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/postdrop.h: a message of a session that is run by hand (sendmail -bs): it goes the way of all mail of this machine's users,
 * through postdrop into maildrop/, whether the mail system runs or not. postdrop has the rights for that; we need none. */
#ifndef SMTPD_POSTDROP_H
#define SMTPD_POSTDROP_H

#include "smtpd/session.h"

/* The transaction's content is complete. Waits for postdrop, with the whole process: there is no other session. */
struct smtp_reply postdrop_submit(struct session *, struct transaction *);

#endif
