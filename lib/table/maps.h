/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/maps.h: the value of a ..._maps parameter: tables that are asked in turn until one knows the key; and the
 * order in which an address is looked up. */
#ifndef LIB_TABLE_MAPS_H
#define LIB_TABLE_MAPS_H

#include "lib/table/table.h"

struct maps;

/* text: the parameter's value, "type:name" divided by commas or blanks, { } around those that hold either. The list lives
 * in the arena; parameter is kept for messages. Never fails for a table that can't be opened (table_open_late()); NULL
 * for a value that makes no sense. */
struct maps *maps_new(struct arena *, const struct conf *, const char *parameter, const char *text, unsigned flags,
                      struct err *) MUST_USE;

bool maps_is_empty(const struct maps *);

/* For a command that explains: fn is told of each question to a table, and of the answer (NULL: not found). NULL: nobody. */
void maps_watch(void (*fn)(void *ctx, const char *parameter, const struct table *, struct slice key, const char *value),
                void *ctx);
struct table *maps_table(const struct maps *, size_t index); /* in order; NULL behind the last: aliases need the owner */

/* The first table that knows the key decides. *value NULL: none does. */
int may_wait maps_find(const struct maps *, struct arena *, struct slice key, const char **value,
                       struct err *) MUST_USE;

/* An address: user+extension@domain, user@domain, user+extension and user (if the domain is one of ours: is_ours, may be
 * NULL), @domain, as virtual(5), canonical(5) and access(5) document; the forms to be asked are flags. Tables of patterns
 * are asked the whole address only. Forms are asked in the order of full, bare, local, user@, @domain; each of all tables
 * before the next. *extension: what was left off ("+ext" with its delimiter; "" if nothing), to be propagated by the
 * caller. */
enum {
    MAPS_FULL = 1,      /* user+ext@domain, then user@domain */
    MAPS_LOCAL = 2,     /* user+ext, user: where is_ours says so */
    MAPS_DOMAIN = 4,    /* @domain */
    MAPS_BARE = 8,      /* domain, then its parents (.domain, or domain with MAPS_SUBDOMAINS): transport(5), access(5) */
    MAPS_SUBDOMAINS = 16,
    MAPS_USER_AT = 32,  /* user@ : access(5) */
};
struct maps_ours {
    int (*is_ours)(void *ctx, struct slice domain, bool *, struct err *);
    void *ctx;
};
int may_wait maps_find_address(const struct maps *, struct arena *, struct slice address, const char *delimiters,
                               unsigned forms, const struct maps_ours *, const char **value, const char **extension,
                               struct err *) MUST_USE;

#endif
