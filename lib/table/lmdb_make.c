/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/lmdb_make.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/table/key_sort.h"
#include "lib/table/new_file.h"

/* A new table is gathered in memory, sorted, and written in the order of its keys, which LMDB does as fast as the disk takes
 * it. A table that is changed is changed in place, a transaction for each change: those who read it see all or nothing. */
enum {
    KEY_LIMIT = 511, /* LMDB's, less the NUL */
    ENTRIES_PER_COMMIT = 50000,
    READ_AHEAD = 8,
};
#define ROOM_AT_LEAST ((size_t)1 << 20)

struct entry {
    const char *key; /* with its NUL; the value (with its own) behind it */
    uint32_t key_len, value_len;
};

struct lmdb_writer {
    struct new_file file;
    char *path;
    int lock_fd; /* update */
    MDB_env *env;
    MDB_dbi dbi;
    enum table_duplicates duplicates;
    struct arena *arena;
    struct entry *entries;
    size_t count, room, bytes;
    bool updates;
};

static int
failed(const struct lmdb_writer *w, int code, const char *what, struct err *err)
{
    return err_set(err, ERR_IO, "%s: %s: %s", w->path, what, mdb_strerror(code));
}

static void
release(struct lmdb_writer *w)
{
    if (w->env)
        mdb_env_close(w->env);
    if (w->lock_fd >= 0)
        close(w->lock_fd);
    free(w->entries);
    free(w->path);
    arena_free(&w->arena);
    free(w);
}

static struct lmdb_writer *
writer_new(const char *path, enum table_duplicates duplicates)
{
    struct lmdb_writer *w = calloc(1, sizeof *w);

    if (!w || asprintf(&w->path, "%s.lmdb", path) < 0)
        fatal("out of memory");
    w->file.fd = w->lock_fd = -1;
    w->duplicates = duplicates;
    w->arena = arena_new();
    return w;
}

static int
open_env(struct lmdb_writer *w, const char *path, size_t room, unsigned flags, struct err *err)
{
    int code = mdb_env_create(&w->env);

    if (code == 0)
        code = mdb_env_set_mapsize(w->env, room);
    if (code == 0)
        code = mdb_env_open(w->env, path, MDB_NOSUBDIR | MDB_NOLOCK | flags, 0600);
    return code ? failed(w, code, "open", err) : 0;
}

/* ---- a new one ---- */

static void *
lmdb_create(const struct conf *conf, const char *path, mode_t mode, enum table_duplicates duplicates, struct err *err)
{
    struct lmdb_writer *w = writer_new(path, duplicates);

    (void)conf;
    if (new_file_begin(&w->file, path, ".lmdb", mode, err) == 0)
        return w;
    release(w);
    return NULL;
}

static void
gather(struct lmdb_writer *w, struct slice key, struct slice value)
{
    if (w->count == w->room) {
        w->room = w->room ? w->room * 2 : 1024;
        w->entries = reallocarray(w->entries, w->room, sizeof *w->entries);
        if (!w->entries)
            fatal("out of memory");
    }
    char *copy = arena_alloc(w->arena, key.len + value.len + 2);
    memcpy(copy, key.ptr, key.len);
    memcpy(copy + key.len + 1, value.ptr, value.len);
    w->entries[w->count] = (struct entry){copy, (uint32_t)key.len + 1, (uint32_t)value.len + 1};
    w->count++;
    w->bytes += key.len + value.len + 24;
}

static const char *
key_of(const void *ctx, uint32_t index)
{
    const struct lmdb_writer *w = ctx;

    return w->entries[index].key;
}

/* The entries in the order of their keys; NULL: they are. */
static struct key_sort *
sort_entries(const struct lmdb_writer *w)
{
    size_t i = 1;

    while (i < w->count && strcmp(w->entries[i - 1].key, w->entries[i].key) <= 0)
        i++;
    if (i >= w->count)
        return NULL;
    struct key_sort *items = reallocarray(NULL, w->count, 2 * sizeof *items);
    if (!items)
        fatal("out of memory");
    for (i = 0; i < w->count; i++)
        items[i].index = (uint32_t)i;
    key_sort_texts(items, items + w->count, w->count, key_of, w);
    return items;
}

