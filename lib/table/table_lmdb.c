/* SPDX-License-Identifier: Apache-2.0 */
/* lmdb:file: FILE.lmdb, in the form that Postfix's lmdb tables have (keys and values with a NUL behind them; without is read,
 * too). table_hash.c has hash:file and btree:file, which are mostly the same. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/table/lmdb_make.h"
#include "lib/table/lmdb_read.h"
#include "lib/table/table_type.h"

enum { KEY_LIMIT = 511 };

struct table_lmdb {
    struct lmdb_read db;
    char *path;
    enum { NUL_UNKNOWN, NUL_IS_THERE, NUL_IS_NOT_THERE } nul;
    struct buf last; /* key that next() gave last, as it is in the file */
};

/* What to do where there is a table of Berkeley DB, and not ours. */
static int
explain_missing(const char *path, const char *name, struct err *err)
{
    int why = errno;
    char *other = NULL;

    if (asprintf(&other, "%s.db", name) < 0)
        fatal("out of memory");
    bool has_other = why == ENOENT && access(other, F_OK) == 0;
    errno = why;
    if (has_other)
        err_errno(err, "open database %s (%s is of another kind: run \"postmap %s\" to make one)", path, other, name);
    else
        err_errno(err, "open database %s", path);
    free(other);
    return -1;
}

static void *
lmdb_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct table_lmdb *table = calloc(1, sizeof *table);

    (void)conf, (void)flags;
    if (!table || asprintf(&table->path, "%s.lmdb", name) < 0)
        fatal("out of memory");
    int fd = open(table->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = fd < 0 ? explain_missing(table->path, name, err) : lmdb_read_init(&table->db, fd, err);
    if (fd >= 0 && result < 0)
        err_context(err, "open database %s", table->path);
    if (result < 0) {
        free(table->path);
        free(table);
        return NULL;
    }
    about->watch_fd = fd;
    about->reads_live = true;
    return table;
}

static void
lmdb_close(void *state)
{
    struct table_lmdb *table = state;

    lmdb_read_release(&table->db);
    buf_release(&table->last);
    free(table->path);
    free(table);
}

static int
learn_nul(struct table_lmdb *table, struct arena *arena, struct err *err)
{
    struct slice key, value;

    if (lmdb_read_after(&table->db, arena, slice_make(NULL, 0), &key, &value, err) < 0)
        return -1;
    if (key.ptr)
        table->nul = key.len > 0 && key.ptr[key.len - 1] == '\0' ? NUL_IS_THERE : NUL_IS_NOT_THERE;
    return 0;
}

static int
take_value(const struct table_lmdb *table, struct slice value, const char **text, struct err *err)
{
    if (value.len > 0 && value.ptr[value.len - 1] == '\0')
        value.len--;
    if (memchr(value.ptr, '\0', value.len))
        return err_set(err, ERR_PERM, "%s: a value has a NUL in it", table->path);
    *text = value.ptr; /* arena_slice() put a NUL behind it */
    return 0;
}

static int
lmdb_find(void *state, struct arena *arena, struct slice key, const char **text, struct err *err)
{
    struct table_lmdb *table = state;
    struct slice value;
    char with_nul[KEY_LIMIT + 1];

    if (key.len > KEY_LIMIT)
        return 0; /* none is that long */
    if (table->nul == NUL_UNKNOWN && learn_nul(table, arena, err) < 0)
        return err_context(err, "%s", table->path);
    memcpy(with_nul, key.ptr, key.len);
    with_nul[key.len] = '\0';
    key = slice_make(with_nul, key.len + (table->nul == NUL_IS_THERE));
    if (lmdb_read_find(&table->db, arena, key, &value, err) < 0)
        return err_context(err, "%s", table->path);
    return value.ptr ? take_value(table, value, text, err) : 0;
}

static int
lmdb_next(void *state, struct arena *arena, bool first, struct slice *key, const char **text, struct err *err)
{
    struct table_lmdb *table = state;
    struct slice value;

    if (lmdb_read_after(&table->db, arena, first ? slice_make(NULL, 0) : buf_slice(&table->last), key, &value, err) < 0)
        return err_context(err, "%s", table->path);
    if (!key->ptr)
        return 0;
    buf_clear(&table->last);
    buf_append_slice(&table->last, *key);
    if (key->len > 0 && key->ptr[key->len - 1] == '\0')
        key->len--;
    return take_value(table, value, text, err);
}

const struct table_ops table_lmdb = {.type = "lmdb",
                                     .open = lmdb_open,
                                     .close = lmdb_close,
                                     .find = lmdb_find,
                                     .next = lmdb_next,
                                     .maker = &lmdb_maker};
