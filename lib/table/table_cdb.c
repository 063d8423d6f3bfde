/* SPDX-License-Identifier: Apache-2.0 */
/* cdb:file: FILE.cdb, a constant database, written by tinycdb; keys and values have no NUL behind them (with one is read, too).
 * Read by a few lines of our own, which check what the file says before they follow it. */
#include <cdb.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/table/key_sort.h"
#include "lib/table/mapped_file.h"
#include "lib/table/new_file.h"
#include "lib/table/table_type.h"

/* A file begins with 256 pairs of numbers: where a hash table is and how many slots it has. A slot is a hash and the place of a
 * record; a record is two lengths, key, value. Records stand between the pairs and the tables. */
enum { HEADER_SIZE = 2048, KEY_LIMIT = 1 << 20, LARGE_FILE = 1 << 20, WARM_MOST = 64 };

/* ---- reading ---- */

struct table_cdb {
    struct mapped_file file;
    char *path;
    size_t position; /* of next() */
};

static void *
table_cdb_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct table_cdb *table = calloc(1, sizeof *table);

    (void)conf, (void)flags;
    if (!table || asprintf(&table->path, "%s.cdb", name) < 0)
        fatal("out of memory");
    int fd = open(table->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = fd < 0 ? err_errno(err, "open database %s", table->path) : mapped_file_init(&table->file, fd, true, err);
    if (fd >= 0 && result < 0)
        err_context(err, "open database %s", table->path);
    if (result == 0 && (table->file.size < HEADER_SIZE || table->file.size > UINT32_MAX)) {
        mapped_file_release(&table->file);
        result = err_set(err, ERR_IO, "open database %s: not a cdb file", table->path);
    }
    if (result < 0) {
        free(table->path);
        free(table);
        return NULL;
    }
    about->watch_fd = fd;
    return table;
}

static void
table_cdb_close(void *state)
{
    struct table_cdb *table = state;

    mapped_file_release(&table->file);
    free(table->path);
    free(table);
}

static int
damaged(const struct table_cdb *table, struct err *err)
{
    return err_set(err, ERR_IO, "%s: the file is damaged", table->path);
}

