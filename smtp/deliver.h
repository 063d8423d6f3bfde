/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/deliver.h: one delivery: over a connection that is kept, or to the hosts of the next hop one after another. */
#ifndef SMTP_DELIVER_H
#define SMTP_DELIVER_H

#include "lib/mail/agent.h"
#include "smtp/client.h"

void may_wait deliver(const struct client *, struct delivery *);

#endif
