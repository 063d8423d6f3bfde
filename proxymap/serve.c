/* SPDX-License-Identifier: Apache-2.0 */
#include "proxymap/serve.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/table/proxy_messages.h"
#include "lib/table/table_type.h"
#include "proxymap/writer.h"

enum { ANSWER_LIMIT = 8 << 20 /* bytes of all values in an answer, which must fit a frame */ };

static struct {
    const struct conf *conf;
    struct access *access;
    struct map *tables; /* "flags name" -> struct table */
    bool may_change;
} server;

/* ---- tables ---- */

static bool
is_blocking_type(const char *name)
{
    const struct table_ops *ops = table_type_find(slice_make(name, strcspn(name, ":")));

    return ops && ops->may_block;
}

/* The asker has folded the key and looks whether key and value are UTF-8. Tables of types that may block have been opened before
 * the sandbox, as bytes, and need no other flag here. */
static unsigned
own_flags(const char *name, unsigned flags)
{
    if (is_blocking_type(name))
        return TABLE_NO_UTF8;
    return flags & ~(unsigned)(TABLE_FOLD_FIXED | TABLE_FOLD_PATTERN);
}

static struct table *
get_table(struct arena *arena, const char *name, unsigned flags)
{
    const char *key = arena_printf(arena, "%u %s", flags, name);
    struct table *table = map_get_text(server.tables, key);

    if (!table) {
        table = table_open_late(server.conf, name, flags);
        map_put_text(server.tables, key, table);
    }
    return table;
}

static void
open_early(void *ctx, const char *name)
{
    get_table(ctx, name, own_flags(name, 0));
}

void
serve_prepare(const struct conf *conf, struct access *access, bool may_change)
{
    struct arena *arena = arena_new();

    server.conf = conf;
    server.access = access;
    if (server.tables)
        map_free(&server.tables, NULL);
    server.tables = map_new();
    server.may_change = may_change;
    if (!may_change)
        access_each(access, open_early, arena);
    arena_free(&arena);
}

static const char *
refusal(struct arena *arena, const char *name, const char *parameter)
{
    bool proxied = strncmp(name, "proxy:", 6) == 0;

    log_warning("request for unapproved table: \"%s\"", name);
    if (proxied)
        log_warning("to approve this table for access, list %s in main.cf:%s", name, parameter);
    return arena_printf(arena, "table %s: refused by proxymap: it is not in %s", name, proxied ? parameter : "main.cf");
}

/* ---- look-ups ---- */

static struct proxy_value
failed(const char *why)
{
    return (struct proxy_value){.status = PROXY_FAILED, .text = why};
}

static struct proxy_value may_wait
look_up(struct table *table, struct arena *arena, const char *key, size_t room)
{
    const char *value;
    struct err err;

    if (table_find(table, arena, slice_from(key), &value, &err) < 0) {
        log_warning("table %s: look-up failed: %s", table_name(table), err.text);
        return failed(arena_strdup(arena, err.text));
    }
    if (!value)
        return (struct proxy_value){.status = PROXY_NONE, .text = ""};
    if (strlen(value) > PROXY_VALUE_LIMIT || strlen(value) > room)
        return failed(arena_printf(arena, "table %s: the value is too long", table_name(table)));
    return (struct proxy_value){.status = PROXY_FOUND, .text = value};
}

static void may_wait
find_all(struct table *table, struct arena *arena, const struct msg_proxy_find *asked, struct msg_proxy_found *found)
{
    size_t room = ANSWER_LIMIT;

    while (found->value_count < asked->key_count) {
        struct proxy_value *value = &found->values[found->value_count];

        *value = look_up(table, arena, asked->keys[found->value_count].key, room);
        found->value_count++;
        room -= strlen(value->text) < room ? strlen(value->text) : room;
        if (asked->until_found && value->status != PROXY_NONE)
            return;
    }
}

static void may_wait
on_find(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_proxy_find *asked = in->message;
    struct arena *arena = link_request_arena(request);
    const char *name = access_for_reading(server.access, asked->table);
    struct msg_proxy_found found = {.values = arena_array(arena, asked->key_count, sizeof(*found.values))};

    (void)ctx;
    if (name) {
        find_all(get_table(arena, name, own_flags(name, (unsigned)asked->flags)), arena, asked, &found);
    } else {
        const char *why = refusal(arena, asked->table, "proxy_read_maps");

        while (found.value_count < asked->key_count)
            found.values[found.value_count++] = failed(why);
    }
    link_reply(request, &type_proxy_found, &found, slice_make(NULL, 0), NULL, 0);
}

/* ---- listing and changing ---- */

static void
reply_pair(struct link_request *request, int status, const char *key, const char *value)
{
    struct msg_proxy_pair pair = {.status = status, .key = key, .value = value};

    link_reply(request, &type_proxy_pair, &pair, slice_make(NULL, 0), NULL, 0);
}

static void may_wait
on_next(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_proxy_next *asked = in->message;
    struct arena *arena = link_request_arena(request);
    const char *name = access_for_reading(server.access, asked->table), *value;
    struct slice key;
    struct err err;

    (void)ctx;
    if (!name)
        reply_pair(request, PROXY_FAILED, "", refusal(arena, asked->table, "proxy_read_maps"));
    else if (table_next(get_table(arena, name, own_flags(name, (unsigned)asked->flags)), arena, asked->first, &key,
                        &value, &err) < 0)
        reply_pair(request, PROXY_FAILED, "", err.text);
    else if (!key.ptr)
        reply_pair(request, PROXY_NONE, "", "");
    else if (key.len > PROXY_KEY_LIMIT || strlen(value) > PROXY_VALUE_LIMIT)
        reply_pair(request, PROXY_FAILED, "", "an entry is too long");
    else
        reply_pair(request, PROXY_FOUND, arena_strndup(arena, key.ptr, key.len), value);
}

static void may_wait
on_change(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_proxy_change *asked = in->message;
    struct arena *arena = link_request_arena(request);
    const char *name = server.may_change ? access_for_writing(server.access, asked->table) : NULL;
    bool found = true;
    struct err err;

    (void)ctx;
    if (!name) {
        reply_pair(request, PROXY_FAILED, "", refusal(arena, asked->table, "proxy_write_maps"));
    } else if (writer_change(server.conf, arena, name, own_flags(name, (unsigned)asked->flags), slice_from(asked->key),
                             asked->remove ? NULL : asked->value, &found, &err) < 0) {
        log_warning("table %s: change failed: %s", name, err.text);
        reply_pair(request, PROXY_FAILED, "", err.text);
    } else {
        reply_pair(request, found ? PROXY_FOUND : PROXY_NONE, "", "");
    }
}

const struct link_handler serve_handlers[] = {
    {&type_proxy_find, true, on_find}, {&type_proxy_next, true, on_next}, {&type_proxy_change, true, on_change}};
const unsigned serve_handler_count = ARRAY_LEN(serve_handlers);
