/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/addr_map.h: tables that say what an address becomes: canonical(5), virtual(5), generic(5). */
#ifndef LIB_MAIL_ADDR_MAP_H
#define LIB_MAIL_ADDR_MAP_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/settings_rewrite.h"
#include "lib/mail/addr_class.h"
#include "lib/table/maps.h"

/* What every look-up needs: how addresses are completed, which domains are ours, and what divides user and extension. */
struct addr_map_rules {
    const struct rewrite_settings *form;
    const struct classes *classes;
};

/* Makes rules that live as long as the process (interfaces are looked up). */
int addr_map_rules_load(struct arena *, const struct conf *, struct addr_map_rules *, struct err *) MUST_USE;

/* Is the word ("canonical", "virtual", "generic"...) in propagate_unmatched_extensions? */
bool addr_map_propagates(const char *propagate_unmatched_extensions, const char *word);

/* Looks the address (raw form, complete) up in all its forms. *count 0: no table knows it. Results are complete, in raw
 * form, with the extension appended that the key left off, if propagate; "@domain" keeps the local part. A result that
 * holds no address at all counts as not found. ERR_TEMP: a table failed. */
int may_wait addr_map_find(struct arena *, const struct addr_map_rules *, const struct maps *, const char *address,
                           bool propagate, const char *const **results, unsigned *count, struct err *) MUST_USE;

/* The addresses in a text as it stands on the right of a table, complete. */
unsigned addr_map_parse(struct arena *, const struct addr_map_rules *, const char *text, const char *const **results);

/* An address from a header or a table, complete. */
struct header_addr;
const char *addr_map_complete(struct arena *, const struct rewrite_settings *, const struct header_addr *);

#endif
