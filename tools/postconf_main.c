/* SPDX-License-Identifier: Apache-2.0 */
/* postconf's work on main.cf: showing and editing. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/main_cf.h"
#include "lib/conf/param.h"
#include "tools/postconf.h"

enum { FOLD_COLUMN = 80 };

void
postconf_print(const struct postconf *pc, const char *name, const char *value)
{
    struct buf out = {0};
    struct slice rest = slice_from(value), word;
    size_t start = 0;

    if (!pc->hide_name)
        buf_printf(&out, pc->hide_value ? "%s" : "%s =", name);
    while (!pc->hide_value && slice_word(&rest, " \t\r\n\v\f", &word)) {
        if (out.len > start && pc->fold && out.len - start + 1 + word.len > FOLD_COLUMN) {
            buf_append_text(&out, "\n   ");
            start = out.len - 3;
        }
        if (out.len > 0)
            buf_append_byte(&out, ' ');
        buf_append_slice(&out, word);
    }
    puts(buf_text(&out));
    buf_release(&out);
}

const char *
postconf_squeeze(struct postconf *pc, const char *text)
{
    struct slice rest = slice_from(text), word;
    struct buf out = {0};
    while (slice_word(&rest, " \t\r\n\v\f", &word)) {
        if (out.len > 0)
            buf_append_byte(&out, ' ');
        buf_append_slice(&out, word);
    }
    const char *result = arena_strndup(pc->arena, out.ptr ? out.ptr : "", out.len);
    buf_release(&out);
    return result;
}

void
postconf_json_value(const struct postconf *pc, struct buf *out, const char *value)
{
    if (!pc->hide_value)
        json_member(out, "value", value);
    json_end(out);
    fputs(buf_text(out), stdout);
    buf_release(out);
}

static void
print_setting(struct postconf *pc, const char *name, const char *value)
{
    struct buf out = {0};
    if (!pc->json) {
        postconf_print(pc, name, value);
        return;
    }
    json_begin(&out);
    if (!pc->hide_name)
        json_member(&out, "name", name);
    postconf_json_value(pc, &out, postconf_squeeze(pc, value));
}

const char *
postconf_value(const struct postconf *pc, const char *value)
{
    struct err err;
    if (!pc->expand)
        return value;
    const char *expanded = conf_expand(pc->conf, pc->arena, value, &err);
    if (!expanded) {
        log_warning("%s", err.text);
        fatal("macro processing error");
    }
    return expanded;
}

/* An empty configuration knows the defaults only, also those that are found at run time. */
static const char *
default_of(struct postconf *pc, const char *name)
{
    struct err err;
    if (strcmp(name, "config_directory") == 0)
        return DEF_CONFIG_DIR;
    if (!pc->empty)
        pc->empty = conf_from_text(pc->directory, slice_from(""), &err);
    return pc->empty ? conf_raw(pc->empty, name) : "";
}

/* What a transport's own parameter falls back to is shown as that reference, not as its value. */
static const char *
raw_value(struct postconf *pc, const char *name)
{
    size_t len;
    const char *fallback = param_family(slice_from(name), &len);
    if (!pc->defaults && conf_is_set(pc->conf, name))
        return conf_raw(pc->conf, name);
    if (param_find(slice_from(name)) < 0 && fallback)
        return arena_printf(pc->arena, "$%s", fallback);
    return pc->defaults ? default_of(pc, name) : conf_raw(pc->conf, name);
}

static void
show_one(struct postconf *pc, const char *name)
{
    if (pc->only_set && !conf_is_set(pc->conf, name))
        return;
    if (pc->only_set && !pc->has_directory && strcmp(name, "config_directory") == 0)
        return;
    int index = param_find(slice_from(name));
    bool is_raw = index >= 0 && param_at((unsigned)index).kind == PARAM_RAW;
    const char *value = raw_value(pc, name);
    print_setting(pc, name, is_raw ? value : postconf_value(pc, value));
}

void
postconf_show(struct postconf *pc, char **names)
{
    if (!*names)
        postconf_each(pc, pc->classes, show_one);
    for (; *names; names++) {
        unsigned class = postconf_class(pc, *names);
        if ((class & pc->classes) && !(pc->defaults && class == CLASS_USER))
            show_one(pc, *names);
        else
            log_warning("%s: unknown parameter", *names);
    }
}

static enum main_cf_action
action_of(const struct postconf *pc)
{
    switch (pc->action) {
    case POSTCONF_COMMENT_OUT: return MAIN_CF_COMMENT_OUT;
    case POSTCONF_REMOVE: return MAIN_CF_REMOVE;
    default: return MAIN_CF_SET;
    }
}

static struct main_cf_change
parse_change(struct postconf *pc, const char *text)
{
    struct main_cf_change change = {.action = action_of(pc)};
    struct err err;
    struct slice trimmed = slice_trim(slice_from(text));
    if (strpbrk(text, "\r\n"))
        fatal("-e, -X, or -# accepts no multi-line input");
    if (trimmed.len > 0 && *trimmed.ptr == '#')
        fatal("-e, -X, or -# accepts no comment input");
    if (change.action != MAIN_CF_SET) {
        if (trimmed.len == 0)
            fatal("-X or -# requires non-blank parameter names");
        if (strchr(text, '='))
            fatal("specify one of -e %s", change.action == MAIN_CF_REMOVE ? "-X" : "-#");
        change.name = arena_strndup(pc->arena, trimmed.ptr, trimmed.len);
    } else if ((trimmed.len > 0 && *trimmed.ptr == '{') ||
               main_cf_split(pc->arena, trimmed, &change.name, &change.value, &err) < 0) {
        if (trimmed.len > 0 && *trimmed.ptr == '{')
            fatal("missing '=' after attribute name: \"%s\"", text);
        fatal("%s", err.text);
    }
    return change;
}

static void
warn_multiple(struct postconf *pc, const struct main_cf_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (changes[i].found > 1)
            log_warning("%s/main.cf: multiple entries for \"%s\"", pc->directory, changes[i].name);
}

void
postconf_edit_main(struct postconf *pc, char **settings)
{
    size_t count = 0;
    struct cf_edit edit;
    struct buf out = {0};
    struct err err;
    while (settings[count])
        count++;
    struct main_cf_change *changes = arena_array(pc->arena, count, sizeof(*changes));
    /* The last of several settings of one name wins. */
    size_t distinct = 0;
    for (size_t i = 0; i < count; i++) {
        struct main_cf_change change = parse_change(pc, settings[i]);
        size_t at = 0;
        while (at < distinct && strcmp(changes[at].name, change.name) != 0)
            at++;
        if (at < distinct && change.action == MAIN_CF_SET)
            log_warning("ignoring earlier request: '%s = %s'", changes[at].name, changes[at].value);
        changes[at] = change;
        if (at == distinct)
            distinct++;
    }
    if (cf_edit_begin(&edit, pc->arena, arena_printf(pc->arena, "%s/main.cf", pc->directory), &err) < 0)
        fatal("%s", err.text);
    main_cf_edit(edit.content, changes, distinct, &out);
    warn_multiple(pc, changes, distinct);
    if (cf_edit_commit(&edit, buf_slice(&out), &err) < 0)
        fatal("%s", err.text);
    buf_release(&out);
}
