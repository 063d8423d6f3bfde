/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/maps.h"

#include <string.h>

#include "lib/base/text.h"
#include "lib/table/table_text.h"

struct maps {
    const char *parameter;
    struct table **tables;
    size_t count;
    unsigned flags;
    bool lists_are_special; /* owner_request_special */
};

/* maps_watch() */
static struct {
    void (*fn)(void *ctx, const char *parameter, const struct table *, struct slice key, const char *value);
    void *ctx;
} watcher;

void
maps_watch(void (*fn)(void *ctx, const char *parameter, const struct table *, struct slice key, const char *value),
           void *ctx)
{
    watcher.fn = fn;
    watcher.ctx = ctx;
}

struct maps *
maps_new(struct arena *arena, const struct conf *conf, const char *parameter, const char *text, unsigned flags,
         struct err *err)
{
    struct maps *maps = ARENA_NEW(arena, struct maps);
    struct slice rest = slice_from(text), piece;

    maps->parameter = parameter;
    maps->flags = flags;
    maps->lists_are_special = true;
    if (conf && conf_bool(conf, "owner_request_special", &maps->lists_are_special, err) < 0)
        return NULL;
    maps->tables = arena_array(arena, strlen(text) / 2 + 1, sizeof *maps->tables);
    while (table_list_next(&rest, ", \t\r\n", &piece)) {
        if (piece.ptr && piece.ptr[0] == '{' && !table_unbrace(&piece))
            piece.ptr = NULL;
        if (!piece.ptr) {
            err_set(err, ERR_SYNTAX, "%s: unbalanced braces in \"%s\"", parameter, text);
            return NULL;
        }
        maps->tables[maps->count++] = table_open_late(conf, arena_strndup(arena, piece.ptr, piece.len), flags);
    }
    return maps;
}

bool
maps_is_empty(const struct maps *maps)
{
    return maps->count == 0;
}

/* partial: a part of an address, of which tables of patterns must not be asked. */
static int may_wait
find(const struct maps *maps, struct arena *arena, struct slice key, bool partial, const char **value, struct err *err)
{
    *value = NULL;
    for (size_t i = 0; i < maps->count; i++) {
        if (partial && table_is_pattern(maps->tables[i]))
            continue;
        if (table_find(maps->tables[i], arena, key, value, err) < 0)
            return err_context(err, "%s", maps->parameter);
        if (watcher.fn)
            watcher.fn(watcher.ctx, maps->parameter, maps->tables[i], key, *value);
        if (*value)
            return 0;
    }
    return 0;
}

int may_wait
maps_find(const struct maps *maps, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    return find(maps, arena, key, false, value, err);
}

struct table *
maps_table(const struct maps *maps, size_t index)
{
    return index < maps->count ? maps->tables[index] : NULL;
}

/* ---- addresses ---- */

struct address {
    struct slice whole, local, user, domain; /* local is user + extension; domain with its @ */
    struct slice extension;
};

/* The local part up to the first delimiter that is not its first character; some names are never split. */
static struct slice
user_part(struct slice local, const char *delimiters, bool lists_are_special)
{
    if (slice_equal_text_fold(local, "mailer-daemon") || slice_equal_text_fold(local, "double-bounce"))
        return local;
    /* With "-" as a delimiter: owner-list and list-request are lists' own addresses. */
    if (lists_are_special && strchr(delimiters, '-') &&
        (slice_starts_with_fold(local, "owner-") ||
         (local.len > 8 && slice_equal_text_fold(slice_make(local.ptr + local.len - 8, 8), "-request"))))
        return local;
    for (size_t i = 1; i < local.len; i++)
        if (strchr(delimiters, local.ptr[i]))
            return slice_make(local.ptr, i);
    return local;
}

static struct address
split(struct slice text, const char *delimiters, bool lists_are_special)
{
    struct address a = {.whole = text, .local = text, .domain = slice_make(text.ptr + text.len, 0)};

    for (size_t i = text.len; i-- > 0;)
        if (text.ptr[i] == '@') {
            a.local = slice_make(text.ptr, i);
            a.domain = slice_make(text.ptr + i, text.len - i);
            break;
        }
    a.user = delimiters && *delimiters ? user_part(a.local, delimiters, lists_are_special) : a.local;
    a.extension = slice_make(a.local.ptr + a.user.len, a.local.len - a.user.len);
    return a;
}

static struct slice
join(struct arena *arena, struct slice a, struct slice b)
{
    char *text = arena_alloc(arena, a.len + b.len + 1);

    if (a.len)
        memcpy(text, a.ptr, a.len);
    if (b.len)
        memcpy(text + a.len, b.ptr, b.len);
    return slice_make(text, a.len + b.len);
}

struct search {
    const struct maps *maps;
    struct arena *arena;
    const char **value;
    struct err *err;
};

/* 1: found. */
static int may_wait
ask(const struct search *s, struct slice key, bool partial)
{
    if (find(s->maps, s->arena, key, partial, s->value, s->err) < 0)
        return -1;
    return *s->value != NULL;
}

