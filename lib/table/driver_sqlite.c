/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite: sqlite_table(5). The data base is opened for reading only. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/table/driver.h"

enum { STEPS_BETWEEN_LOOKS = 10000 };

struct connection {
    sqlite3 *db;
    char *path;
    dev_t device;
    ino_t inode;
    time_t deadline;
};

static time_t
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static int
is_too_late(void *arg)
{
    const struct connection *c = arg;

    return now() > c->deadline;
}

static void
close_connection(void *connection)
{
    struct connection *c = connection;

    sqlite3_close(c->db);
    free(c->path);
    free(c);
}

static bool
open_file(struct connection *c, char *why)
{
    struct stat st;

    if (stat(c->path, &st) < 0) {
        snprintf(why, DRIVER_WHY_SIZE, "open: there is no such file, or it is out of reach");
        return false;
    }
    c->device = st.st_dev;
    c->inode = st.st_ino;
    if (sqlite3_open_v2(c->path, &c->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK)
        return true;
    snprintf(why, DRIVER_WHY_SIZE, "open: %s", c->db ? sqlite3_errmsg(c->db) : "out of memory");
    return false;
}

static void *
open_connection(const struct driver_settings *s, const char *path, char *why)
{
    struct connection *c = calloc(1, sizeof(*c));

    if (!c || !(c->path = strdup(path))) {
        free(c);
        snprintf(why, DRIVER_WHY_SIZE, "out of memory");
        return NULL;
    }
    if (!open_file(c, why)) {
        close_connection(c);
        return NULL;
    }
    sqlite3_busy_timeout(c->db, s->timeout * 1000);
    sqlite3_progress_handler(c->db, STEPS_BETWEEN_LOOKS, is_too_late, c);
    return c;
}

/* In SQLite's strings nothing but the quote itself has a meaning. */
static size_t
quote(void *connection, const char *text, size_t len, char *out)
{
    char *end = out;

    (void)connection;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\'')
            *end++ = '\'';
        *end++ = text[i];
    }
    return (size_t)(end - out);
}

static enum driver_result
step_all(struct connection *c, sqlite3_stmt *statement, const struct driver_sink *sink, char *why)
{
    int result;

    while ((result = sqlite3_step(statement)) == SQLITE_ROW)
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const char *text = (const char *)sqlite3_column_text(statement, i);

            if (sink->take(sink->ctx, text, (size_t)sqlite3_column_bytes(statement, i)) < 0)
                return DRIVER_FAILED;
        }
    if (result == SQLITE_DONE)
        return DRIVER_OK;
    snprintf(why, DRIVER_WHY_SIZE, "query: %s", sqlite3_errmsg(c->db));
    return result == SQLITE_BUSY || result == SQLITE_LOCKED || result == SQLITE_INTERRUPT ? DRIVER_FAILED : DRIVER_LOST;
}

/* A file that was put in the old one's place is another data base. */
static bool
is_replaced(const struct connection *c)
{
    struct stat st;

    return stat(c->path, &st) < 0 || st.st_dev != c->device || st.st_ino != c->inode;
}

static enum driver_result
query(void *connection, const struct driver_settings *s, const struct driver_query *asked,
      const struct driver_sink *sink, char *why)
{
    struct connection *c = connection;
    sqlite3_stmt *statement = NULL;
    enum driver_result outcome;
    const char *rest = "";

    if (is_replaced(c)) {
        snprintf(why, DRIVER_WHY_SIZE, "the file was replaced");
        return DRIVER_LOST;
    }
    c->deadline = now() + s->timeout;
    if (sqlite3_prepare_v2(c->db, asked->text, -1, &statement, &rest) != SQLITE_OK || !statement) {
        snprintf(why, DRIVER_WHY_SIZE, "query: %s", sqlite3_errmsg(c->db));
        return sqlite3_errcode(c->db) == SQLITE_ERROR ? DRIVER_FAILED : DRIVER_LOST;
    }
    outcome = step_all(c, statement, sink, why);
    sqlite3_finalize(statement);
    return outcome;
}

const struct table_driver postern_table_driver = {.version = TABLE_DRIVER_VERSION,
                                                  .type = "sqlite",
                                                  .growth = 2,
                                                  .connect = open_connection,
                                                  .close = close_connection,
                                                  .quote = quote,
                                                  .query = query};
