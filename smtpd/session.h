/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/session.h: an SMTP session: one connection, one task. session_serve() greets, reads commands, and gives each to its
 * handler (commands.def), which returns the reply. What belongs to one message is in the transaction (transaction.h). */
#ifndef SMTPD_SESSION_H
#define SMTPD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/list.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"
#include "lib/smtp/reply.h"
#include "smtpd/command.h"
#include "smtpd/effects.h"
#include "smtpd/peer.h"
#include "smtpd/server.h"
#include "smtpd/transaction.h"
#include "smtpd/xforward.h"

enum { SESSION_MAGIC = 0x53657373, SESSION_HELO_SIZE = 256 /* RFC 5321 section 4.5.3.1.2 */ };

struct command_count {
    unsigned ok, all;
};

struct session {
    unsigned magic;
    struct list link; /* in the server's sessions */
    struct task *task;
    bool idle; /* waits for a command */
    struct server *server;
    struct stream *stream;
    struct arena *arena; /* lives as long as the session */
    struct arena *cmd;   /* emptied when a command is answered */

    struct net_addr addr;
    struct peer peer;
    const char *client; /* "name[address]", for the log and for replies */
    const char *server_address;
    unsigned server_port;
    bool counted; /* anvil knows of this connection */

    const char *protocol; /* "SMTP" or "ESMTP" */
    const char *helo;     /* helo_name, or NULL: not said yet */
    char helo_name[SESSION_HELO_SIZE];
    const char *sasl_method, *sasl_username; /* of a client that has logged in; else NULL */
    bool hold_mail;                          /* its login has sent too much */
    struct effects effects;                  /* what was asked for before MAIL */
    const char *instance;                    /* see session_instance() */
    const char *denied;                      /* the client may not do anything: why (smtpd_delay_reject = no) */

    struct xforward *xforward; /* NULL: nothing was forwarded */

    struct transaction *transaction; /* NULL: none; MAIL begins one */

    /* For the log: what the client did last, and why the session ends. */
    const char *where;
    const char *end_reason; /* NULL: QUIT */

    unsigned errors, junk;
    struct err err; /* what failed last; here, because each task's stack is a page less for it */
    bool bad_pipelining;
    struct command_count counts[COMMAND_COUNT + 1]; /* the last: unknown commands */
};

/* Serves the connection to its end; owns fd. */
void may_wait session_serve(struct server *, int fd, const struct net_addr *peer);

/* Those who wait for their client's next command end, with 421: the system stops. */
void session_end_idle(struct server *);

/* Sends a reply that is not the last of its command (220, 354). */
void may_wait session_send(struct session *, struct smtp_reply);

/* Waits for input at most until smtpd_timeout has passed. */
void session_set_deadline(struct session *);

/* Input failed: notes why the session ends, and returns the reply to give (421 for a time-out; if the client has gone
 * nobody will read it). */
struct smtp_reply session_input_failed(struct session *, const struct err *);

/* Where the session stands: one of the IN_... bits of command.h. */
unsigned session_state(const struct session *);

/* RSET, HELO, EHLO, STARTTLS, the end of the content and of the session: the transaction and all that belongs to it are
 * gone. The one place that does it. */
void may_wait session_reset(struct session *);

/* The queue id for log lines: "NOQUEUE" when there is none yet. */
const char *session_queue_id(const struct session *);

/* " from=<..> to=<..> proto=.. helo=<..>", for the log. sender NULL: the transaction's, if there is one; recipient NULL:
 * not said. In the command's arena. */
const char *session_whatsup(struct session *, const char *sender, const char *recipient);

/* A text that is the same for all questions about one message, and differs between messages. */
const char *session_instance(struct session *);

/* The digest of the client's certificate, or of the key in it; "" if there is none. */
const char *session_fingerprint(struct session *, bool of_key);

/* Logs "connect from"; "lost connection after", "disconnect from" with the counts of commands. */
void session_log_connect(struct session *);
void session_log_end(struct session *);

/* cmd_mail.c: an address that is not ASCII. declared: the client said SMTPUTF8. what: "sender", for the log. -1: *refusal. */
int mail_check_utf8(struct session *, const char *what, const char *address, bool declared,
                    struct smtp_reply *refusal) MUST_USE;

#endif
