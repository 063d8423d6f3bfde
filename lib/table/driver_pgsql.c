/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL, through libpq: pgsql_table(5). */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/table/driver.h"
#include "lib/table/driver_host.h"

static const char *
setting(const struct driver_settings *s, const char *name)
{
    return s->get(s->ctx, name);
}

/* The last line end in libpq's texts helps nobody. */
static void
tell(char *why, const char *what, const char *error)
{
    size_t len;

    snprintf(why, DRIVER_WHY_SIZE, "%s: %s", what, error);
    len = strlen(why);
    while (len > 0 && why[len - 1] == '\n')
        why[--len] = '\0';
    for (char *p = why; *p; p++)
        if (*p == '\n' || *p == '\t')
            *p = ' ';
}

static long long
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* ---- connecting ---- */

struct parameters {
    const char *names[10], *values[10];
    unsigned count;
    struct driver_host host;
    char socket_dir[512];
};

static void
add(struct parameters *p, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    p->names[p->count] = name;
    p->values[p->count++] = value;
}

/* "/run/postgresql/.s.PGSQL.5433" is what libpq knows as a directory and a port. */
static void
add_socket(struct parameters *p, const char *path)
{
    const char *base = strstr(path, "/.s.PGSQL.");

    snprintf(p->socket_dir, sizeof(p->socket_dir), "%.*s", (int)(base ? base - path : (long)strlen(path)), path);
    snprintf(p->host.port, sizeof(p->host.port), "%s", base ? base + strlen("/.s.PGSQL.") : "");
    add(p, "host", p->socket_dir);
}

static void
fill(struct parameters *p, const struct driver_settings *s, const char *where, char *timeout)
{
    bool is_uri = strncmp(where, "postgresql://", 13) == 0 || strncmp(where, "postgres://", 11) == 0;

    add(p, "connect_timeout", timeout);
    add(p, "fallback_application_name", "postern");
    add(p, "dbname", is_uri ? where : setting(s, "dbname"));
    add(p, "user", setting(s, "user"));
    add(p, "password", setting(s, "password"));
    add(p, "client_encoding", setting(s, "encoding"));
    if (is_uri)
        return;
    if (strncmp(where, "unix:", 5) == 0)
        add_socket(p, where + 5);
    else if (where[0] == '/')
        add_socket(p, where);
    else
        p->host = driver_host_split(where);
    add(p, "host", p->host.name);
    add(p, "port", p->host.port);
}

static void
ignore_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

static void *
open_connection(const struct driver_settings *s, const char *where, char *why)
{
    struct parameters p = {0};
    char timeout[16];
    PGconn *db;

    snprintf(timeout, sizeof(timeout), "%d", s->timeout < 2 ? 2 : s->timeout);
    fill(&p, s, where, timeout);
    db = PQconnectdbParams(p.names, p.values, 1);
    if (db && PQstatus(db) == CONNECTION_OK) {
        PQsetNoticeProcessor(db, ignore_notice, NULL);
        return db;
    }
    tell(why, "connect", db ? PQerrorMessage(db) : "out of memory");
    PQfinish(db);
    return NULL;
}

static void
close_connection(void *connection)
{
    PQfinish(connection);
}

/* ---- asking ---- */

static size_t
quote(void *connection, const char *text, size_t len, char *out)
{
    int error = 0;
    size_t size = PQescapeStringConn(connection, out, text, len, &error);

    return error ? (size_t)-1 : size;
}

static int
hand_over(const PGresult *rows, const struct driver_sink *sink)
{
    for (int row = 0; row < PQntuples(rows); row++)
        for (int field = 0; field < PQnfields(rows); field++)
            if (sink->take(sink->ctx, PQgetisnull(rows, row, field) ? NULL : PQgetvalue(rows, row, field),
                           (size_t)PQgetlength(rows, row, field)) < 0)
                return -1;
    return 0;
}

/* The next result, or NULL behind the last. *late: it did not come in time. */
static PGresult *
next_result(PGconn *db, long long deadline, bool *late)
{
    while (PQisBusy(db)) {
        struct pollfd fd = {.fd = PQsocket(db), .events = POLLIN};
        long long left = deadline - now_ms();

        if (left <= 0 || fd.fd < 0) {
            *late = true;
            return NULL;
        }
        if (poll(&fd, 1, (int)left) > 0 && !PQconsumeInput(db)) {
            *late = PQstatus(db) == CONNECTION_OK;
            return PQgetResult(db);
        }
    }
    return PQgetResult(db);
}

static enum driver_result
judge(PGconn *db, const PGresult *result, const struct driver_sink *sink, char *why)
{
    ExecStatusType status = PQresultStatus(result);

    if (status == PGRES_TUPLES_OK)
        return hand_over(result, sink) < 0 ? DRIVER_FAILED : DRIVER_OK;
    if (status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY)
        snprintf(why, DRIVER_WHY_SIZE, "query: it gave no result set");
    else
        tell(why, "query", PQresultErrorMessage(result));
    return PQstatus(db) == CONNECTION_OK ? DRIVER_FAILED : DRIVER_LOST;
}

static enum driver_result
query(void *connection, const struct driver_settings *s, const struct driver_query *asked,
      const struct driver_sink *sink, char *why)
{
    long long deadline = now_ms() + s->timeout * 1000LL;
    enum driver_result outcome = DRIVER_OK;
    PGconn *db = connection;
    PGresult *result;
    bool late = false, any = false;

    if (!PQsendQuery(db, asked->text)) {
        tell(why, "query", PQerrorMessage(db));
        return DRIVER_LOST;
    }
    while ((result = next_result(db, deadline, &late))) {
        any = true;
        if (outcome == DRIVER_OK)
            outcome = judge(db, result, sink, why);
        PQclear(result);
        if (PQstatus(db) != CONNECTION_OK)
            break;
    }
    if (!late && any && PQstatus(db) == CONNECTION_OK)
        return outcome;
    if (outcome == DRIVER_OK || why[0] == '\0')
        tell(why, "query", late ? "no answer in time" : PQerrorMessage(db));
    return DRIVER_LOST;
}

const struct table_driver postern_table_driver = {.version = TABLE_DRIVER_VERSION,
                                                  .type = "pgsql",
                                                  .growth = 2,
                                                  .connect = open_connection,
                                                  .close = close_connection,
                                                  .quote = quote,
                                                  .query = query};
