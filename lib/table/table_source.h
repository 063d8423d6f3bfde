/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/table_source.h: tables in data bases (mysql, pgsql, sqlite, ldap): what all of them do around a driver.
 *
 * A look-up takes a connection of the table's pool, or makes one, and runs in a thread. Hosts are tried until one answers; one
 * that failed is left alone for a second, then for longer and longer, up to retry_interval. A connection that is found dead is
 * made anew, once. Keys reach a query quoted by the driver and in no other way. Whatever fails is an error, never "not
 * found". */
#ifndef LIB_TABLE_TABLE_SOURCE_H
#define LIB_TABLE_TABLE_SOURCE_H

#include "lib/table/driver.h"
#include "lib/table/source_conf.h"
#include "lib/table/table_type.h"

struct source_kind {
    const char *type;              /* "mysql" */
    const char *const *parameters; /* beside those that all have */
    const char *hosts;             /* the parameter that names servers, "hosts" */
    const char *default_host;
    const char *query; /* the parameter with the query, "query" */
    bool in_order;     /* servers are tried as they are written, not in random order */
    bool one_host;     /* it is a file's name, whatever is in it */
    unsigned default_timeout;

    /* Sets defaults that depend on others, such as the query made from old parameters. */
    int (*complete)(struct source_conf *, struct arena *, struct err *);
};

/* These are in a table_ops whose kind is a source_kind. */
void *source_open(const struct conf *, const char *name, unsigned flags, struct table_about *, struct err *);
void source_close(void *state);
int may_wait source_find(void *state, struct arena *, struct slice key, const char **value, struct err *);

/* The old way to write a query: select_field, table, where_field, additional_conditions. */
int source_old_query(struct source_conf *, struct arena *, struct err *);

#endif
