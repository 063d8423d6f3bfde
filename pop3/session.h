/* SPDX-License-Identifier: Apache-2.0 */
/* pop3/session.h: a POP3 session after its login (RFC 1939, 2449, UTF8 and LANG of RFC 6856), in the process of its user. The
 * mailbox is looked at once, when the session begins; what is marked is removed at QUIT, and then only. */
#ifndef POP3_SESSION_H
#define POP3_SESSION_H

#include "lib/base/clock.h"
#include "lib/mail/messages.h"
#include "lib/store/folder.h"

struct pop3_session_settings {
    usec_t idle_timeout;
    const char *uidl_format;
    unsigned session_limit;
};
extern struct pop3_session_settings settings;

/* place: the Maildir or mbox that is INBOX. Owns fd. */
void may_wait session_serve(const char *place, enum folder_make, int fd, const struct msg_session *,
                            struct slice input);
void session_stop_all(void);

#endif
