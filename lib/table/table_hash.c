/* SPDX-License-Identifier: Apache-2.0 */
/* hash:file and btree:file: FILE.lmdb, as for lmdb:file; where there is none, FILE.db, as Postfix makes it with Berkeley DB, for
 * reading only. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/table/db_file.h"
#include "lib/table/lmdb_make.h"
#include "lib/table/table_type.h"

extern const struct table_ops table_lmdb;

struct table_hash {
    void *lmdb;                  /* NULL: it is FILE.db */
    struct table_memory *memory; /* of FILE.db */
    char *awaited;               /* FILE.lmdb */
    int fd;                      /* FILE.db */
};

static bool
is_there(const char *name, const char *ending)
{
    char *path = NULL;

    if (asprintf(&path, "%s%s", name, ending) < 0)
        fatal("out of memory");
    bool there = access(path, F_OK) == 0 || errno != ENOENT;
    free(path);
    return there;
}

static int
open_db(struct table_hash *table, const struct conf *conf, const char *name, struct table_about *about, struct err *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s.db", name) < 0 || asprintf(&table->awaited, "%s.lmdb", name) < 0)
        fatal("out of memory");
    table->memory = db_file_read(conf, path, &table->fd, err);
    free(path);
    if (table->memory) {
        about->watch_fd = table->fd;
        about->awaited = table->awaited;
        return 0;
    }
    if (is_there(name, ""))
        return err_context(err, "there is no %s (\"postmap %s\" makes it), and %s.db is of another kind",
                           table->awaited, name, name);
    return err_context(err, "there is no %s, and no %s to make it from", table->awaited, name);
}

static void *
hash_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct table_hash *table = calloc(1, sizeof(*table));

    if (!table)
        fatal("out of memory");
    if (is_there(name, ".lmdb") || !is_there(name, ".db")) {
        table->lmdb = table_lmdb.open(conf, name, flags, about, err);
        if (table->lmdb)
            return table;
    } else if (open_db(table, conf, name, about, err) == 0) {
        return table;
    }
    free(table->awaited);
    free(table);
    return NULL;
}

static void
hash_close(void *state)
{
    struct table_hash *table = state;

    if (table->lmdb) {
        table_lmdb.close(table->lmdb);
    } else {
        table_memory_free(table->memory);
        close(table->fd);
    }
    free(table->awaited);
    free(table);
}

static int
hash_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    const struct table_hash *table = state;
    const char *found;

    if (table->lmdb)
        return table_lmdb.find(table->lmdb, arena, key, value, err);
    found = table_memory_find(table->memory, key);
    *value = found ? arena_strdup(arena, found) : NULL;
    return 0;
}

static int
hash_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    const struct table_hash *table = state;

    if (table->lmdb)
        return table_lmdb.next(table->lmdb, arena, first, key, value, err);
    return table_memory_next(table->memory, first, key, value);
}

#define HASH_TYPE(name)                                                                             \
    {                                                                                               \
        .type = name, .open = hash_open, .close = hash_close, .find = hash_find, .next = hash_next, \
        .maker = &lmdb_maker                                                                        \
    }
const struct table_ops table_hash = HASH_TYPE("hash");
const struct table_ops table_btree = HASH_TYPE("btree");
