/* SPDX-License-Identifier: Apache-2.0 */
/* resolver/dns.h: asynchronous questions to the DNS, over libunbound in the process's event loop. It caches, asks the
 * servers that are configured or the system's, else the root servers, and validates where there is a trust anchor. */
#ifndef RESOLVER_DNS_H
#define RESOLVER_DNS_H

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/settings_resolver.h"

/* With the files of the start; afterwards it needs none. The loop must be there. Without a trust anchor that is not required nothing is
 * validated. */
int dns_prepare(const struct resolver_settings *, bool trust_anchor_is_required, struct err *) MUST_USE;

/* What came back: a DNS message, or a code of failure. why: of a validation that failed; may be NULL. The packet is gone when the
 * callback returns. */
struct dns_result {
    int rcode;
    struct slice packet; /* of rcode 0 */
    bool secure, bogus;
    const char *why;
};

/* Calls done once, now or later in the loop. -1: it could not even be asked; done is not called. */
int dns_ask(const char *name, unsigned type, void (*done)(void *arg, const struct dns_result *), void *arg,
            struct err *) MUST_USE;

#endif
