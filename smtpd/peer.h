/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/peer.h: who the client is: its address and the name that DNS gives it, confirmed by a look-up of the name. Names from
 * the hosts file, which is read at the start, come first. Answers are kept for some minutes, so that a client that connects
 * again costs no look-up. */
#ifndef SMTPD_PEER_H
#define SMTPD_PEER_H

#include "lib/base/arena.h"
#include "lib/base/map.h"
#include "lib/run/net.h"

struct server;

/* How much is known of a name; also the first digit of a reply that refuses for lack of it. */
enum name_status { NAME_FOUND = 2, NAME_TEMP = 4, NAME_PERM = 5 };

struct peer {
    const char *name;         /* confirmed, or "unknown" */
    const char *reverse_name; /* not confirmed, or "unknown" */
    enum name_status name_status, reverse_status;
    const char *address;     /* "192.0.2.1" */
    const char *rfc_address; /* "192.0.2.1", "IPv6:2001:db8::1" */
    unsigned port;
    int family; /* AF_INET, AF_INET6 */
};

/* Texts live in the arena. */
void may_wait peer_lookup(struct server *, struct arena *, const struct net_addr *, struct peer *);

/* The hosts file at path, as address text -> name. A file that is not there gives an empty map. */
struct map *peer_read_hosts(struct arena *, const char *path);

struct peer_cache *peer_cache_new(void);
void peer_cache_free(struct peer_cache **);

/* The name under which DNS keeps an address's name: "1.2.0.192.in-addr.arpa". text holds at least 80 bytes. */
void peer_reverse_name(const struct net_addr *, char *text, size_t size);

#endif
