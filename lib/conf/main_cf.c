/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/main_cf.h"

#include <stdbool.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/conf/cf_file.h"

/* A name ends at a blank or "="; what follows it must be "=". */
static int
split_plain(struct slice text, struct slice *name, struct slice *value, struct err *err)
{
    size_t len = 0;
    while (len < text.len && text.ptr[len] != '=' && !text_is_space(text.ptr[len]))
        len++;
    *name = slice_make(text.ptr, len);
    struct slice rest = slice_trim(slice_make(text.ptr + len, text.len - len));
    if (rest.len == 0 || *rest.ptr != '=')
        return err_set(err, ERR_SYNTAX, "missing '=' after attribute name: \"%.*s\"", SLICE_ARG(text));
    if (name->len == 0)
        return err_set(err, ERR_SYNTAX, "missing attribute name: \"%.*s\"", SLICE_ARG(text));
    *value = slice_trim(slice_make(rest.ptr + 1, rest.len - 1));
    return 0;
}

/* One pair around the whole: "{a} = {b}" is not. */
static bool
is_in_braces(struct slice text)
{
    unsigned level = 0;
    if (text.len < 2 || *text.ptr != '{')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '{')
            level++;
        else if (text.ptr[i] == '}' && --level == 0)
            return i == text.len - 1;
    }
    return false;
}

int
main_cf_split(struct arena *arena, struct slice text, const char **name, const char **value, struct err *err)
{
    struct slice n, v;
    text = slice_trim(text);
    if (is_in_braces(text))
        text = slice_trim(slice_make(text.ptr + 1, text.len - 2));
    if (split_plain(text, &n, &v, err) < 0)
        return -1;
    *name = arena_strndup(arena, n.ptr, n.len);
    *value = arena_strndup(arena, v.ptr, v.len);
    return 0;
}

static void
warn(struct arena *arena, const struct main_cf_sink *sink, const char *path, const struct cf_line *line)
{
    if (sink->warning)
        sink->warning(sink->ctx,
                      arena_printf(arena, "%s, line %u: logical line must not start with whitespace: \"%.*s\"", path,
                                   line->number, line->text.len > 30 ? 30 : (int)line->text.len, line->text.ptr));
}

int
main_cf_parse(struct arena *arena, const char *path, struct slice content, const struct main_cf_sink *sink,
              struct err *err)
{
    struct cf_line line;
    unsigned number = 0;
    while (cf_line_next(arena, &content, &number, &line)) {
        struct slice name, value;
        if (line.orphan) {
            warn(arena, sink, path, &line);
            continue;
        }
        if (split_plain(line.text, &name, &value, err) < 0)
            return err_context(err, "%s, line %u", path, line.number);
        if (sink->entry(sink->ctx, line.number, arena_strndup(arena, name.ptr, name.len),
                        arena_strndup(arena, value.ptr, value.len), err) < 0)
            return -1;
    }
    return 0;
}

static struct slice
name_of(struct slice physical)
{
    size_t len = 0;
    while (len < physical.len && physical.ptr[len] != '=' && !text_is_space(physical.ptr[len]))
        len++;
    return slice_make(physical.ptr, len);
}

static struct main_cf_change *
find_change(struct main_cf_change *changes, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_text(name, changes[i].name))
            return &changes[i];
    return NULL;
}

static void
put_line(struct buf *out, const char *before, struct slice line)
{
    buf_append_text(out, before);
    buf_append_slice(out, line);
    buf_append_byte(out, '\n');
}

static void
put_setting(struct buf *out, struct main_cf_change *change)
{
    buf_printf(out, "%s = %s\n", change->name, change->value);
}

void
main_cf_edit(struct slice content, struct main_cf_change *changes, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++)
        changes[i].found = 0;
    struct slice line;
    struct main_cf_change *change = NULL; /* that of the entry which the line belongs to */
    while (cf_physical_next(&content, &line)) {
        bool comment = cf_is_comment(line), first = !comment && !cf_is_continuation(line);
        if (first) {
            change = find_change(changes, count, name_of(line));
            if (change)
                change->found++;
        }
        if (comment || !change)
            put_line(out, "", line);
        else if (change->action == MAIN_CF_COMMENT_OUT)
            put_line(out, "#", line);
        else if (change->action == MAIN_CF_SET && first)
            put_setting(out, change);
    }
    for (size_t i = 0; i < count; i++)
        if (changes[i].action == MAIN_CF_SET && changes[i].found == 0)
            put_setting(out, &changes[i]);
}
