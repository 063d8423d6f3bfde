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
#include "lib/table/maps.h"
#include "lib/table/match_list.h"

struct cache;
struct checks;
struct generic;

enum tls_level { TLS_NONE, TLS_MAY, TLS_ENCRYPT, TLS_FINGERPRINT, TLS_DANE, TLS_DANE_ONLY, TLS_VERIFY, TLS_SECURE };

struct client {
    const struct maps *filter; /* smtp_delivery_status_filter */
    struct smtp_settings set;  /* as lmtp: those of lmtp_ */
    bool lmtp;
    const char *hello_name; /* in EHLO, HELO, LHLO */
    usec_t hello_timeout;
    unsigned port; /* where the next hop names none */
    struct interfaces interfaces, proxies;
    bool with_dns;             /* MX records, and addresses from the DNS alone; else hosts as the system finds them */
    bool native_lookup;        /* /etc/hosts counts too */
    const char *ignored;       /* smtp_discard_ehlo_keywords */
    struct maps *ignored_maps; /* by the server's address */
    struct net_addr bind4, bind6;
    bool has_bind4, has_bind6;
    enum tls_level tls_level;
    struct tls_context *tls;          /* takes any certificate; NULL: no TLS for anybody */
    struct tls_context *tls_trusted;  /* takes those that are trusted and fit the name */
    struct tls_context *tls_dane;     /* takes those that TLSA records name; NULL: no level is "dane" */
    bool with_dnssec;                 /* smtp_dns_support_level, and names come from the DNS alone */
    enum tls_level insecure_mx_level; /* smtp_tls_dane_insecure_mx_policy: MAY, ENCRYPT or DANE */
    const char *ciphers, *mandatory_ciphers, *verifying_ciphers;
    const char *tls_options, *tls_groups, *dane_digests;
    bool wide_wildcards;                                      /* tls_wildcard_matches_multiple_labels */
    const char *high_ciphers, *medium_ciphers, *null_ciphers; /* the grades */
    struct maps *tls_policies;
    struct maps *sasl_passwords;
    struct match_list *sasl_filter;
    int tls_loglevel;
    struct dns_client *dns; /* from client_start() on; connects at its first use */
    struct cache *cache;
    struct checks *checks; /* NULL: nobody looks at the content */
    struct maps *pix_maps;
    struct maps *reply_filter; /* NULL: none */
    struct generic *generic;   /* NULL: addresses stay as they are */
};

/* With the privileges and files of the start. As lmtp it has conf answer with lmtp_ parameters from now on. */
int client_prepare(struct client *, struct conf *, bool lmtp, struct err *) MUST_USE;

/* OpenSSL's list for a grade ("high"), without what is excluded by parameters and by exclude. */
const char *client_ciphers(const struct client *, struct arena *, const char *grade, bool mandatory,
                           const char *exclude);

/* In the loop. */
void client_start(struct client *);

#endif
