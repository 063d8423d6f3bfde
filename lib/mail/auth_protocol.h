/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/auth_protocol.h: what both ends of Dovecot's authentication protocol share: lines of fields divided by tabs, in
 * which tab, line ends, NUL and byte 1 are escaped. */
#ifndef LIB_MAIL_AUTH_PROTOCOL_H
#define LIB_MAIL_AUTH_PROTOCOL_H

#include "lib/base/buf.h"
#include "lib/base/slice.h"

enum { AUTH_LINE_SIZE = 14 * 1024 };

void auth_escape(struct slice, struct buf *out);
void auth_unescape(struct slice, struct buf *out); /* what is malformed stays as it is; an escaped NUL is left out */

#endif