static int
compare_indexes(const void *a, const void *b)
{
    const uint32_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

/* Warns of entries whose key was there already in the order in which they came. */
static void
warn_of_duplicates(const struct lmdb_writer *w, uint32_t *extra, size_t count)
{
    if (count > 0)
        qsort(extra, count, sizeof *extra, compare_indexes);
    for (size_t i = 0; i < count; i++)
        log_warning("%s: duplicate entry: \"%s\"", w->path, w->entries[extra[i]].key);
}

/* The entries in the order of their keys, one of each key. */
static void
put_in_order(struct lmdb_writer *w)
{
    struct key_sort *items = sort_entries(w);
    struct entry *sorted = reallocarray(NULL, w->count + 1, sizeof *sorted);
    uint32_t *extra = NULL;
    size_t kept = 0, dropped = 0;

    if (!sorted)
        fatal("out of memory");
    for (size_t i = 0; i < w->count; i++) {
        uint32_t index = items ? items[i].index : (uint32_t)i;
        if (items && i + READ_AHEAD < w->count)
            __builtin_prefetch(&w->entries[items[i + READ_AHEAD].index]);
        const struct entry *entry = &w->entries[index], *last = kept ? &sorted[kept - 1] : NULL;
        __builtin_prefetch(entry->key);
        if (!last || last->key_len != entry->key_len || memcmp(last->key, entry->key, entry->key_len) != 0) {
            sorted[kept++] = *entry;
            continue;
        }
        if (w->duplicates == TABLE_DUP_REPLACE)
            sorted[kept - 1] = *entry;
        if (w->duplicates != TABLE_DUP_WARN)
            continue;
        if (dropped % 1024 == 0 && !(extra = reallocarray(extra, dropped + 1024, sizeof *extra)))
            fatal("out of memory");
        extra[dropped++] = index;
    }
    warn_of_duplicates(w, extra, dropped);
    free(extra);
    free(items);
    free(w->entries);
    w->entries = sorted;
    w->count = kept;
}

static int
write_some(struct lmdb_writer *w, size_t from, size_t to, struct err *err)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(w->env, NULL, 0, &txn);

    if (code)
        return failed(w, code, "begin", err);
    code = mdb_dbi_open(txn, NULL, 0, &w->dbi);
    for (size_t i = from; i < to && code == 0; i++) {
        struct entry *entry = &w->entries[i];
        if (i + READ_AHEAD < to)
            __builtin_prefetch(w->entries[i + READ_AHEAD].key);
        MDB_val key = {entry->key_len, (void *)(uintptr_t)entry->key};
        MDB_val value = {entry->value_len, (void *)(uintptr_t)(entry->key + entry->key_len)};
        code = mdb_put(txn, w->dbi, &key, &value, MDB_APPEND);
    }
    if (code == 0)
        code = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    return code ? failed(w, code, "write", err) : 0;
}

static int
write_all(struct lmdb_writer *w, struct err *err)
{
    MDB_envinfo info;
    MDB_stat stat;

    if (open_env(w, w->file.tmp_path, w->bytes * 2 + w->count * 64 + ROOM_AT_LEAST, MDB_NOSYNC | MDB_WRITEMAP, err) < 0)
        return -1;
    size_t from = 0;
    do {
        size_t to = w->count - from > ENTRIES_PER_COMMIT ? from + ENTRIES_PER_COMMIT : w->count;
        if (write_some(w, from, to, err) < 0)
            return -1;
        from = to;
    } while (from < w->count);
    int code = mdb_env_info(w->env, &info);
    if (code == 0)
        code = mdb_env_stat(w->env, &stat);
    if (code)
        return failed(w, code, "size", err);
    mdb_env_close(w->env);
    w->env = NULL;
    /* The map was as large as the table could become. */
    if (ftruncate(w->file.fd, (off_t)((info.me_last_pgno + 1) * stat.ms_psize)) < 0)
        return err_errno(err, "truncate %s", w->file.tmp_path);
    return 0;
}

/* ---- changes in place ---- */