static uint32_t
number_at(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The record at a place. */
static int
get_record(const struct table_cdb *table, size_t at, struct slice *key, struct slice *value, struct err *err)
{
    if (at < HEADER_SIZE || at > table->file.size - 8)
        return damaged(table, err);
    const unsigned char *p = table->file.ptr + at;
    size_t key_len = number_at(p), value_len = number_at(p + 4);
    if (key_len > table->file.size - at - 8 || value_len > table->file.size - at - 8 - key_len)
        return damaged(table, err);
    *key = slice_make(p + 8, key_len);
    *value = slice_make(p + 8 + key_len, value_len);
    return 0;
}

/* value->ptr NULL: not there. */
static int
look_up(const struct table_cdb *table, struct slice key, struct slice *value, struct err *err)
{
    unsigned hash = cdb_hash(key.ptr, (unsigned)key.len);
    const unsigned char *head = table->file.ptr + (hash & 255) * 8;
    size_t at = number_at(head), slots = number_at(head + 4);
    struct slice found;

    *value = slice_make(NULL, 0);
    if (slots == 0)
        return 0;
    if (at < HEADER_SIZE || at > table->file.size || slots > (table->file.size - at) / 8)
        return damaged(table, err);
    size_t slot = (hash >> 8) % slots;
    for (size_t i = 0; i < slots; i++, slot = slot + 1 == slots ? 0 : slot + 1) {
        const unsigned char *p = table->file.ptr + at + slot * 8;
        size_t record = number_at(p + 4);
        if (record == 0)
            return 0;
        if (number_at(p) != hash)
            continue;
        if (get_record(table, record, &found, value, err) < 0)
            return -1;
        if (slice_equal(found, key))
            return 0;
    }
    *value = slice_make(NULL, 0);
    return 0;
}

/* A look-up waits twice for memory: for the slot and for the record. Here all keys wait for both together. */
static void
table_cdb_warm(const void *state, const struct slice *keys, size_t count)
{
    const struct table_cdb *table = state;
    const unsigned char *slot[WARM_MOST];

    if (table->file.size < LARGE_FILE)
        return;
    count = count < WARM_MOST ? count : WARM_MOST;
    for (size_t i = 0; i < count; i++) {
        unsigned hash = cdb_hash(keys[i].ptr, (unsigned)keys[i].len);
        const unsigned char *head = table->file.ptr + (hash & 255) * 8;
        size_t at = number_at(head), slots = number_at(head + 4);
        slot[i] = NULL;
        if (slots == 0 || at > table->file.size || slots > (table->file.size - at) / 8)
            continue;
        slot[i] = table->file.ptr + at + (hash >> 8) % slots * 8;
        __builtin_prefetch(slot[i]);
    }
    for (size_t i = 0; i < count; i++) {
        size_t record = slot[i] ? number_at(slot[i] + 4) : 0;
        if (record + 64 >= table->file.size)
            continue;
        __builtin_prefetch(table->file.ptr + record);
        __builtin_prefetch(table->file.ptr + record + 64);
    }
}

static int
take_value(const struct table_cdb *table, struct arena *arena, struct slice value, const char **text, struct err *err)
{
    if (value.len > 0 && value.ptr[value.len - 1] == '\0')
        value.len--;
    if (value.len > 0 && memchr(value.ptr, '\0', value.len))
        return err_set(err, ERR_PERM, "%s: a value has a NUL in it", table->path);
    *text = arena_strndup(arena, value.ptr, value.len);
    return 0;
}

static int
table_cdb_find(void *state, struct arena *arena, struct slice key, const char **text, struct err *err)
{
    struct table_cdb *table = state;
    struct slice value;

    if (key.len > KEY_LIMIT)
        return 0;
    if (look_up(table, key, &value, err) < 0)
        return -1;
    if (!value.ptr) {
        const char *with_nul = arena_strndup(arena, key.ptr, key.len);
        if (look_up(table, slice_make(with_nul, key.len + 1), &value, err) < 0)
            return -1;
    }
    int result = value.ptr ? take_value(table, arena, value, text, err) : 0;
    return table->file.is_damaged ? damaged(table, err) : result;
}

static int
table_cdb_next(void *state, struct arena *arena, bool first, struct slice *key, const char **text, struct err *err)
{
    struct table_cdb *table = state;
    struct slice value;
    size_t end = table->file.size;

    for (unsigned i = 0; i < 256; i++) { /* the first hash table is behind the last record */
        size_t at = number_at(table->file.ptr + i * 8);
        end = at < end ? at : end;
    }
    if (first)
        table->position = HEADER_SIZE;
    *key = slice_make(NULL, 0);
    if (table->position >= end)
        return 0;
    if (get_record(table, table->position, key, &value, err) < 0)
        return -1;
    table->position += 8 + key->len + value.len;
    if (key->len > 0 && key->ptr[key->len - 1] == '\0')
        key->len--;
    *key = arena_slice(arena, *key);
    if (table->file.is_damaged)
        return damaged(table, err);
    return take_value(table, arena, value, text, err);
}

/* ---- writing ---- */

struct entry {
    struct slice key, value;
    unsigned hash;
};

struct cdb_writer {
    struct new_file file;
    char *path;
    enum table_duplicates duplicates;
    struct arena *arena;
    struct entry *entries;
    size_t count, room;
};

static void
writer_release(struct cdb_writer *w)
{
    arena_free(&w->arena);
    free(w->entries);
    free(w->path);
    free(w);
}

static void *
cdb_create(const struct conf *conf, const char *path, mode_t mode, enum table_duplicates duplicates, struct err *err)
{
    struct cdb_writer *w = calloc(1, sizeof *w);

    (void)conf;
    if (!w || asprintf(&w->path, "%s.cdb", path) < 0)
        fatal("out of memory");
    w->duplicates = duplicates;
    w->arena = arena_new();
    if (new_file_begin(&w->file, path, ".cdb", mode, err) == 0)
        return w;
    writer_release(w);
    return NULL;
}

static int
cdb_writer_put(void *state, struct slice key, struct slice value, struct err *err)
{
    struct cdb_writer *w = state;

    if (key.len > KEY_LIMIT || value.len > UINT32_MAX / 2 || w->count >= UINT32_MAX)
        return err_set(err, ERR_PERM, "%s: an entry is too long, or there are too many", w->path);
    if (w->count == w->room) {
        w->room = w->room ? w->room * 2 : 1024;
        w->entries = reallocarray(w->entries, w->room, sizeof *w->entries);
        if (!w->entries)
            fatal("out of memory");
    }
    char *copy = arena_alloc(w->arena, key.len + value.len + 1);
    if (key.len)
        memcpy(copy, key.ptr, key.len);
    if (value.len)
        memcpy(copy + key.len, value.ptr, value.len);
    w->entries[w->count] = (struct entry){slice_make(copy, key.len), slice_make(copy + key.len, value.len),
                                          cdb_hash(copy, (unsigned)key.len)};
    w->count++;
    return 0;
}

/* Leaves one entry of each key; the others lose their key. items: all with the same hash. */
static void
settle_same_hash(struct cdb_writer *w, const struct key_sort *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct entry *entry = &w->entries[items[i].index], *before = NULL;
        for (size_t j = 0; j < i && !before; j++) {
            struct entry *other = &w->entries[items[j].index];
            if (other->key.ptr && slice_equal(other->key, entry->key))
                before = other;
        }
        if (!before)
            continue;
        if (w->duplicates == TABLE_DUP_REPLACE)
            before->value = entry->value;
        entry->value = slice_make(entry->key.ptr, entry->key.len); /* for the warning */
        entry->key = slice_make(NULL, 0);
    }
}

