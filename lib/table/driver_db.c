/* SPDX-License-Identifier: Apache-2.0 */
/* Berkeley DB: files of the types hash and btree that another mail system made. db_file.c calls this in a process that may do
 * nothing else, because the library trusts its files. */
#include <db.h>
#include <stdio.h>
#include <string.h>

#include "lib/table/driver.h"

/* The library's first message says more than its error number. */
static void
keep_message(const DB_ENV *environment, const char *prefix, const char *message)
{
    char *why = environment->app_private;

    (void)prefix;
    if (why[0] == '\0')
        snprintf(why, DRIVER_WHY_SIZE, "%s", message);
}

static int
failure(int result, char *why)
{
    if (why[0] == '\0')
        snprintf(why, DRIVER_WHY_SIZE, "%s", db_strerror(result));
    return -1;
}

/* Of a key that is there more than once the first value counts: keys come together, and in their order. */
static int
give_all(DB *db, const struct driver_pairs *pairs, char *why)
{
    DBC *cursor;
    DBT key = {0}, value = {0};
    int result = db->cursor(db, NULL, &cursor, 0);

    if (result != 0)
        return failure(result, why);
    while ((result = cursor->get(cursor, &key, &value, DB_NEXT_NODUP)) == 0)
        if (pairs->take(pairs->ctx, key.data, key.size, value.data, value.size) < 0) {
            snprintf(why, DRIVER_WHY_SIZE, "what it holds could not be handed on");
            return -1;
        }
    return result == DB_NOTFOUND ? 0 : failure(result, why);
}

static int
read_file(int fd, const struct driver_pairs *pairs, char *why)
{
    char path[40];
    DBTYPE type;
    DB *db;
    int result = db_create(&db, NULL, 0);

    why[0] = '\0';
    if (result != 0)
        return failure(result, why);
    db->get_env(db)->app_private = why;
    db->set_errcall(db, keep_message);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    result = db->open(db, NULL, path, NULL, DB_UNKNOWN, DB_RDONLY, 0);
    if (result == 0)
        result = db->get_type(db, &type);
    if (result != 0)
        return failure(result, why);
    if (type == DB_HASH || type == DB_BTREE)
        return give_all(db, pairs, why);
    snprintf(why, DRIVER_WHY_SIZE, "it is neither a hash nor a btree file");
    return -1;
}

const struct table_file_driver postern_file_driver = {
    .version = TABLE_DRIVER_VERSION, .type = "db", .read_all = read_file};
