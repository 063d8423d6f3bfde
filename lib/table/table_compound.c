/* SPDX-License-Identifier: Apache-2.0 */
/* Tables made of other tables: unionmap (all answers), pipemap (the answer of one is the key of the next), debug (logs what is
 * asked and answered). And randmap, which answers one of its values. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/table/table_text.h"
#include "lib/table/table_type.h"

struct compound {
    struct arena *arena;
    struct table **tables;
    struct slice *values; /* randmap */
    size_t count;
};

static void
compound_close(void *state)
{
    struct compound *c = state;
    struct arena *arena = c->arena;

    arena_free(&arena); /* the tables are the registry's */
}

/* The pieces of "{a, b, {c d}}", without the braces of a piece. */
static struct compound *
split(const char *type, const char *name, struct err *err)
{
    struct arena *arena = arena_new();
    struct compound *c = ARENA_NEW(arena, struct compound);
    struct slice text = slice_from(arena_strdup(arena, name)), piece;
    bool malformed = !table_unbrace(&text);

    c->arena = arena;
    c->values = arena_array(arena, text.len / 2 + 1, sizeof *c->values);
    while (!malformed && table_list_next(&text, ", \t\r\n", &piece)) {
        malformed = !piece.ptr || (piece.ptr[0] == '{' && !table_unbrace(&piece));
        if (!malformed)
            c->values[c->count++] = arena_slice(arena, piece);
    }
    if (!malformed && c->count > 0)
        return c;
    err_set(err, ERR_SYNTAX, "bad syntax in table %s:%s: expected \"{...}\"%s", type, name,
            malformed ? "" : " with something in it");
    compound_close(c);
    return NULL;
}

/* What many tables are together: patterns if one is, in the hands of all who own one. */
static void
add_about(struct table_about *about, const struct table *table)
{
    uid_t uid;
    enum table_trust trust = table_owner(table, &uid);

    if (table_is_pattern(table))
        about->keys = TABLE_PATTERNS;
    if (trust == TABLE_TRUSTED || about->trust == TABLE_OWNER_UNKNOWN)
        return;
    if (about->trust == TABLE_OWNED && (trust != TABLE_OWNED || about->uid != uid))
        trust = TABLE_OWNER_UNKNOWN;
    about->trust = trust;
    about->uid = uid;
}

static void *
open_tables(const char *type, const struct conf *conf, const char *name, unsigned flags, struct table_about *about,
            struct err *err)
{
    struct compound *c = split(type, name, err);

    if (!c)
        return NULL;
    c->tables = arena_array(c->arena, c->count, sizeof *c->tables);
    for (size_t i = 0; i < c->count; i++) {
        c->tables[i] = table_open(conf, c->values[i].ptr, flags, err);
        if (!c->tables[i]) {
            compound_close(c);
            return NULL;
        }
        add_about(about, c->tables[i]);
    }
    return c;
}

/* ---- unionmap:{type:name, ...} ---- */

static void *
unionmap_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    return open_tables("unionmap", conf, name, flags, about, err);
}

static int may_wait
unionmap_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct compound *c = state;
    const char *one, *all = NULL;

    for (size_t i = 0; i < c->count; i++) {
        if (table_find(c->tables[i], arena, key, &one, err) < 0)
            return -1;
        if (one)
            all = all ? arena_printf(arena, "%s,%s", all, one) : one;
    }
    *value = all;
    return 0;
}

const struct table_ops table_unionmap = {
    .type = "unionmap", .fold_in_type = true, .open = unionmap_open, .close = compound_close, .find = unionmap_find};

/* ---- pipemap:{type:name, ...} ---- */

static void *
pipemap_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    return open_tables("pipemap", conf, name, flags, about, err);
}

static int may_wait
pipemap_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct compound *c = state;
    const char *answer = NULL;

    for (size_t i = 0; i < c->count; i++) {
        if (table_find(c->tables[i], arena, key, &answer, err) < 0)
            return -1;
        if (!answer)
            return 0;
        key = slice_from(answer);
    }
    *value = answer;
    return 0;
}

const struct table_ops table_pipemap = {
    .type = "pipemap", .fold_in_type = true, .open = pipemap_open, .close = compound_close, .find = pipemap_find};

/* ---- debug:type:name ---- */

static void *
debug_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct table *table = table_open(conf, name, flags, err);

    if (table)
        add_about(about, table);
    return table;
}

static void
debug_close(void *state)
{
    (void)state;
}

static int may_wait
debug_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    int result = table_find(state, arena, key, value, err);

    log_info("%s lookup: \"%.*s\" = \"%s\"", table_name(state), SLICE_ARG(key),
             result < 0 ? "error" : *value ? *value : "not_found");
    return result;
}

static int may_wait
debug_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    return table_next(state, arena, first, key, value, err);
}

const struct table_ops table_debug = {.type = "debug",
                                      .fold_in_type = true,
                                      .open = debug_open,
                                      .close = debug_close,
                                      .find = debug_find,
                                      .next = debug_next};

/* ---- randmap:{value, ...} ---- */

static void *
randmap_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    (void)conf, (void)flags, (void)about;
    return split("randmap", name, err);
}

static int
randmap_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct compound *c = state;
    unsigned number;

    (void)key;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return err_errno(err, "getrandom");
    struct slice chosen = c->values[number % c->count];
    *value = arena_strndup(arena, chosen.ptr, chosen.len);
    return 0;
}

const struct table_ops table_randmap = {.type = "randmap",
                                        .keys = TABLE_PATTERNS,
                                        .open = randmap_open,
                                        .close = compound_close,
                                        .find = randmap_find};
