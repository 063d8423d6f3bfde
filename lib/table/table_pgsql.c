/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL: pgsql_table(5). driver_pgsql.c talks to the servers. */
#include "lib/table/table_source.h"

static const char *const parameters[] = {"hosts",
                                         "user",
                                         "password",
                                         "dbname",
                                         "encoding",
                                         "select_function",
                                         "select_field",
                                         "table",
                                         "where_field",
                                         "additional_conditions",
                                         NULL};

static int
complete(struct source_conf *conf, struct arena *arena, struct err *err)
{
    const char *function = source_conf_get(conf, "select_function");

    source_conf_default(conf, "encoding", "UTF8");
    if (function)
        source_conf_default(conf, "query", arena_printf(arena, "SELECT %s('%%s')", function));
    return source_old_query(conf, arena, err);
}

static const struct source_kind kind = {.type = "pgsql",
                                        .parameters = parameters,
                                        .hosts = "hosts",
                                        .default_host = "localhost",
                                        .query = "query",
                                        .default_timeout = 10,
                                        .complete = complete};

const struct table_ops table_pgsql = {
    .type = "pgsql", .may_block = true, .kind = &kind, .open = source_open, .close = source_close, .find = source_find};
