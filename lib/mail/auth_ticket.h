/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/auth_ticket.h: what auth hands out with a login, so that the privileged program that starts a user's session
 * need not believe the front which asks for it: who the user is and where the mail lies, signed with a key that only
 * auth and that program can read ($data_directory/auth_key, root's), and good for some seconds. */
#ifndef LIB_MAIL_AUTH_TICKET_H
#define LIB_MAIL_AUTH_TICKET_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"

enum { AUTH_KEY_SIZE = 32 };

#define AUTH_TICKET_LIFE SECONDS(30)

struct auth_ticket {
    const char *user;    /* the login */
    const char *service; /* "pop3", "imap" */
    uid_t uid;
    gid_t gid;
    const char *home;     /* "" if there is none */
    const char *mail;     /* where the mail lies: "mbox:/var/mail/name" or "maildir:/home/name/Maildir/" */
    usec_t expires;       /* wall clock */
    const char *nonce;    /* differs in every ticket: who wants each used once keeps those that have not expired */
};

/* Reads the key; create: makes it first if there is none (auth). In prepare(): the file is root's. */
int auth_key_load(const char *data_directory, bool create, unsigned char key[AUTH_KEY_SIZE], struct err *) MUST_USE;

/* Text of printable ASCII without blanks and tabs. */
const char *auth_ticket_make(struct arena *, const struct auth_ticket *, const unsigned char key[AUTH_KEY_SIZE]);

/* -1: ERR_PERM: malformed, not signed with this key, or too old. A ticket for uid 0 is never good. */
int auth_ticket_verify(struct arena *, const char *text, const unsigned char key[AUTH_KEY_SIZE], usec_t now,
                       struct auth_ticket *, struct err *) MUST_USE;

#endif
