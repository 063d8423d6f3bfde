/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/verp.h: variable envelope return paths: each recipient's copy has a sender of its own, from which a notice that comes back
 * to it tells whom it is about. With "+=", list@src.test for user@dst.test is list+user=dst.test@src.test. */
#ifndef LIB_MAIL_VERP_H
#define LIB_MAIL_VERP_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "lib/mail/messages.h"

/* Two characters of verp_delimiter_filter? */
bool verp_delimiters_are_good(struct slice delimiters, const char *filter);

/* Whether this message's sender is to be changed so: that was asked for, and there is a sender. */
bool verp_is_wanted(const struct envelope *);

/* The sender for one recipient, as the sender of the message wrote it if that is known. In the arena. */
const char *verp_sender(struct arena *, const struct envelope *, const struct envelope_recipient *);

#endif
