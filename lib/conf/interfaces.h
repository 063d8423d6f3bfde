/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/interfaces.h: the addresses that are ours: inet_interfaces and inet_protocols, turned into addresses. */
#ifndef LIB_CONF_INTERFACES_H
#define LIB_CONF_INTERFACES_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/conf/conf.h"
#include "lib/run/net.h"

struct interfaces {
    struct net_addr *addrs; /* port 0, each once */
    size_t count;
    bool all;        /* inet_interfaces = all: addrs are those of the network devices at this moment */
    bool ipv4, ipv6; /* inet_protocols */
};

/* In the arena. A name is looked up as the system does (this blocks: at start-up only); one without address, and an
 * address of a protocol that is off, is left out; nothing left is an error unless the list was empty. */
int interfaces_load(const struct conf *, struct arena *, struct interfaces *, struct err *) MUST_USE;

/* The same for another list of names and addresses (proxy_interfaces, a host field of master.cf). */
int interfaces_parse(const struct conf *, struct arena *, const char *list, struct interfaces *, struct err *) MUST_USE;

bool interfaces_contain(const struct interfaces *, const struct net_addr *);

/* The default of mynetworks: the networks of inet_interfaces' addresses as mynetworks_style says; NULL on error. */
char *interfaces_networks(const struct conf *, struct arena *, struct err *);

#endif
