/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/match_list.h: lists of domains, hosts and networks, as mynetworks, mydestination, relay_domains have them.
 *
 * Items are divided by commas or blanks, and the first that matches decides:
 *   example.com            the domain; with MATCH_SUBDOMAINS also all below it
 *   .example.com           all below the domain
 *   192.0.2.1  192.0.2.0/24  [2001:db8::1]  [2001:db8::]/32    hosts and networks
 *   /file/name             the items in that file (one or more a line, # begins a comment); read when the list is made
 *   type:name              a look-up table (see below)
 *   !item                  what matches the item is not in the list
 * A list never changes after it was made and may be shared by all tasks.
 *
 * Tables are not looked up yet: to reach one is a temporary error, as when its server were down. It is never a "no". */
#ifndef LIB_TABLE_MATCH_LIST_H
#define LIB_TABLE_MATCH_LIST_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/net.h"

struct match_list;

enum { MATCH_SUBDOMAINS = 1 };

/* parameter: its name, for errors; kept, not copied. The list lives in the arena. NULL (ERR_SYNTAX, ERR_IO): an item
 * that makes no sense, host bits that its network mask does not cover, a file that can't be read. */
struct match_list *match_list_new(struct arena *, const char *parameter, const char *text, unsigned flags,
                                  struct err *) MUST_USE;

/* Is the domain in the list? -1: a look-up failed (ERR_TEMP): defer. */
int may_wait match_list_domain(const struct match_list *, struct slice domain, bool *found, struct err *) MUST_USE;

/* Is the host in the list, by its address or by its name? name is "" (or "unknown") if there is none. */
int may_wait match_list_host(const struct match_list *, struct slice name, const struct net_addr *, bool *found,
                             struct err *) MUST_USE;

bool match_list_is_empty(const struct match_list *);

/* MATCH_SUBDOMAINS if the parameter stands in parent_domain_matches_subdomains, else 0. */
unsigned match_list_flags(const char *parent_domain_matches_subdomains, const char *parameter);

#endif