/* The key asked for last has no extension in it: what was found is for the user, whatever the extension is. */
static int may_wait
ask_local(const struct search *s, const struct address *a, const struct maps_ours *ours, bool *without_extension)
{
    bool is_ours = a->domain.len == 0;

    if (!is_ours && ours &&
        ours->is_ours(ours->ctx, slice_make(a->domain.ptr + 1, a->domain.len - 1), &is_ours, s->err) < 0)
        return -1;
    *without_extension = false;
    int found = is_ours ? ask(s, a->local, true) : 0;
    if (found == 0 && is_ours && a->extension.len > 0) {
        *without_extension = true;
        found = ask(s, a->user, true);
    }
    return found;
}

/* domain, then .parent (or parent, with subdomains). */
static int may_wait
ask_bare(const struct search *s, struct slice domain, bool subdomains)
{
    int found = ask(s, domain, true);

    while (found == 0) {
        const char *dot = domain.len > 1 ? memchr(domain.ptr + 1, '.', domain.len - 1) : NULL;
        if (!dot)
            break;
        if (subdomains)
            dot++;
        domain = slice_make(dot, (size_t)(domain.ptr + domain.len - dot));
        found = ask(s, domain, true);
    }
    return found;
}

/* All keys that may be asked, in their order, for tables in other processes. */
static size_t
all_forms(struct arena *arena, const struct address *a, unsigned forms, struct slice *keys, size_t most)
{
    struct slice domain = slice_make(a->domain.ptr + 1, a->domain.len > 1 ? a->domain.len - 1 : 0);
    size_t n = 0;

    if (forms & MAPS_FULL) {
        keys[n++] = a->whole;
        if (a->extension.len > 0)
            keys[n++] = join(arena, a->user, a->domain);
    }
    while ((forms & MAPS_BARE) && domain.len > 0 && n + 5 < most) {
        const char *dot = domain.len > 1 ? memchr(domain.ptr + 1, '.', domain.len - 1) : NULL;

        keys[n++] = domain;
        if (!dot)
            break;
        dot += (forms & MAPS_SUBDOMAINS) != 0;
        domain = slice_make(dot, (size_t)(domain.ptr + domain.len - dot));
    }
    if (forms & MAPS_LOCAL)
        keys[n++] = a->local;
    if (forms & MAPS_USER_AT) {
        keys[n++] = join(arena, a->local, slice_from("@"));
        if (a->extension.len > 0)
            keys[n++] = join(arena, a->user, slice_from("@"));
    }
    if ((forms & MAPS_DOMAIN) && a->domain.len > 1)
        keys[n++] = a->domain;
    return n;
}

/* One question for all forms of the address, where that saves some. -1: cancelled. */
static int may_wait
fetch(const struct search *s, const struct address *a, unsigned forms)
{
    struct slice keys[16];
    size_t count = 0;

    for (size_t i = 0; maps_table(s->maps, i); i++) {
        struct table *table = maps_table(s->maps, i);

        if (table_is_pattern(table) || !table_has_prefetch(table))
            continue;
        if (count == 0)
            count = all_forms(s->arena, a, forms, keys, ARRAY_LEN(keys));
        if (table_prefetch(table, s->arena, keys, count, s->err) < 0)
            return -1;
    }
    return 0;
}

int may_wait
maps_find_address(const struct maps *maps, struct arena *arena, struct slice address, const char *delimiters,
                  unsigned forms, const struct maps_ours *ours, const char **value, const char **extension,
                  struct err *err)
{
    const struct search s = {maps, arena, value, err};
    struct address a = split(address, delimiters, maps->lists_are_special);
    bool without_extension = true;
    int found = 0;

    *value = NULL;
    *extension = "";
    if (fetch(&s, &a, forms) < 0)
        return -1;
    if (forms & MAPS_FULL) {
        found = ask(&s, a.whole, false);
        if (found)
            return found < 0 ? -1 : 0;
        if (a.extension.len > 0)
            found = ask(&s, join(arena, a.user, a.domain), true);
    }
    if (found == 0 && (forms & MAPS_BARE) && a.domain.len > 1)
        found = ask_bare(&s, slice_make(a.domain.ptr + 1, a.domain.len - 1), (forms & MAPS_SUBDOMAINS) != 0);
    if (found == 0 && (forms & MAPS_LOCAL))
        found = ask_local(&s, &a, ours, &without_extension);
    if (found == 0 && (forms & MAPS_USER_AT)) {
        found = ask(&s, join(arena, a.local, slice_from("@")), true);
        without_extension = false;
        if (found == 0 && a.extension.len > 0) {
            without_extension = true;
            found = ask(&s, join(arena, a.user, slice_from("@")), true);
        }
    }
    if (found == 0 && (forms & MAPS_DOMAIN) && a.domain.len > 1) {
        without_extension = false; /* the key stands for any user: there is nothing to propagate to */
        found = ask(&s, a.domain, true);
    }
    if (found > 0 && without_extension)
        *extension = arena_strndup(arena, a.extension.ptr, a.extension.len);
    return found < 0 ? -1 : 0;
}
