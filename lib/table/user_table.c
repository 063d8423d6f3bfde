/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/user_table.h"

#include <lmdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/text.h"

#define MAP_SIZE ((size_t)1 << 30) /* of address space: room for millions */

struct user_table {
    MDB_env *env;
    MDB_dbi dbi;
    char *path;
};

static int
failed(const struct user_table *table, int code, struct err *err)
{
    return err_set(err, ERR_TEMP, "%s: %s", table->path, mdb_strerror(code));
}

static int
open_env(struct user_table *table, bool write, struct err *err)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (write ? 0 : MDB_NORDAHEAD);
    MDB_txn *txn;
    int code = mdb_env_create(&table->env);

    if (code == 0)
        code = mdb_env_set_mapsize(table->env, MAP_SIZE);
    if (code == 0)
        code = mdb_env_open(table->env, table->path, flags, 0600);
    if (code == 0)
        code = mdb_txn_begin(table->env, NULL, 0, &txn);
    if (code != 0)
        return failed(table, code, err);
    code = mdb_dbi_open(txn, NULL, 0, &table->dbi);
    if (code == 0)
        code = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    return code ? failed(table, code, err) : 0;
}

struct user_table *
user_table_open(const char *path, bool write, struct err *err)
{
    struct user_table *table = calloc(1, sizeof *table);

    if (table)
        table->path = strdup(path);
    if (!table || !table->path)
        fatal("out of memory");
    if (open_env(table, write, err) < 0)
        user_table_close(&table);
    return table;
}

void
user_table_close(struct user_table **at)
{
    struct user_table *table = *at;

    if (!table)
        return;
    if (table->env)
        mdb_env_close(table->env);
    free(table->path);
    free(table);
    *at = NULL;
}

bool
user_table_name_is_valid(struct slice name)
{
    if (name.len == 0 || name.len > USER_NAME_SIZE || !text_is_utf8(name))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] <= ' ' || name.ptr[i] == 127 || name.ptr[i] == ':' || name.ptr[i] == '/')
            return false;
    return true;
}

/* The key in folded, which holds USER_NAME_SIZE bytes. */
static bool
make_key(struct slice name, char *folded, MDB_val *key)
{
    if (!user_table_name_is_valid(name))
        return false;
    memcpy(folded, name.ptr, name.len);
    text_lower_all(folded, name.len);
    *key = (MDB_val){.mv_size = name.len, .mv_data = folded};
    return true;
}

int
user_table_get(struct user_table *table, struct arena *arena, struct slice name, const char **record, struct err *err)
{
    char folded[USER_NAME_SIZE];
    MDB_val key, value;
    MDB_txn *txn;

    *record = NULL;
    if (!make_key(name, folded, &key))
        return 0;
    int code = mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return failed(table, code, err);
    code = mdb_get(txn, table->dbi, &key, &value);
    if (code == 0)
        *record = arena_strndup(arena, value.mv_data, value.mv_size);
    mdb_txn_abort(txn);
    return code == 0 || code == MDB_NOTFOUND ? 0 : failed(table, code, err);
}

int
user_table_set(struct user_table *table, struct slice name, const char *record, struct err *err)
{
    char folded[USER_NAME_SIZE];
    MDB_val key, value = {.mv_size = strlen(record), .mv_data = (void *)(uintptr_t)record};
    MDB_txn *txn;

    if (!make_key(name, folded, &key))
        return err_set(err, ERR_SYNTAX, "not a name for a user: %.*s", SLICE_ARG(name));
    int code = mdb_txn_begin(table->env, NULL, 0, &txn);
    if (code != 0)
        return failed(table, code, err);
    code = mdb_put(txn, table->dbi, &key, &value, 0);
    if (code == 0)
        code = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    return code ? failed(table, code, err) : 0;
}

int
user_table_delete(struct user_table *table, struct slice name, bool *found, struct err *err)
{
    char folded[USER_NAME_SIZE];
    MDB_val key;
    MDB_txn *txn;

    *found = false;
    if (!make_key(name, folded, &key))
        return 0;
    int code = mdb_txn_begin(table->env, NULL, 0, &txn);
    if (code != 0)
        return failed(table, code, err);
    code = mdb_del(txn, table->dbi, &key, NULL);
    if (code != 0) {
        mdb_txn_abort(txn);
        return code == MDB_NOTFOUND ? 0 : failed(table, code, err);
    }
    *found = true;
    code = mdb_txn_commit(txn);
    return code ? failed(table, code, err) : 0;
}

int
user_table_each(struct user_table *table, bool (*fn)(void *ctx, struct slice name, const char *record), void *ctx,
                struct err *err)
{
    struct arena *arena = arena_new();
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    MDB_txn *txn;
    int code = mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn);

    if (code == 0) {
        code = mdb_cursor_open(txn, table->dbi, &cursor);
        while (code == 0 && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
            if (!fn(ctx, slice_make(key.mv_data, key.mv_size), arena_strndup(arena, value.mv_data, value.mv_size)))
                break;
        if (cursor)
            mdb_cursor_close(cursor);
        mdb_txn_abort(txn);
    }
    arena_free(&arena);
    return code == 0 || code == MDB_NOTFOUND ? 0 : failed(table, code, err);
}
