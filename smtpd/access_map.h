/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/access_map.h: the left-hand sides of access(5): which keys of a table are asked for a host, an address, a mail
 * address, from the whole to its parts. The first that the table knows decides, and what it says is done. */
#ifndef SMTPD_ACCESS_MAP_H
#define SMTPD_ACCESS_MAP_H

#include "smtpd/restrict.h"

/* What is looked up where, and how it is called in replies. */
struct access_query {
    struct access_check *check;
    const char *table;
    const char *subject, *kind; /* "a@b", "Sender address" */
};

/* *found: the table has an entry, and the result is what it says; else ACCESS_DUNNO. A failed look-up refuses for now, and
 * counts as found. */
enum access may_wait access_map_text(const struct access_query *, const char *key, bool *found);
enum access may_wait access_map_domain(const struct access_query *, const char *domain, bool *found);
enum access may_wait access_map_host_address(const struct access_query *, const char *address, bool *found);
enum access may_wait access_map_mail_address(const struct access_query *, const char *address, bool *found);

/* For what anybody can make up (a name that is not confirmed, servers of a domain): a result that permits counts as DUNNO, and the
 * log says so. */
enum access access_map_no_permit(const struct access_query *, enum access result);

#endif
