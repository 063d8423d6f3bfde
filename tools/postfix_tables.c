/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix check` says of look-up tables: which can't be opened, and which are older than their source. Only tables with a
 * file are looked at; those that are asked over a network may be down for good reasons. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/conf/param.h"
#include "lib/table/table_type.h"
#include "tools/postfix_values.h"

/* A stored table is made from a text file beside it, which people edit and then forget to run postmap. */
static void
check_age(struct control *c, const char *source)
{
    static const char *const endings[] = {".lmdb", ".cdb", ".db"};
    struct stat text, stored;
    if (stat(source, &text) < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        const char *path = arena_printf(c->arena, "%s%s", source, endings[i]);
        if (stat(path, &stored) < 0)
            continue;
        if (stored.st_mtim.tv_sec < text.st_mtim.tv_sec)
            say_warning("database %s is older than source file %s", path, source);
        return; /* the first is the one that is used */
    }
}

static bool
is_stored(const char *type)
{
    static const char *const stored[] = {"hash", "btree", "lmdb", "cdb"};
    for (size_t i = 0; i < ARRAY_LEN(stored); i++)
        if (strcmp(stored[i], type) == 0)
            return true;
    return false;
}

static void
check_table(const struct scope *scope, const char *setting, const struct table_ops *ops, const char *whole,
            const char *path)
{
    const char *place = scope_place(scope, setting);
    struct err err;
    if (ops->may_block) {
        if (*path == '/' && access(path, R_OK) < 0)
            say_warning("%s: table %s: open %s: %s", place, whole, path, strerror(errno));
    } else if (!table_open(scope->conf, whole, 0, &err))
        say_warning("%s: table %s: %s", place, whole, err.text);
    else if (is_stored(ops->type))
        check_age(scope->c, path);
}

static bool
ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Does each word of the value name a table? */
static bool
is_list_of_tables(const char *setting)
{
    static const char *const ends[] = {"_maps", "_checks", "_map"};
    static const char *const others[] = {"proxy_read_maps", "proxy_write_maps"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(setting, others[i]) == 0)
            return false;
    int index = param_find(slice_from(setting));
    if (index < 0 || param_at((unsigned)index).status != PARAM_WORKS)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (ends_with(setting, ends[i]))
            return true;
    return strcmp(setting, "alias_database") == 0;
}

/* What stands in a list of tables must be one; elsewhere what looks like a table with a file is one. */
static void
check_word(const struct scope *scope, const char *setting, struct slice word, bool is_table)
{
    struct slice name = word, type;
    struct arena *arena = scope->c->arena;
    if (slice_starts_with_fold(name, "proxy:"))
        name = slice_make(name.ptr + 6, name.len - 6);
    const char *whole = arena_strndup(arena, name.ptr, name.len);
    if (!slice_has_byte(name, ':')) {
        if (is_table && *whole != '/')
            say_warning("%s: parameter %s: \"%s\" is no table (write type:name)", scope_place(scope, setting), setting,
                        whole);
        return;
    }
    slice_cut(&name, ':', &type);
    const struct table_ops *ops = table_type_find(type);
    if (!is_table && (!ops || name.len == 0 || *name.ptr != '/'))
        return;
    if (ops)
        check_table(scope, setting, ops, whole, arena_strndup(arena, name.ptr, name.len));
    else
        say_warning("%s: parameter %s: unsupported dictionary type: %.*s", scope_place(scope, setting), setting,
                    SLICE_ARG(type));
}

void
check_table_value(const struct scope *scope, const char *setting)
{
    struct err err;
    const char *raw = conf_raw(scope->conf, setting),
               *value = raw ? conf_expand(scope->conf, scope->c->arena, raw, &err) : NULL;
    struct slice rest = slice_from(value), word;
    bool is_table = is_list_of_tables(setting);
    /* A compound table opens those that stand in its braces itself. */
    while (is_table ? slice_word_braced(&rest, ", \t\r\n", &word) : slice_word(&rest, ", \t\r\n{}", &word))
        check_word(scope, setting, word, is_table);
}
