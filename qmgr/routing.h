/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/routing.h: where the recipients of a message go: asks rewrite (or its cache), then gives them to the scheduler. */
#ifndef QMGR_ROUTING_H
#define QMGR_ROUTING_H

#include "lib/mail/route.h"
#include "qmgr/message.h"

void routing_init(struct router *);

/* All recipients to do are scheduled when the answers are there; message->routing until then. If rewrite does not
 * answer, it is asked again and again. */
void routing_start(struct message *);

/* Is a question outstanding? Not so while it is about to be asked again (message->again). */
bool routing_is_asking(const struct message *);

#endif
