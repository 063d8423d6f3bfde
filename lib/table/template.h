/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/template.h: texts with %s %u %d %S %U %D %1 to %9, as mysql_table(5), ldap_table(5) and memcache_table(5)
 * document them. */
#ifndef LIB_TABLE_TEMPLATE_H
#define LIB_TABLE_TEMPLATE_H

#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

/* A key or a value, taken apart. */
struct template_parts {
    struct slice whole, user, domain; /* no '@': user is the whole, domain has a NULL ptr */
};
struct template_parts template_parts(struct slice);

/* -1: a letter that means nothing; err says which. */
int template_check(const char *text, struct err *) MUST_USE;

/* Does it have %s, %u, %d, or their like? */
bool template_has_key(const char *text);

/* Appends a quoted piece. -1: it can't be quoted. */
struct template_quote {
    int (*append)(void *ctx, struct slice piece, struct buf *out);
    void *ctx;
};

/* value: what the small letters stand for; key: the capitals and digits. quote NULL: as it is. TEMPLATE_NOTHING: a part that the
 * text needs is not there, so that there is nothing to ask or to answer; out is as it was. */
enum template_result { TEMPLATE_DONE, TEMPLATE_NOTHING, TEMPLATE_BAD };
enum template_result template_expand(const char *text, const struct template_parts *value,
                                     const struct template_parts *key, const struct template_quote *, struct buf *out);

#endif
