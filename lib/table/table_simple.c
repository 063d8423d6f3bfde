/* SPDX-License-Identifier: Apache-2.0 */
/* The types that need no file: static, inline, environ, fail. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/table/table_text.h"
#include "lib/table/table_type.h"

static void
free_text(void *state)
{
    free(state);
}

static char *
copy_text(struct slice text)
{
    char *copy = strndup(text.ptr, text.len);

    if (!copy)
        fatal("out of memory");
    return copy;
}

/* ---- static:value ---- */

static void *
static_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct slice text = slice_from(name);

    (void)conf, (void)flags, (void)about;
    if (text.ptr[0] == '{' && !table_unbrace(&text)) {
        err_set(err, ERR_SYNTAX, "bad syntax in table static:%s: missing '}'", name);
        return NULL;
    }
    return copy_text(text);
}

static int
static_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    (void)key, (void)err;
    *value = arena_strdup(arena, state);
    return 0;
}

const struct table_ops table_static = {
    .type = "static", .open = static_open, .close = free_text, .find = static_find};

/* ---- inline:{key=value, {key = a long value}} ---- */

static int
inline_add(struct table_memory *memory, struct slice pair, bool fold, bool utf8, struct arena *arena,
           const char **why)
{
    struct slice key;

    if (pair.ptr && pair.ptr[0] == '{' && !table_unbrace(&pair))
        pair.ptr = NULL;
    if (!pair.ptr) {
        *why = "unbalanced braces";
        return -1;
    }
    const char *equals = memchr(pair.ptr, '=', pair.len);
    if (!equals) {
        *why = "missing '=' after attribute name";
        return -1;
    }
    key = slice_trim(slice_make(pair.ptr, (size_t)(equals - pair.ptr)));
    if (key.len == 0) {
        *why = "missing attribute name";
        return -1;
    }
    struct slice value = slice_trim(slice_make(equals + 1, (size_t)(pair.ptr + pair.len - equals - 1)));
    if (fold)
        key = table_fold(arena, key, utf8);
    table_memory_put(memory, key, value); /* the last one counts */
    return 0;
}

static void *
inline_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct slice text = slice_from(name), pair;
    struct table_memory *memory = table_memory_new();
    struct arena *arena = arena_new();
    const char *why = NULL;
    unsigned count = 0;

    (void)conf, (void)about;
    if (!table_unbrace(&text))
        why = "expected {name=value, ...}";
    while (!why && table_list_next(&text, ", \t\r\n", &pair)) {
        count++;
        (void)!inline_add(memory, pair, (flags & TABLE_FOLD_FIXED) != 0, !(flags & TABLE_NO_UTF8), arena, &why);
    }
    if (!why && count == 0)
        why = "empty table";
    arena_free(&arena);
    if (!why)
        return memory;
    table_memory_free(memory);
    err_set(err, ERR_SYNTAX, "bad syntax in table inline:%s: %s", name, why);
    return NULL;
}

static void
memory_close(void *state)
{
    table_memory_free(state);
}

static int
memory_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    (void)err;
    const char *found = table_memory_find(state, key);
    *value = found ? arena_strdup(arena, found) : NULL;
    return 0;
}

static int
memory_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    (void)arena, (void)err;
    return table_memory_next(state, first, key, value);
}

const struct table_ops table_inline = {
    .type = "inline", .open = inline_open, .close = memory_close, .find = memory_find, .next = memory_next};

/* ---- texthash:file ---- */

static bool
texthash_add(struct table_memory *memory, struct table_lines *lines, struct slice line, unsigned flags)
{
    bool utf8 = !(flags & TABLE_NO_UTF8);
    struct slice key, value;
    const char *why;

    if (utf8 && text_has_8bit(line) && !text_is_utf8(line)) {
        table_lines_warn(lines, "non-UTF-8 input \"%s\" -- ignoring this line",
                         arena_strndup(lines->arena, line.ptr, line.len));
        return false;
    }
    if (table_split_pair(line, &key, &value, &why) < 0) {
        table_lines_warn(lines, "%s -- ignoring this line", why);
        return false;
    }
    if (key.ptr[key.len - 1] == ':')
        table_lines_warn(lines, "record is in \"key: value\" format; is this an alias file?");
    if (flags & TABLE_FOLD_FIXED)
        key = table_fold(lines->arena, key, utf8);
    if (table_memory_has(memory, key)) {
        table_lines_warn(lines, "duplicate entry: \"%s\"", arena_strndup(lines->arena, key.ptr, key.len));
        return false;
    }
    table_memory_put(memory, key, value);
    return true;
}

struct texthash {
    struct table_memory *memory;
    int fd;
};

static void *
texthash_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct buf text = {0};
    struct table_lines lines;
    struct slice line;
    struct texthash *table = malloc(sizeof *table);

    (void)conf;
    if (!table)
        fatal("out of memory");
    if (table_text_open(name, &text, &table->fd, err) < 0) {
        free(table);
        buf_release(&text);
        return NULL;
    }
    table->memory = table_memory_new();
    table_lines_begin(&lines, name, buf_slice(&text));
    while (table_lines_next(&lines, &line))
        (void)texthash_add(table->memory, &lines, line, flags);
    table_lines_end(&lines);
    buf_release(&text);
    about->watch_fd = table->fd;
    return table;
}

static void
texthash_close(void *state)
{
    struct texthash *table = state;

    if (table->fd >= 0)
        close(table->fd);
    table_memory_free(table->memory);
    free(table);
}

static int
texthash_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    return memory_find(((struct texthash *)state)->memory, arena, key, value, err);
}

static int
texthash_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    return memory_next(((struct texthash *)state)->memory, arena, first, key, value, err);
}

const struct table_ops table_texthash = {
    .type = "texthash", .open = texthash_open, .close = texthash_close, .find = texthash_find, .next = texthash_next};

/* ---- environ: ---- */

static void *
environ_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    (void)conf, (void)flags, (void)about, (void)err;
    return copy_text(slice_from(name));
}

static int
environ_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    const char *found = getenv(arena_strndup(arena, key.ptr, key.len));

    (void)state, (void)err;
    *value = found ? arena_strdup(arena, found) : NULL;
    return 0;
}

const struct table_ops table_environ = {
    .type = "environ", .open = environ_open, .close = free_text, .find = environ_find};

/* ---- fail:reason ---- */

static int
fail_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    (void)arena, (void)key, (void)value;
    return err_set(err, ERR_TEMP, "fail:%s: every look-up fails", (const char *)state);
}

static int
fail_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    (void)first;
    return fail_find(state, arena, *key, value, err);
}

const struct table_ops table_fail = {.type = "fail",
                                     .keys = TABLE_PATTERNS,
                                     .open = environ_open,
                                     .close = free_text,
                                     .find = fail_find,
                                     .next = fail_next};
