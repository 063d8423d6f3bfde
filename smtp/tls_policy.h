/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/tls_policy.h: how much TLS a destination gets: smtp_tls_security_level, or what smtp_tls_policy_maps say of it. */
#ifndef SMTP_TLS_POLICY_H
#define SMTP_TLS_POLICY_H

#include "lib/base/arena.h"
#include "lib/base/compiler.h"
#include "lib/base/err.h"
#include "smtp/client.h"

struct tls_policy {
    enum tls_level level;
    const char *match;               /* names that the certificate may have, divided by ':'; "" where none counts */
    const char *fingerprints;        /* level fingerprint: divided by '|', ',' or blanks */
    const char *protocols, *ciphers; /* "": as the context has them */
    const char *server_name;         /* SNI; "": the host's name, where names count */
    const char *text;                /* what the table says; NULL: nothing */
};

/* -1: ERR_SYNTAX. */
int tls_level_parse(const char *text, enum tls_level *) MUST_USE;

/* next_hop as transport tables write it; its name alone is domain. -1: the table can't be read, or says nonsense: nothing may be
 * sent there. */
int may_wait tls_policy_find(const struct client *, struct arena *, const char *next_hop, const char *domain,
                             struct tls_policy *, struct err *) MUST_USE;

/* The same policy at another level: what "dane" comes to for a host (dane.h). */
void tls_policy_become(const struct client *, struct arena *, struct tls_policy *, enum tls_level);

/* "hostname", "nexthop", "dot-nexthop" and names of match as the names that a certificate may have (".example.com": any below it),
 * NULL at the end. */
const char *const *tls_policy_names(const struct tls_policy *, struct arena *, const char *host, const char *domain);

/* Is it one of the fingerprints of the policy? */
bool tls_policy_has_fingerprint(const struct tls_policy *, const char *fingerprint);

#endif
