/* SPDX-License-Identifier: Apache-2.0 */
/* front/front.h: the network side of POP3 and IMAP: TLS and logins, nothing else. It has no right to any mail: after the
 * login the connection goes to a process of the user (lib/service/user_process.h), as a descriptor where it is in clear text;
 * where it is encrypted, TLS stays here and bytes are relayed. */
#ifndef FRONT_FRONT_H
#define FRONT_FRONT_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/map.h"
#include "lib/conf/settings_front.h"
#include "lib/mail/auth_client.h"
#include "lib/mail/messages.h"
#include "lib/run/file_watch.h"
#include "lib/run/link.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"
#include "lib/run/tls.h"
#include "lib/table/match_list.h"

struct front {
    struct front_settings set;
    const char *protocol; /* "imap", "pop3" */
    struct match_list *plaintext;
    struct tls_context *tls; /* NULL: there is no TLS */
    bool needs_tls;          /* before a login */
    struct file_watch *tls_files;
    struct map *clients; /* by network: how many of a client's connections to this process have not logged in */
    struct link *anvil;  /* counts those of all processes; NULL: there is no limit */
    struct auth_client *auth;
    struct link *sessions;
};

struct connection {
    struct front *front;
    struct stream *stream;
    struct arena *arena, *cmd; /* of the connection, of a command */
    const char *client;        /* "unknown[192.0.2.1]" */
    const char *address, *server_address;
    const char *network; /* of the client: what limits count */
    unsigned port, server_port;
    bool plaintext_ok; /* by its network */
    const char *certificate_name; /* of a certificate that can be trusted; NULL: there is none */
    int relay_fd;      /* of a session with TLS: bytes are passed on until its end; -1: none */
    unsigned failures;
    struct err err;
};

/* Reads settings, certificate; opens nothing that needs the loop. */
struct front *front_new(struct arena *, const struct conf *, const char *protocol, struct err *) MUST_USE;
/* In the sandbox. */
void front_connect(struct front *);

/* A connection from its accept to its end; owns fd. */
void may_wait front_serve(struct front *, int fd, const struct net_addr *peer);

/* The dialogues up to the login: return when the connection is over, here or because it was handed over. */
void may_wait imap_login(struct connection *);
void may_wait pop3_login(struct connection *);

/* ---- what both need ---- */

/* May a plain password come now? */
bool front_may_send_password(const struct connection *);
bool front_has_tls(const struct connection *);
int may_wait front_start_tls(struct connection *) MUST_USE; /* logs what fails */

/* SASL with the client, in the form that IMAP and POP3 share ("+ challenge"): mechanism, its initial response (NULL: none). Fills
 * step. -1: c->err, of kind ERR_SYNTAX if the client gave up, ERR_CLOSED if it has gone; also when auth can't be asked. */
int may_wait front_authenticate(struct connection *, const char *mechanism, const char *initial,
                                struct auth_step *) MUST_USE;
int may_wait front_password(struct connection *, struct slice user, struct slice password, struct auth_step *) MUST_USE;

/* Names of the mechanisms that may be used now, each after `prefix`. */
void may_wait front_put_mechanisms(struct connection *, const char *prefix, struct buf *out);
bool may_wait front_has_mechanism(struct connection *, const char *name);

/* Logs a failed login, as fail2ban's filters know it, and slows the client. true: it has had its tries. */
bool may_wait front_failed(struct connection *, const char *mechanism, const struct auth_step *);

/* Gives the connection to the user's process; with TLS, front_serve() then relays. -1: it was not taken (c->err): the client is to be
 * told; 0: nothing is left to do, also where it can't be told without two answers (no word of whether it was taken). */
int may_wait front_hand_over(struct connection *, const struct auth_step *, const char *method,
                             const char *tag) MUST_USE;

#endif
