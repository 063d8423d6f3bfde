/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite: sqlite_table(5). driver_sqlite.c talks to the file. */
#include "lib/table/table_source.h"

static const char *const parameters[] = {"dbpath",      "select_field",          "table",
                                         "where_field", "additional_conditions", NULL};

static const struct source_kind kind = {.type = "sqlite",
                                        .parameters = parameters,
                                        .hosts = "dbpath",
                                        .default_host = "",
                                        .query = "query",
                                        .default_timeout = 10,
                                        .one_host = true,
                                        .complete = source_old_query};

const struct table_ops table_sqlite = {.type = "sqlite",
                                       .may_block = true,
                                       .kind = &kind,
                                       .open = source_open,
                                       .close = source_close,
                                       .find = source_find};