static int
lock_for_update(struct lmdb_writer *w, bool create, mode_t mode, struct err *err)
{
    struct stat st;

    w->lock_fd = open(w->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | (create ? O_CREAT : 0), mode);
    if (w->lock_fd < 0)
        return err_errno(err, "open database %s", w->path);
    while (flock(w->lock_fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(err, "lock %s", w->path);
    if (fstat(w->lock_fd, &st) < 0)
        return err_errno(err, "fstat %s", w->path);
    w->bytes = (size_t)st.st_size;
    return S_ISREG(st.st_mode) ? 0 : err_set(err, ERR_PERM, "open database %s: not a regular file", w->path);
}

static void *
lmdb_update(const struct conf *conf, const char *path, bool create, mode_t mode, enum table_duplicates duplicates,
            struct err *err)
{
    struct lmdb_writer *w = writer_new(path, duplicates);
    MDB_txn *txn;

    (void)conf;
    w->updates = true;
    if (lock_for_update(w, create, mode, err) < 0 || open_env(w, w->path, w->bytes * 2 + (64 << 20), 0, err) < 0) {
        release(w);
        return NULL;
    }
    int code = mdb_txn_begin(w->env, NULL, 0, &txn);
    if (code == 0) {
        code = mdb_dbi_open(txn, NULL, 0, &w->dbi);
        if (code == 0)
            code = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    if (code == 0)
        return w;
    failed(w, code, "open", err);
    release(w);
    return NULL;
}

/* One change as a transaction; found may be NULL. */
static int
change(struct lmdb_writer *w, MDB_val *key, MDB_val *value, bool *found, struct err *err)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(w->env, NULL, 0, &txn);

    if (code)
        return failed(w, code, "begin", err);
    if (value)
        code = mdb_put(txn, w->dbi, key, value, w->duplicates == TABLE_DUP_REPLACE ? 0 : MDB_NOOVERWRITE);
    else
        code = mdb_del(txn, w->dbi, key, NULL);
    *found = code == (value ? MDB_KEYEXIST : 0);
    if (code == 0)
        code = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (code == MDB_MAP_FULL) {
        MDB_envinfo info;
        (void)mdb_env_info(w->env, &info);
        code = mdb_env_set_mapsize(w->env, info.me_mapsize * 2);
        return code ? failed(w, code, "grow", err) : change(w, key, value, found, err);
    }
    return code == 0 || code == MDB_KEYEXIST || code == MDB_NOTFOUND ? 0 : failed(w, code, "write", err);
}

/* ---- what the tools call ---- */

static int
put_in_place(struct lmdb_writer *w, struct slice key, struct slice value, struct err *err)
{
    char *copy = arena_strndup(w->arena, key.ptr, key.len);
    MDB_val k = {key.len + 1, copy}, v = {value.len + 1, arena_strndup(w->arena, value.ptr, value.len)};
    bool exists;

    if (change(w, &k, &v, &exists, err) < 0)
        return -1;
    if (exists && w->duplicates == TABLE_DUP_WARN)
        log_warning("%s: duplicate entry: \"%s\"", w->path, copy);
    arena_reset(w->arena);
    return 0;
}

static int
lmdb_put(void *state, struct slice key, struct slice value, struct err *err)
{
    struct lmdb_writer *w = state;

    if (key.len > KEY_LIMIT - 1) {
        log_warning("%s: key of %zu bytes is longer than %d, and is left out: \"%.40s...\"", w->path, key.len,
                    KEY_LIMIT - 1, key.ptr);
        return 0;
    }
    if (value.len > UINT32_MAX / 2 || w->count >= UINT32_MAX)
        return err_set(err, ERR_PERM, "%s: the table is too large", w->path);
    if (w->updates)
        return put_in_place(w, key, value, err);
    gather(w, key, value);
    return 0;
}

static int
lmdb_remove(void *state, struct slice key, bool *found, struct err *err)
{
    struct lmdb_writer *w = state;

    *found = false;
    if (key.len > KEY_LIMIT - 1)
        return 0;
    MDB_val k = {key.len + 1, arena_strndup(w->arena, key.ptr, key.len)};
    int result = change(w, &k, NULL, found, err);
    arena_reset(w->arena);
    return result;
}

static void
lmdb_abandon(void *state)
{
    struct lmdb_writer *w = state;

    if (!w->updates)
        new_file_abandon(&w->file);
    release(w);
}

static int
lmdb_finish(void *state, struct err *err)
{
    struct lmdb_writer *w = state;
    int result = 0;

    if (!w->updates) {
        put_in_order(w);
        if (write_all(w, err) < 0) {
            lmdb_abandon(w);
            return -1;
        }
        result = new_file_commit(&w->file, err);
    }
    release(w);
    return result;
}

const struct table_maker lmdb_maker = {.suffix = ".lmdb",
                                       .create = lmdb_create,
                                       .update = lmdb_update,
                                       .put = lmdb_put,
                                       .remove = lmdb_remove,
                                       .finish = lmdb_finish,
                                       .abandon = lmdb_abandon};
