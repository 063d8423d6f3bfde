/* SPDX-License-Identifier: Apache-2.0 */
/* tools/postconf_names.h: which parameters there are besides the table's. Transports have some of their own (from master.cf);
 * tables of databases that are described in main.cf have some; and an administrator's own exist as long as some value
 * mentions them. */
#ifndef TOOLS_POSTCONF_NAMES_H
#define TOOLS_POSTCONF_NAMES_H

#include <stdbool.h>

#include "lib/base/map.h"
#include "tools/postconf.h"

struct references {
    struct postconf *pc;
    struct map *used;      /* names that are not in the table and that main.cf's values, or -o values, mention */
    struct map *local;     /* "SERVICE-INDEX NAME": mentioned by a -o value of the service which sets it itself */
    struct map *told;      /* warnings, so that each comes once */
    const char **warnings; /* what is wrong: names that nothing sets, and files of tables */
    size_t warning_count;
};

/* Walks over all values. A value that can't be understood ends the program with Postfix's message. */
void references_collect(struct references *, struct postconf *);
void references_release(struct references *);

bool references_is_used(const struct references *, const char *name);
bool references_is_used_by(const struct references *, size_t service, const char *name);

/* The table's, or a transport's. */
bool postconf_is_known(const struct postconf *, const char *name);
bool postconf_is_service_parameter(const struct postconf *, const char *name);
/* May a service have a parameter with this ending ("_time_limit")? */
bool postconf_has_family(const struct master_service *, const char *suffix);

/* Looks into the files of SQL and LDAP tables that the value mentions, and notes which parameters of main.cf describe tables
 * (postconf_databases.c). */
void references_note_tables(struct references *, const char *value);
void references_warn(struct references *, const char *text);

/* The name of the table that is nearest to a misspelt one; NULL if none is near. */
const char *postconf_nearest(const char *name);

#endif
