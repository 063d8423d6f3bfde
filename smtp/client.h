/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/client.h: what all deliveries of the process share: settings, and what is made of them at the start. */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include <stdbool.h>

#include "lib/base/clock.h"
#include "lib/conf/interfaces.h"
#include "lib/conf/settings_smtp.h"
#include "lib/mail/dns_client.h"
#include "lib/run/net.h"
#include "lib/run/sandbox.h"
#include "lib/run/tls.h"

struct cache;

enum tls_level { TLS_NONE, TLS_MAY, TLS_ENCRYPT, TLS_VERIFY, TLS_SECURE };

struct client {
    struct smtp_settings set; /* as lmtp: those of lmtp_ */
    bool lmtp;
    const char *hello_name; /* in EHLO, HELO, LHLO */
    usec_t hello_timeout;
    unsigned port; /* where the next hop names none */
    struct interfaces interfaces, proxies;
    bool with_dns;      /* MX records, and addresses from the DNS alone; else hosts as the system finds them */
    bool native_lookup; /* /etc/hosts counts too */
    unsigned ignored;   /* FEATURE_... of smtp/features.h, from smtp_discard_ehlo_keywords */
    struct net_addr bind4, bind6;
    bool has_bind4, has_bind6;
    enum tls_level tls_level;
    struct tls_context *tls; /* NULL: TLS_NONE */
    int tls_loglevel;
    struct dns_client *dns; /* from client_start() on; connects at its first use */
    struct cache *cache;
};

/* With the privileges and files of the start. As lmtp it has conf answer with lmtp_ parameters from now on. */
int client_prepare(struct client *, struct conf *, bool lmtp, struct err *) MUST_USE;

/* In the loop. */
void client_start(struct client *);

#endif
