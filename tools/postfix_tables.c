/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix check` says of look-up tables: which can't be opened, and which are older than their source. Only tables with a
 * file are looked at; those that are asked over a network may be down for good reasons. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/conf/master_cf.h"
#include "lib/table/table_type.h"
#include "tools/postfix_command.h"

struct table_check {
    struct control *c;
    struct map *seen; /* tables that were looked at */
};

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
check_table(struct table_check *check, const char *setting, const struct table_ops *ops, const char *path)
{
    struct control *c = check->c;
    struct err err;
    const char *name = arena_printf(c->arena, "%s:%s", ops->type, path),
               *place = conf_where(c->conf, c->arena, setting);
    if (map_put_text(check->seen, name, check))
        return;
    if (!place)
        place = setting;
    if (ops->may_block) {
        if (access(path, R_OK) < 0)
            say_warning("%s: table %s: open %s: %s", place, name, path, strerror(errno));
        return;
    }
    if (!table_open(c->conf, name, 0, &err))
        say_warning("%s: table %s: %s", place, name, err.text);
    else if (is_stored(ops->type))
        check_age(c, path);
}

static void
check_value(void *ctx, const char *setting, const char *value)
{
    struct table_check *check = ctx;
    struct control *c = check->c;
    struct err err;
    const char *expanded = conf_expand(c->conf, c->arena, value, &err);
    struct slice rest = slice_from(expanded), word, type;
    while (slice_word(&rest, ", \t\r\n{}", &word)) {
        if (slice_starts_with_fold(word, "proxy:"))
            word = slice_make(word.ptr + 6, word.len - 6);
        struct slice name = word;
        const struct table_ops *ops;
        if (!slice_cut(&name, ':', &type) || name.len == 0 || *name.ptr != '/' || !(ops = table_type_find(type)))
            continue;
        check_table(check, setting, ops, arena_strndup(c->arena, name.ptr, name.len));
    }
}

void
check_tables(struct control *c)
{
    struct table_check check = {.c = c, .seen = map_new()};
    struct master_cf master;
    struct err err;
    conf_each_setting(c->conf, check_value, &check);
    if (master_cf_load(c->conf, c->arena, &master, &err) == 0)
        for (size_t i = 0; i < master.count; i++)
            for (size_t j = 0; j < master.services[i].option_count; j++)
                check_value(&check, master.services[i].options[j].name, master.services[i].options[j].value);
    map_free(&check.seen, NULL);
}
