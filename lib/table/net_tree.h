/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/net_tree.h: networks, and which of them hold an address: a binary tree in which ways without a branch are one step,
 * so a look-up takes steps by the length of an address, however many networks there are. */
#ifndef LIB_TABLE_NET_TREE_H
#define LIB_TABLE_NET_TREE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct net_prefix {
    unsigned char address[16]; /* an IPv4 address in the first four bytes */
    unsigned bits;             /* of the network */
    bool is_ipv6;
};

/* "192.0.2.0/24", "[2001:db8::]/32", "192.0.2.1". ERR_SYNTAX: what is wrong with it, as Postfix says it. */
int net_prefix_parse(struct slice text, struct net_prefix *, struct err *) MUST_USE;

/* An address alone, in the same form. False: it is none. */
bool net_address_parse(struct slice text, struct net_prefix *);
bool net_prefix_contains(const struct net_prefix *, const struct net_prefix *address);

struct net_tree;
struct net_tree *net_tree_new(struct arena *);

/* Numbers grow from one call to the next. */
void net_tree_add(struct net_tree *, const struct net_prefix *, unsigned number);

/* Calls seen(ctx, number) for each network that holds the address; of networks that are the same, in the order in which they
 * were added, until it returns false for the rest of these. */
void net_tree_find(const struct net_tree *, const struct net_prefix *address, bool (*seen)(void *ctx, unsigned number),
                   void *ctx);

#endif
