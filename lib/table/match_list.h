/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/match_list.h: lists of domains, hosts and networks, as mynetworks, mydestination, relay_domains have them.
 *
 * Items are divided by commas or blanks, and the first that matches decides:
 *   example.com            the domain; with MATCH_SUBDOMAINS also all below it
 *   .example.com           all below the domain
 *   192.0.2.1  192.0.2.0/24  [2001:db8::1]  [2001:db8::]/32    hosts and networks
 *   /file/name             the items in that file (one or more a line, # begins a comment); read when the list is made
 *   type:name              a look-up table: the domain or the host is in the list if it is a key of the table; values don't
 *                          matter. With MATCH_SUBDOMAINS parent domains are asked, too; of a host the name and the address
 *   !item                  what matches the item is not in the list
 * A list never changes after it was made (tables do) and may be shared by all tasks. A table that can't be asked is a
 * temporary error, never a "no"; what stands before it in the list is not harmed. */
#ifndef LIB_TABLE_MATCH_LIST_H
#define LIB_TABLE_MATCH_LIST_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/conf.h"
#include "lib/run/net.h"

struct match_list;

enum { MATCH_SUBDOMAINS = 1 };

/* parameter: its name, for errors; kept, not copied. The list lives in the arena. conf: for the tables in it. NULL
 * (ERR_SYNTAX, ERR_IO): an item that makes no sense, host bits that its network mask does not cover, a file that can't be
 * read. A table that does not open is logged, and an error when it is reached. */
struct match_list *match_list_new(struct arena *, const struct conf *conf, const char *parameter, const char *text,
                                  unsigned flags, struct err *) MUST_USE;

/* The same for a text that stands for one item or several, asked for any text (user names, ciphers): no networks, and case
 * matters. For authorized_mailq_users and the like. */
int may_wait match_list_text(const struct match_list *, struct slice text, bool *found, struct err *) MUST_USE;

/* Is the domain in the list? -1: a look-up failed (ERR_TEMP): defer. */
int may_wait match_list_domain(const struct match_list *, struct slice domain, bool *found, struct err *) MUST_USE;

/* Is the host in the list, by its address or by its name? name is "" (or "unknown") if there is none. */
int may_wait match_list_host(const struct match_list *, struct slice name, const struct net_addr *, bool *found,
                             struct err *) MUST_USE;

bool match_list_is_empty(const struct match_list *);

/* MATCH_SUBDOMAINS if the parameter stands in parent_domain_matches_subdomains, else 0. */
unsigned match_list_flags(const char *parent_domain_matches_subdomains, const char *parameter);

#endif
