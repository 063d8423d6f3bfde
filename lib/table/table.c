/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/settings_table.h"
#include "lib/table/table_text.h"
#include "lib/table/table_type.h"

/* A process that can't reach files any more, and has a table that did not open, is replaced after this time. */
#define TRY_AGAIN_TIME SECONDS(60)

struct table {
    struct arena *arena; /* of the registry */
    const struct conf *conf;
    const char *name;      /* as opened */
    const char *type_name; /* with the type */
    unsigned flags;
    const struct table_ops *ops; /* NULL: not open, see error */
    void *state;
    struct table_about about;
    bool utf8;
    struct err error;
    usec_t error_time;
    bool error_was_returned;
    struct stat file;
    usec_t last_look;
    bool has_changed;  /* and can't be opened anew here */
    bool is_malformed; /* its name: no other try would find it well */
    struct table *next;
};

static struct {
    struct arena *arena;
    struct table *first;
    const struct table_ops *proxy;
    bool sealed, blocking;
} tables;

/* ---- noticing changes ---- */

static usec_t
coarse_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* no system call */
    return (usec_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static bool
same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* A file that was replaced has lost its name (our descriptor still has it). One that is written in place is read anew when
 * it has been left alone for a second: half a file would be worse than the one before. */
static bool
file_changed(struct table *table)
{
    struct stat now;

    if (table->about.watch_fd < 0 || fstat(table->about.watch_fd, &now) < 0)
        return false;
    if (now.st_nlink == 0 || (table->about.awaited && access(table->about.awaited, F_OK) == 0))
        return true;
    if (table->about.reads_live || (same_time(now.st_mtim, table->file.st_mtim) && now.st_size == table->file.st_size))
        return false;
    return time(NULL) - now.st_mtime >= 1 || now.st_mtime > time(NULL);
}

/* ---- opening ---- */

static int
check_file(struct table *table, struct err *err)
{
    if (table->about.watch_fd < 0)
        return 0;
    if (fstat(table->about.watch_fd, &table->file) < 0)
        return err_errno(err, "fstat %s", table->type_name);
    table->about.trust = table->file.st_uid == 0 ? TABLE_TRUSTED : TABLE_OWNED;
    table->about.uid = table->file.st_uid;
    if ((table->flags & TABLE_NO_UNAUTH) && (table->file.st_mode & S_IWOTH))
        return err_set(err, ERR_PERM, "%s: everybody may write the file", table->type_name);
    return 0;
}

static const char *
missing_type(struct slice type)
{
    static const struct {
        const char *name, *why;
    } rows[] = {
#define TABLE_TYPE(name, ops)
#define TABLE_TYPE_MISSING(name, why) {#name, why},
#include "lib/table/table_types.def"
#undef TABLE_TYPE
#undef TABLE_TYPE_MISSING
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (slice_equal_text(type, rows[i].name))
            return rows[i].why;
    return NULL;
}

/* proxymap asks for us, but whom it asks matters. */
static struct slice
type_behind_proxy(const char *name)
{
    while (strncmp(name, "proxy:", 6) == 0)
        name += 6;
    return slice_make(name, strcspn(name, ":"));
}

static const struct table_ops *
find_ops(const struct table *table, struct slice type, struct err *err)
{
    const struct table_ops *ops = table_type_find(type);
    const struct table_ops *behind = table_type_find(type_behind_proxy(table->type_name));
    const char *why = missing_type(type);

    if (!ops && why)
        err_set(err, ERR_PERM, "unsupported dictionary type: %.*s: %s", SLICE_ARG(type), why);
    else if (!ops)
        err_set(err, ERR_PERM, "unsupported dictionary type: %.*s", SLICE_ARG(type));
    else if ((ops->untrusted || (behind && behind->untrusted)) && (table->flags & TABLE_NO_UNAUTH)) {
        err_set(err, ERR_PERM, "%.*s map is not allowed for security sensitive data", SLICE_ARG(type));
        return NULL;
    }
    return ops;
}

/* Fills ops, state, about. On an error ops is NULL. */
static int
open_state(struct table *table, struct err *err)
{
    const char *colon = strchr(table->type_name, ':');
    struct slice type = slice_make(table->type_name, (size_t)(colon - table->type_name));
    const struct table_ops *ops = find_ops(table, type, err);
    bool proxied;

    table->ops = NULL;
    if (!ops)
        return -1;
    proxied = ops->may_block && !tables.blocking;
    unsigned flags = table->flags | (table->utf8 ? 0 : TABLE_NO_UTF8);
    if (proxied && !tables.proxy)
        return err_set(err, ERR_TEMP, "%s: proxymap is not reached from here", table->type_name);
    table->about = (struct table_about){.kind = ops->kind, .keys = ops->keys, .watch_fd = -1};
    if (proxied)
        table->state = tables.proxy->open(table->conf, table->type_name, flags, &table->about, err);
    else
        table->state = ops->open(table->conf, colon + 1, flags, &table->about, err);
    if (!table->state)
        return -1;
    table->ops = proxied ? tables.proxy : ops;
    if (check_file(table, err) == 0)
        return 0;
    table->ops->close(table->state);
    table->ops = NULL;
    return -1;
}

static void
note_error(struct table *table, const struct err *err)
{
    table->error = *err;
    table->error.kind = ERR_TEMP;
    table->error_time = coarse_time();
}

static void
reopen(struct table *table)
{
    struct err err;

    if (table->ops)
        table->ops->close(table->state);
    if (open_state(table, &err) < 0) {
        if (table->error.kind == ERR_NONE)
            log_warning("%s", err.text);
        note_error(table, &err);
    } else {
        table->error.kind = ERR_NONE;
    }
}

/* At most once a second. */
static void
look_at_file(struct table *table)
{
    usec_t now = coarse_time();

    if (now - table->last_look < SECONDS(1))
        return;
    table->last_look = now;
    if (table->ops ? !file_changed(table) : tables.sealed)
        return;
    if (tables.sealed)
        table->has_changed = true;
    else
        reopen(table);
}

/* "type:name", or the default type's. NULL: malformed. */
static const char *
complete_name(const struct conf *conf, const char *name, struct table_settings *set, struct err *err)
{
    size_t type = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

    if (table_settings_load(set, conf, tables.arena, err) < 0)
        return NULL;
    if (name[type] == ':' && type > 0 && name[type + 1] != '\0')
        return arena_strdup(tables.arena, name);
    if (name[0] == '\0' || name[type] == ':') {
        err_set(err, ERR_SYNTAX, "open dictionary: expecting \"type:name\" form instead of \"%s\"", name);
        return NULL;
    }
    return arena_printf(tables.arena, "%s:%s", set->default_database_type, name);
}

static struct table *
registered(const char *type_name, unsigned flags)
{
    for (struct table *table = tables.first; table; table = table->next)
        if (table->flags == flags && strcmp(table->type_name, type_name) == 0)
            return table;
    return NULL;
}

/* A table in the registry, open or with its error set. NULL: the name is malformed. */
static struct table *
get_table(const struct conf *conf, const char *name, unsigned flags, struct err *err)
{
    struct table_settings set;
    const char *type_name;
    struct table *table;

    if (!tables.arena)
        tables.arena = arena_new();
    type_name = complete_name(conf, name, &set, err);
    if (!type_name)
        return NULL;
    table = registered(type_name, flags);
    if (table)
        return table;
    table = ARENA_NEW(tables.arena, struct table);
    table->conf = conf;
    table->name = arena_strdup(tables.arena, name);
    table->type_name = type_name;
    table->flags = flags;
    table->utf8 = set.smtputf8_enable && !(flags & TABLE_NO_UTF8);
    table->last_look = coarse_time();
    table->next = tables.first;
    tables.first = table;
    if (open_state(table, &table->error) < 0)
        table->error_time = coarse_time();
    else
        table->error.kind = ERR_NONE;
    return table;
}

struct table *
table_open(const struct conf *conf, const char *name, unsigned flags, struct err *err)
{
    struct table *table = get_table(conf, name, flags, err);

    if (table && !table->ops && !tables.sealed)
        reopen(table);
    if (!table || table->ops)
        return table;
    *err = table->error;
    return NULL;
}

struct table *
table_open_late(const struct conf *conf, const char *name, unsigned flags)
{
    struct err err;
    struct table *table = get_table(conf, name, flags, &err);

    if (!table) {
        table = ARENA_NEW(tables.arena, struct table);
        *table = (struct table){.name = arena_strdup(tables.arena, name), .type_name = "fail:malformed", .conf = conf};
        table->about.watch_fd = -1;
        table->is_malformed = true;
        note_error(table, &err);
    }
    if (!table->ops && table->error.kind != ERR_NONE) {
        log_warning("%s", table->error.text);
        note_error(table, &table->error);
    }
    return table;
}

/* ---- asking ---- */

const char *
table_name(const struct table *table)
{
    return table->name;
}

bool
table_is_pattern(const struct table *table)
{
    return table->about.keys == TABLE_PATTERNS;
}

enum table_trust
table_owner(const struct table *table, uid_t *uid)
{
    *uid = table->about.uid;
    return table->ops ? table->about.trust : TABLE_OWNER_UNKNOWN;
}

static int
is_ready(struct table *table, struct err *err)
{
    if (table->about.watch_fd >= 0 || (!table->ops && !table->is_malformed))
        look_at_file(table);
    if (table->ops)
        return 0;
    table->error_was_returned = true;
    return err_set(err, ERR_TEMP, "%s", table->error.text);
}

static struct slice
asked_key(const struct table *table, struct arena *arena, struct slice key)
{
    unsigned fold = table->about.keys == TABLE_PATTERNS ? TABLE_FOLD_PATTERN : TABLE_FOLD_FIXED;

    return (table->flags & fold) && !table->ops->fold_in_type ? table_fold(arena, key, table->utf8) : key;
}

int may_wait
table_find(struct table *table, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    *value = NULL;
    if (is_ready(table, err) < 0)
        return -1;
    if (key.len == 0 || memchr(key.ptr, '\0', key.len))
        return 0;
    if (table->utf8 && !table_is_ascii(key) && !text_is_utf8(key))
        return 0; /* no such key can be in it */
    if (table->ops->find(table->state, arena, asked_key(table, arena, key), value, err) < 0) {
        if (err->kind != ERR_CANCELLED)
            err->kind = ERR_TEMP;
        return -1;
    }
    if (*value && table->utf8 && !table_is_ascii(slice_from(*value)) && !text_is_utf8(slice_from(*value)))
        return err_set(err, ERR_TEMP, "%s: non-UTF-8 value in the result of a look-up", table->type_name);
    return 0;
}

int may_wait
table_next(struct table *table, struct arena *arena, bool first, struct slice *key, const char **value,
           struct err *err)
{
    *key = slice_make(NULL, 0);
    if (is_ready(table, err) < 0)
        return -1;
    if (!table->ops->next)
        return err_set(err, ERR_PERM, "table %s: sequence operation is not supported", table->type_name);
    return table->ops->next(table->state, arena, first, key, value, err);
}

int may_wait
table_change(struct table *table, struct arena *arena, struct slice key, const char *value, bool *found,
             struct err *err)
{
    *found = true;
    if (is_ready(table, err) < 0)
        return -1;
    if (!table->ops->change)
        return err_set(err, ERR_PERM, "table %s: its type can't be changed", table->type_name);
    if (key.len == 0 || memchr(key.ptr, '\0', key.len))
        return err_set(err, ERR_PERM, "table %s: no such key can be in it", table->type_name);
    return table->ops->change(table->state, arena, asked_key(table, arena, key), value, found, err);
}

bool
table_has_prefetch(const struct table *table)
{
    return table->ops && table->ops->prefetch;
}

int may_wait
table_prefetch(struct table *table, struct arena *arena, const struct slice *keys, size_t count, struct err *err)
{
    struct slice *asked;

    if (!table->ops || !table->ops->prefetch || count < 2)
        return 0;
    asked = arena_array(arena, count, sizeof(*asked));
    for (size_t i = 0; i < count; i++)
        asked[i] = asked_key(table, arena, keys[i]);
    if (table->ops->prefetch(table->state, arena, asked, count, err) < 0 && err->kind == ERR_CANCELLED)
        return -1;
    return 0;
}

void
table_warm(struct table *table, struct arena *arena, const struct slice *keys, size_t count)
{
    struct slice *asked;
    size_t n = 0;

    if (!table->ops || !table->ops->warm || count < 2)
        return;
    asked = arena_array(arena, count, sizeof(*asked));
    for (size_t i = 0; i < count; i++)
        if (keys[i].len > 0)
            asked[n++] = asked_key(table, arena, keys[i]);
    table->ops->warm(table->state, asked, n);
}

/* ---- the process ---- */

void
tables_seal(void)
{
    tables.sealed = true;
}

bool
tables_have_files(void)
{
    for (struct table *table = tables.first; table; table = table->next)
        if (!table->ops || table->about.watch_fd >= 0)
            return true;
    return false;
}

bool
tables_changed(void)
{
    bool changed = false;

    for (struct table *table = tables.first; table; table = table->next) {
        if (table->ops && table->about.watch_fd < 0)
            continue;
        look_at_file(table);
        changed |= table->has_changed;
        changed |= !table->ops && table->error_was_returned && coarse_time() - table->error_time > TRY_AGAIN_TIME;
    }
    return changed && tables.sealed;
}

void
tables_open_blocking(void)
{
    tables.blocking = true;
}

void
table_set_proxy(const struct table_ops *proxy)
{
    tables.proxy = proxy;
}

void
tables_close_all(void)
{
    for (struct table *table = tables.first; table; table = table->next)
        if (table->ops)
            table->ops->close(table->state);
    tables.first = NULL;
    if (tables.arena)
        arena_free(&tables.arena);
    tables.arena = NULL;
}
