/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/body.h: the walk through the body for mime_header_checks, nested_header_checks, body_checks and strict_8bitmime and its
 * kin. */
#ifndef CLEANUP_BODY_H
#define CLEANUP_BODY_H

#include "cleanup/message.h"
#include "lib/mail/mime_walk.h"

/* NULL: nothing is to be done, and the body passes as it came; or the message is refused (m->answer says so). After the
 * header section is known. Lives in the message's arena. */
struct mime_walk *body_walk_new(struct message *);

#endif
