/* SPDX-License-Identifier: Apache-2.0 */
/* MySQL and MariaDB, through their client library: mysql_table(5). */
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/table/driver.h"
#include "lib/table/driver_host.h"

static const char *
setting(const struct driver_settings *s, const char *name)
{
    return s->get(s->ctx, name);
}

/* NULL where the library wants no value. */
static const char *
or_null(const char *text)
{
    return text && *text ? text : NULL;
}

static int
start(const struct driver_settings *s, char *why)
{
    (void)s;
    if (mysql_library_init(0, NULL, NULL) == 0)
        return 0;
    snprintf(why, DRIVER_WHY_SIZE, "the MySQL library can't be initialised");
    return -1;
}

static void
set_options(MYSQL *db, const struct driver_settings *s)
{
    unsigned timeout = (unsigned)s->timeout;
    const char *file = or_null(setting(s, "option_file")), *group = or_null(setting(s, "option_group"));
    my_bool verify = strcasecmp(setting(s, "tls_verify_cert"), "yes") == 0;

    mysql_options(db, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_OPT_READ_TIMEOUT, &timeout);
    mysql_options(db, MYSQL_OPT_WRITE_TIMEOUT, &timeout);
    if (file)
        mysql_options(db, MYSQL_READ_DEFAULT_FILE, file);
    if (group)
        mysql_options(db, MYSQL_READ_DEFAULT_GROUP, group);
    mysql_options(db, MYSQL_SET_CHARSET_NAME, setting(s, "charset"));
    if (or_null(setting(s, "tls_key_file")) || or_null(setting(s, "tls_cert_file")) ||
        or_null(setting(s, "tls_CAfile")) || or_null(setting(s, "tls_CApath")) || or_null(setting(s, "tls_ciphers")))
        mysql_ssl_set(db, or_null(setting(s, "tls_key_file")), or_null(setting(s, "tls_cert_file")),
                      or_null(setting(s, "tls_CAfile")), or_null(setting(s, "tls_CApath")),
                      or_null(setting(s, "tls_ciphers")));
    if (or_null(setting(s, "tls_verify_cert")))
        mysql_options(db, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
}

static bool
log_in(MYSQL *db, const struct driver_settings *s, const char *where)
{
    bool is_unix = strncmp(where, "unix:", 5) == 0;
    struct driver_host host = driver_host_split(is_unix ? "localhost" : where);

    return mysql_real_connect(db, host.name, or_null(setting(s, "user")), or_null(setting(s, "password")),
                              or_null(setting(s, "dbname")), (unsigned)strtoul(host.port, NULL, 10),
                              is_unix ? where + 5 : NULL, CLIENT_MULTI_RESULTS);
}

static void *
open_connection(const struct driver_settings *s, const char *where, char *why)
{
    MYSQL *db;

    mysql_thread_init();
    db = mysql_init(NULL);
    if (!db) {
        snprintf(why, DRIVER_WHY_SIZE, "out of memory");
        return NULL;
    }
    set_options(db, s);
    if (log_in(db, s, where))
        return db;
    snprintf(why, DRIVER_WHY_SIZE, "connect: %s", mysql_error(db));
    mysql_close(db);
    return NULL;
}

static void
close_connection(void *connection)
{
    mysql_thread_init();
    mysql_close(connection);
}

/* Knows the connection's character set and whether the server takes a backslash for an escape. */
static size_t
quote(void *connection, const char *text, size_t len, char *out)
{
    return mysql_real_escape_string(connection, out, text, len);
}

/* After most errors nobody knows what else the server would send; those of the statement itself leave the connection as it was. */
static enum driver_result
broken(MYSQL *db, char *why)
{
    unsigned code = mysql_errno(db);

    snprintf(why, DRIVER_WHY_SIZE, "query: %s", mysql_error(db));
    return code >= 1000 && code < 2000 && strcmp(mysql_sqlstate(db), "08S01") != 0 ? DRIVER_FAILED : DRIVER_LOST;
}

static int
hand_over(MYSQL_RES *rows, const struct driver_sink *sink)
{
    unsigned fields = mysql_num_fields(rows);
    MYSQL_ROW row;

    while ((row = mysql_fetch_row(rows))) {
        const unsigned long *lengths = mysql_fetch_lengths(rows);

        for (unsigned i = 0; i < fields; i++)
            if (sink->take(sink->ctx, row[i], row[i] ? lengths[i] : 0) < 0)
                return -1;
    }
    return 0;
}

/* A procedure gives its result sets, of which there may be one, and its status behind them. */
static enum driver_result
take_results(MYSQL *db, const struct driver_sink *sink, bool needs_result, char *why)
{
    unsigned sets = 0;
    int more, refused = 0;

    do {
        MYSQL_RES *rows = mysql_store_result(db);

        if (!rows && mysql_errno(db))
            return broken(db, why);
        if (rows && ++sets == 1)
            refused = hand_over(rows, sink);
        if (rows)
            mysql_free_result(rows);
        more = mysql_next_result(db);
    } while (more == 0);
    if (more > 0)
        return broken(db, why);
    if (sets > 1)
        snprintf(why, DRIVER_WHY_SIZE, "the query gave more than one result set");
    else if (sets == 0 && needs_result)
        snprintf(why, DRIVER_WHY_SIZE, "the query gave no result set");
    else
        return refused ? DRIVER_FAILED : DRIVER_OK;
    return DRIVER_FAILED;
}

static enum driver_result
query(void *connection, const struct driver_settings *s, const struct driver_query *asked,
      const struct driver_sink *sink, char *why)
{
    mysql_thread_init();
    if (mysql_real_query(connection, asked->text, strlen(asked->text)) != 0)
        return broken(connection, why);
    return take_results(connection, sink, strcasecmp(setting(s, "require_result_set"), "no") != 0, why);
}

const struct table_driver postern_table_driver = {.version = TABLE_DRIVER_VERSION,
                                                  .type = "mysql",
                                                  .growth = 2,
                                                  .start = start,
                                                  .connect = open_connection,
                                                  .close = close_connection,
                                                  .quote = quote,
                                                  .query = query};
