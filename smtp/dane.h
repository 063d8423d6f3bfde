/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/dane.h: the levels "dane" and "dane-only" (RFC 7672): what they come to for one host, by the TLSA records that DNSSEC vouches
 * for. */
#ifndef SMTP_DANE_H
#define SMTP_DANE_H

#include "lib/base/arena.h"
#include "lib/base/compiler.h"
#include "lib/run/tls.h"
#include "smtp/client.h"
#include "smtp/failure.h"
#include "smtp/hosts.h"

struct dane {
    enum tls_level
        level; /* TLS_DANE: records say which certificate is right; TLS_ENCRYPT: there are some, and none is to be used;
                              * TLS_MAY: there are none */
    struct tls_dane records; /* with TLS_DANE */
    bool is_of_insecure_mx;  /* who chose the host is not known */
};

/* level: TLS_DANE or TLS_DANE_ONLY. -1: nothing may be sent to this host now; the failure is the host's. All lives in the arena. */
int may_wait dane_find(const struct client *, struct arena *, const struct host *, enum tls_level, struct dane *,
                       struct failure *) MUST_USE;

/* Pure: a record as the resolver gives it, "3 1 1 hex". False: it is none. */
bool dane_parse(struct arena *, const char *text, struct tls_dane_record *);

#endif
