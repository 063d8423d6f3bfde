/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/auth_client.h: logs users in, by Dovecot's published authentication protocol (version 1): our auth daemon and
 * Dovecot's answer alike. For smtpd, pop3d and imapd.
 *
 * An exchange belongs to one task and has a connection of its own while it lasts; connections that are not in use are
 * kept for the next. Responses and challenges are base64, as they go over SMTP, POP3 and IMAP alike. Texts that hold
 * secrets are wiped when an exchange ends, but for those that the caller holds.
 *
 * A failure to ask (no server, time-out, nonsense) is an error, and never means that a password is wrong or right. */
#ifndef LIB_MAIL_AUTH_CLIENT_H
#define LIB_MAIL_AUTH_CLIENT_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct auth_client;

/* path: the server's socket ("private/auth"), or "inet:host:port" with a numeric host; kept as a copy. */
struct auth_client *auth_client_new(const char *path);
void auth_client_free(struct auth_client **);

/* ---- mechanisms ---- */

/* What the server says of a mechanism. */
enum {
    AUTH_MECH_ANONYMOUS = 1,
    AUTH_MECH_PLAINTEXT = 2,  /* the password goes over the wire as it is: with TLS only */
    AUTH_MECH_DICTIONARY = 4, /* what goes over the wire can be tried against a dictionary */
    AUTH_MECH_ACTIVE = 8,     /* open to active attacks */
    AUTH_MECH_FORWARD_SECRECY = 16,
    AUTH_MECH_MUTUAL = 32,
    AUTH_MECH_PRIVATE = 64, /* not to be announced */
    AUTH_MECH_NEEDS_BINDING = 128, /* ours: SCRAM-...-PLUS: with channel_binding only */
};
struct auth_mechanism {
    const char *name; /* upper case */
    unsigned flags;   /* AUTH_MECH_... */
};

/* The server's mechanisms, as of the last connection to it; connects if there was none. They live in the arena. */
int may_wait auth_client_mechanisms(struct auth_client *, struct arena *, usec_t deadline,
                                    const struct auth_mechanism **, unsigned *count, struct err *) MUST_USE;

/* ---- logging in ---- */

/* NULL: not known. */
struct auth_params {
    const char *service; /* "smtp", "pop3", "imap" */
    const char *client_address, *server_address;
    unsigned client_port, server_port;
    const char *client_name;     /* what the client says of itself (HELO): for the log */
    bool secured;                /* TLS, or a connection inside this host */
    bool valid_certificate;      /* the client showed a trusted certificate ... */
    const char *certificate_name; /* ... with this name: for EXTERNAL */
    const char *session;          /* an id, for logs */
    const char *channel_binding;  /* base64 of RFC 9266 tls-exporter; for SCRAM-...-PLUS */
};

enum auth_result {
    AUTH_CONTINUE, /* challenge holds what to tell the client; auth_continue() with what it answers */
    AUTH_OK,
    AUTH_FAILED,  /* not this user, or not with this password; see reason */
    AUTH_TEMP,    /* the server could not tell (a data base is down): 454, try again */
};

/* Texts live in the arena that was given to auth_begin(). */
struct auth_step {
    enum auth_result result;
    const char *challenge; /* base64; "" for an empty one */
    const char *user;      /* AUTH_OK: the login; also AUTH_FAILED, where it is known, else "" */
    const char *reason;    /* AUTH_FAILED, AUTH_TEMP: for the user, else "" */
    const char *ticket;    /* AUTH_OK of our auth, for services with mailboxes (pop3, imap): see auth_ticket.h; else "" */
    bool disabled, expired; /* AUTH_FAILED: why */
};

struct auth_exchange;

/* mechanism: upper case. response: the initial one in base64 ("" for one that is empty), NULL: none was given. On
 * AUTH_CONTINUE *exchange is set, and auth_continue() or auth_abort() must follow; otherwise it is NULL. -1: see above;
 * *exchange is NULL. */
int may_wait auth_begin(struct auth_client *, struct arena *, const char *mechanism, const struct auth_params *,
                        const char *response, usec_t deadline, struct auth_exchange **exchange, struct auth_step *,
                        struct err *) MUST_USE;
int may_wait auth_continue(struct auth_exchange **, const char *response, usec_t deadline, struct auth_step *,
                           struct err *) MUST_USE;

/* The client gave up ("*"), or has gone. NULL is fine. */
void auth_abort(struct auth_exchange **);

/* A name and a password at once, by PLAIN: POP3's USER and PASS, IMAP's LOGIN. Neither may hold NUL: slices that do fail. */
int may_wait auth_password(struct auth_client *, struct arena *, const struct auth_params *, struct slice user,
                           struct slice password, usec_t deadline, struct auth_step *, struct err *) MUST_USE;

/* Overwrites memory that held a secret, so that the compiler does not leave it out. */
void auth_wipe(void *, size_t);

#endif