static void
settle_duplicates(struct cdb_writer *w)
{
    struct key_sort *items = reallocarray(NULL, w->count + 1, 2 * sizeof *items);

    if (!items)
        fatal("out of memory");
    for (size_t i = 0; i < w->count; i++)
        items[i] = (struct key_sort){.value = w->entries[i].hash, .index = (uint32_t)i};
    key_sort_values(items, items + w->count, w->count);
    for (size_t from = 0, to; from < w->count; from = to) {
        for (to = from + 1; to < w->count && items[to].value == items[from].value; to++)
            ;
        settle_same_hash(w, items + from, to - from);
    }
    free(items);
    for (size_t i = 0; i < w->count && w->duplicates == TABLE_DUP_WARN; i++)
        if (!w->entries[i].key.ptr)
            log_warning("%s: duplicate entry: \"%.*s\"", w->path, SLICE_ARG(w->entries[i].value));
}

static void
cdb_abandon(void *state)
{
    struct cdb_writer *w = state;

    new_file_abandon(&w->file);
    writer_release(w);
}

static int
cdb_finish(void *state, struct err *err)
{
    struct cdb_writer *w = state;
    struct cdb_make *make = arena_alloc(w->arena, sizeof *make);
    bool failed = cdb_make_start(make, w->file.fd) < 0;

    settle_duplicates(w);
    for (size_t i = 0; i < w->count && !failed; i++) {
        const struct entry *entry = &w->entries[i];
        if (!entry->key.ptr)
            continue;
        failed = cdb_make_add(make, entry->key.ptr, (unsigned)entry->key.len, entry->value.ptr,
                              (unsigned)entry->value.len) < 0;
    }
    if (failed || cdb_make_finish(make) < 0) {
        err_errno(err, "write %s", w->path);
        cdb_abandon(w);
        return -1;
    }
    int result = new_file_commit(&w->file, err);
    writer_release(w);
    return result;
}

static const struct table_maker cdb_maker = {
    .suffix = ".cdb", .create = cdb_create, .put = cdb_writer_put, .finish = cdb_finish, .abandon = cdb_abandon};

const struct table_ops table_cdb = {.type = "cdb",
                                    .open = table_cdb_open,
                                    .close = table_cdb_close,
                                    .find = table_cdb_find,
                                    .warm = table_cdb_warm,
                                    .next = table_cdb_next,
                                    .maker = &cdb_maker};
