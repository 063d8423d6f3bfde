/* SPDX-License-Identifier: Apache-2.0 */
/* Berkeley DB: files of the types hash and btree that another mail system made. db_file.c calls this in a process that may do
 * nothing else, because the library trusts its files. */
#include <db.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
new_handle(DB **db, char *why)
{
    int result = db_create(db, NULL, 0);

    if (result != 0)
        return failure(result, why);
    (*db)->get_env(*db)->app_private = why;
    (*db)->set_errcall(*db, keep_message);
    return 0;
}

/* Places within a page that lead out of it would give keys that are not there, or none, by what lies in memory behind. */
static int
verify(int fd, const char *path, char *why)
{
    struct stat st;
    DB *db;

    if (new_handle(&db, why) < 0)
        return -1;
    /* The library notes what it has seen, and is not to write that into a file. */
    if (fstat(fd, &st) == 0)
        (void)db->set_cachesize(db, (uint32_t)(st.st_size >> 29),
                                ((uint32_t)st.st_size & ((1U << 29) - 1)) * 2 + (4U << 20), 1);
    int result = db->verify(db, path, NULL, NULL, 0); /* ends the handle */
    return result == 0 ? 0 : failure(result, why);
}

static int
read_file(int fd, const struct driver_pairs *pairs, char *why)
{
    char path[40];
    DBTYPE type;
    DB *db;

    why[0] = '\0';
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (verify(fd, path, why) < 0 || new_handle(&db, why) < 0)
        return -1;
    int result = db->open(db, NULL, path, NULL, DB_UNKNOWN, DB_RDONLY, 0);
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
