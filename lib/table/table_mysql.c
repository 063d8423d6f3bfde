/* SPDX-License-Identifier: Apache-2.0 */
/* MySQL and MariaDB: mysql_table(5). driver_mysql.c talks to the servers. */
#include "lib/table/table_source.h"

static const char *const parameters[] = {"hosts",
                                         "user",
                                         "password",
                                         "dbname",
                                         "charset",
                                         "option_file",
                                         "option_group",
                                         "tls_cert_file",
                                         "tls_key_file",
                                         "tls_CAfile",
                                         "tls_CApath",
                                         "tls_ciphers",
                                         "tls_verify_cert",
                                         "select_field",
                                         "table",
                                         "where_field",
                                         "additional_conditions",
                                         NULL};

static int
complete(struct source_conf *conf, struct arena *arena, struct err *err)
{
    static const char *const switches[] = {"tls_verify_cert", "require_result_set"};
    bool ignored;

    for (size_t i = 0; i < ARRAY_LEN(switches); i++)
        if (source_conf_bool(conf, switches[i], false, &ignored, err) < 0)
            return -1;
    source_conf_default(conf, "charset", "utf8mb4");
    source_conf_default(conf, "option_group", "client");
    return source_old_query(conf, arena, err);
}

static const struct source_kind kind = {.type = "mysql",
                                        .parameters = parameters,
                                        .hosts = "hosts",
                                        .default_host = "localhost",
                                        .query = "query",
                                        .default_timeout = 10,
                                        .complete = complete};

const struct table_ops table_mysql = {
    .type = "mysql", .may_block = true, .kind = &kind, .open = source_open, .close = source_close, .find = source_find};
