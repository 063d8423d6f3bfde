/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/hosts.h: the hosts that take mail for a destination, in the order in which they are to be tried
 * (RFC 5321 section 5, RFC 7505). */
#ifndef SMTP_HOSTS_H
#define SMTP_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/run/net.h"
#include "smtp/destination.h"
#include "smtp/failure.h"

struct client;

/* One address of one host. */
struct host {
    const char *name; /* "mx.example.com"; for an address: the address itself */
    struct net_addr addr;
    unsigned preference;    /* of its MX record; lower is better */
    const char *canonical;  /* where the name is an alias: what for; else NULL */
    bool is_secure;         /* DNSSEC vouches for the addresses, and the alias */
    bool is_of_insecure_mx; /* it was named by MX records for which DNSSEC does not vouch */
};

struct host_list {
    struct host *hosts;
    size_t count;
};

/* -1: the failure says why there is none; for the domain itself, not for one host of it. Lives in the arena. */
int may_wait hosts_find(const struct client *, struct arena *, const struct destination *, struct host_list *,
                        struct failure *) MUST_USE;

/* ---- The pure part ---- */

enum host_family { HOST_ANY, HOST_IPV4, HOST_IPV6 };

/* Best preference first; equal ones in random order if shuffle; within a preference the wanted family first.
 * below(n) gives a random number less than n. */
void hosts_order(struct host_list *, bool shuffle, enum host_family first, uint32_t (*below)(uint32_t n));

/* Takes out the host that is_self() knows and those that are no better: mail must not go back to where it is, nor round
 * in a circle (RFC 5321 section 5.1). The list is ordered. Returns whether one was found. */
bool hosts_drop_from_self(struct host_list *, bool (*is_self)(const void *ctx, const struct net_addr *),
                          const void *ctx);

#endif
