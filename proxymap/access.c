/* SPDX-License-Identifier: Apache-2.0 */
#include "proxymap/access.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/conf/master_cf.h"
#include "lib/table/table_text.h"

struct access {
    struct map *readable, *writable; /* names with "proxy:" */
    struct map *named;               /* names without, of types that may block */
    const struct conf *conf;
    struct arena *arena;
};

static const char proxy[] = "proxy:";
static char present[] = "present";

static void
release_map(void *map)
{
    struct map *gone = map;

    map_free(&gone, NULL);
}

static struct map *
new_map(struct arena *arena)
{
    struct map *map = map_new();

    arena_defer(arena, release_map, map);
    return map;
}

static bool
is_proxied(struct slice word)
{
    return word.len > sizeof(proxy) - 1 && memcmp(word.ptr, proxy, sizeof(proxy) - 1) == 0;
}

static bool
may_block(struct slice word)
{
    const char *colon = word.len ? memchr(word.ptr, ':', word.len) : NULL;
    const struct table_ops *ops;

    if (!colon || is_proxied(word))
        return false;
    ops = table_type_find(slice_make(word.ptr, (size_t)(colon - word.ptr)));
    return ops && ops->may_block;
}

/* Calls take for each word of a list, those in braces and in tables that are made of others (unionmap:{a, b}) too. */
static void
each_word(struct slice list, void (*take)(struct access *, struct map *, struct slice), struct access *a,
          struct map *map, unsigned depth)
{
    struct slice word;

    while (depth < 10 && table_list_next(&list, ", \t\r\n", &word)) {
        const char *brace;

        if (!word.ptr)
            return;
        while (word.len > 0 && word.ptr[0] == '!')
            word = slice_make(word.ptr + 1, word.len - 1);
        if (word.len == 0)
            continue;
        take(a, map, word);
        brace = memchr(word.ptr, '{', word.len);
        if (brace) {
            struct slice inner = slice_make(brace, word.len - (size_t)(brace - word.ptr));

            if (table_unbrace(&inner))
                each_word(inner, take, a, map, depth + 1);
        }
    }
}

static void
take_proxied(struct access *a, struct map *map, struct slice word)
{
    (void)a;
    if (is_proxied(word))
        map_put(map, word, present);
}

static void
take_blocking(struct access *a, struct map *map, struct slice word)
{
    (void)a;
    if (may_block(word))
        map_put(map, word, present);
}

static void
take_setting(void *ctx, const char *name, const char *value)
{
    struct access *a = ctx;
    struct err err;
    const char *text = conf_expand(a->conf, a->arena, value, &err);

    if (!text)
        log_debug("%s: %s", name, err.text);
    each_word(slice_from(text ? text : value), take_blocking, a, a->named, 0);
}

static void
take_services(struct access *a)
{
    struct master_cf services;
    struct err err;

    if (master_cf_load(a->conf, a->arena, &services, &err) < 0) {
        log_debug("%s", err.text);
        return;
    }
    for (size_t i = 0; i < services.count; i++)
        for (size_t j = 0; j < services.services[i].option_count; j++)
            take_setting(a, services.services[i].options[j].name, services.services[i].options[j].value);
}

/* Tables that are defaults of parameters, and not written anywhere. */
static void
take_defaults(struct access *a)
{
    static const char *const names[] = {"local_recipient_maps", "alias_maps", "smtpd_sender_login_maps"};
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = conf_string(a->conf, a->arena, names[i], &err);

        if (value)
            each_word(slice_from(value), take_blocking, a, a->named, 0);
    }
    map_put_text(a->named, "unix:passwd.byname", present); /* what the system tells everybody */
    map_put_text(a->named, "unix:group.byname", present);
}

struct access *
access_new(struct arena *arena, const struct conf *conf, const char *read_maps, const char *write_maps)
{
    struct access *a = ARENA_NEW(arena, struct access);

    a->readable = new_map(arena);
    a->writable = new_map(arena);
    a->named = new_map(arena);
    a->conf = conf;
    a->arena = arena;
    each_word(slice_from(read_maps), take_proxied, a, a->readable, 0);
    each_word(slice_from(write_maps), take_proxied, a, a->writable, 0);
    each_word(slice_from(write_maps), take_proxied, a, a->readable, 0);
    conf_each_setting(conf, take_setting, a);
    take_services(a);
    take_defaults(a);
    return a;
}

static const char *
without_proxy(const char *name)
{
    while (strncmp(name, proxy, sizeof(proxy) - 1) == 0)
        name += sizeof(proxy) - 1;
    return name;
}

const char *
access_for_reading(const struct access *a, const char *name)
{
    bool allowed = is_proxied(slice_from(name)) ? map_get_text(a->readable, name) : map_get_text(a->named, name);

    return allowed ? without_proxy(name) : NULL;
}

const char *
access_for_writing(const struct access *a, const char *name)
{
    return map_get_text(a->writable, name) ? without_proxy(name) : NULL;
}

void
access_each(const struct access *a, void (*fn)(void *ctx, const char *name), void *ctx)
{
    const struct map *maps[] = {a->named, a->readable};
    struct slice key;
    void *value;

    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        for (size_t position = 0; map_next(maps[i], &position, &key, &value);)
            fn(ctx, without_proxy(arena_strndup(a->arena, key.ptr, key.len)));
}
