/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/proxy_client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/map.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/table/proxy_messages.h"

#define ASK_TIME      SECONDS(120) /* longer than proxymap gives any server */
#define REMEMBER_TIME SECONDS(1)
enum { REMEMBER_MOST = 500, FLAGS_SENT = UINT16_MAX & ~(TABLE_FOLD_FIXED | TABLE_FOLD_PATTERN) };

static struct {
    char *read_path, *write_path;
    struct link *read_link, *write_link; /* NULL: not used yet */
} client;

struct handle {
    char *name;
    unsigned flags;
    struct map *answers; /* key -> struct answer */
};

struct answer {
    usec_t until;
    bool is_found;
    char text[];
};

/* ---- links ---- */

static struct link *
read_link(void)
{
    if (!client.read_link)
        client.read_link = link_connect(client.read_path, NULL, 0, NULL, NULL);
    return client.read_link;
}

static struct link *
write_link(void)
{
    if (!client.write_link)
        client.write_link = link_connect(client.write_path, NULL, 0, NULL, NULL);
    return client.write_link;
}

static int may_wait
call(struct link *link, struct arena *arena, const struct handle *h, const struct msg_type *type, const void *message,
     const struct msg_type *want, struct link_message *reply, struct err *err)
{
    if (!task_current())
        return err_set(err, ERR_TEMP, "table %s: asked outside of a task", h->name);
    if (link_call(link, arena, type, message, slice_make(NULL, 0), NULL, 0, want, reply, loop_now() + ASK_TIME, err) ==
        0)
        return 0;
    if (err->kind != ERR_CANCELLED)
        err->kind = ERR_TEMP;
    return err_context(err, "table %s: proxymap", h->name);
}

/* ---- what was answered a moment ago ---- */

static void
forget_all(struct handle *h)
{
    map_free(&h->answers, free);
    h->answers = map_new();
}

static void
remember(struct handle *h, const char *key, const struct proxy_value *value)
{
    size_t size = strlen(value->text) + 1;
    struct answer *answer;

    if (value->status == PROXY_FAILED)
        return;
    if (map_count(h->answers) >= REMEMBER_MOST)
        forget_all(h);
    answer = malloc(sizeof(*answer) + size);
    if (!answer)
        fatal("out of memory");
    answer->until = loop_now() + REMEMBER_TIME;
    answer->is_found = value->status == PROXY_FOUND;
    memcpy(answer->text, value->text, size);
    free(map_put_text(h->answers, key, answer));
}

static const struct answer *
recall(const struct handle *h, struct slice key)
{
    const struct answer *answer = map_get(h->answers, key);

    return answer && answer->until > loop_now() ? answer : NULL;
}

/* ---- the table ---- */

static struct slice
type_of(const char *name)
{
    return slice_make(name, strcspn(name, ":"));
}

/* Keys and owner are known here; the answers come from there. Whoever owns the file of the source decides what it says. */
static void
describe(const char *name, struct table_about *about)
{
    const struct table_ops *ops;
    struct stat st;

    while (strncmp(name, "proxy:", 6) == 0)
        name += 6;
    ops = table_type_find(type_of(name));
    about->keys = ops ? ops->keys : TABLE_FIXED_KEYS;
    name += strcspn(name, ":");
    if (!ops || ops->untrusted)
        about->trust = TABLE_OWNER_UNKNOWN;
    if (!ops || ops->untrusted || name[0] == '\0' || name[1] != '/')
        return;
    about->trust = TABLE_OWNER_UNKNOWN;
    if (stat(name + 1, &st) == 0) {
        about->trust = st.st_uid == 0 ? TABLE_TRUSTED : TABLE_OWNED;
        about->uid = st.st_uid;
    }
}

static void *
handle_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct handle *h;

    (void)conf;
    if (strlen(name) > PROXY_KEY_LIMIT) {
        err_set(err, ERR_PERM, "table %.100s...: the name is too long", name);
        return NULL;
    }
    h = calloc(1, sizeof(*h));
    if (!h || !(h->name = strdup(name)))
        fatal("out of memory");
    h->flags = flags & FLAGS_SENT;
    h->answers = map_new();
    describe(name, about);
    return h;
}

static void
handle_close(void *state)
{
    struct handle *h = state;

    map_free(&h->answers, free);
    free(h->name);
    free(h);
}

static int may_wait
ask(struct handle *h, struct arena *arena, const struct proxy_key *keys, size_t count, bool until_found,
    const struct msg_proxy_found **found, struct err *err)
{
    struct msg_proxy_find find = {.table = h->name,
                                  .flags = h->flags,
                                  .until_found = until_found,
                                  .keys = (struct proxy_key *)(void *)keys,
                                  .key_count = count};
    struct link_message reply;

    if (call(read_link(), arena, h, &type_proxy_find, &find, &type_proxy_found, &reply, err) < 0)
        return -1;
    *found = reply.message;
    if ((*found)->value_count > count || ((*found)->value_count < count && !until_found))
        return err_set(err, ERR_TEMP, "table %s: proxymap answered something else than was asked", h->name);
    for (size_t i = 0; i < (*found)->value_count; i++)
        remember(h, keys[i].key, &(*found)->values[i]);
    return 0;
}

static int may_wait
handle_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct handle *h = state;
    const struct answer *known = recall(h, key);
    const struct msg_proxy_found *found;
    struct proxy_key asked;

    if (known) {
        *value = known->is_found ? arena_strdup(arena, known->text) : NULL;
        return 0;
    }
    if (key.len > PROXY_KEY_LIMIT)
        return err_set(err, ERR_TEMP, "table %s: the key has %zu bytes", h->name, key.len);
    asked.key = arena_strndup(arena, key.ptr, key.len);
    if (ask(h, arena, &asked, 1, false, &found, err) < 0)
        return -1;
    if (found->values[0].status == PROXY_FAILED)
        return err_set(err, ERR_TEMP, "%s", found->values[0].text);
    *value = found->values[0].status == PROXY_FOUND ? arena_strdup(arena, found->values[0].text) : NULL;
    return 0;
}

static int
pair_result(const struct msg_proxy_pair *pair, struct err *err)
{
    return pair->status == PROXY_FAILED ? err_set(err, ERR_TEMP, "%s", pair->value) : 0;
}

static int may_wait
handle_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    struct handle *h = state;
    struct msg_proxy_next next = {.table = h->name, .flags = h->flags, .first = first};
    struct link_message reply;
    const struct msg_proxy_pair *pair;

    if (call(read_link(), arena, h, &type_proxy_next, &next, &type_proxy_pair, &reply, err) < 0)
        return -1;
    pair = reply.message;
    if (pair_result(pair, err) < 0)
        return -1;
    *key = pair->status == PROXY_FOUND ? slice_from(arena_strdup(arena, pair->key)) : slice_make(NULL, 0);
    *value = arena_strdup(arena, pair->value);
    return 0;
}

static int may_wait
handle_change(void *state, struct arena *arena, struct slice key, const char *value, bool *found, struct err *err)
{
    struct handle *h = state;
    struct msg_proxy_change change = {
        .table = h->name, .flags = h->flags, .remove = !value, .value = value ? value : ""};
    struct link_message reply;
    const struct msg_proxy_pair *pair;

    if (key.len > PROXY_KEY_LIMIT || strlen(change.value) > PROXY_VALUE_LIMIT)
        return err_set(err, ERR_TEMP, "table %s: key or value is too long", h->name);
    change.key = arena_strndup(arena, key.ptr, key.len);
    forget_all(h);
    if (call(write_link(), arena, h, &type_proxy_change, &change, &type_proxy_pair, &reply, err) < 0)
        return -1;
    pair = reply.message;
    *found = pair->status == PROXY_FOUND;
    return pair_result(pair, err);
}

static int may_wait
handle_prefetch(void *state, struct arena *arena, const struct slice *keys, size_t count, struct err *err)
{
    struct handle *h = state;
    struct proxy_key *wanted = arena_array(arena, count, sizeof(*wanted));
    const struct msg_proxy_found *found;
    size_t n = 0;

    for (size_t i = 0; i < count && n < PROXY_KEYS_MAX; i++) {
        const struct answer *known = recall(h, keys[i]);

        if (known && known->is_found)
            break;
        if (!known && keys[i].len > 0 && keys[i].len <= PROXY_KEY_LIMIT)
            wanted[n++].key = arena_strndup(arena, keys[i].ptr, keys[i].len);
    }
    return n > 1 ? ask(h, arena, wanted, n, true, &found, err) : 0;
}

const struct table_ops table_proxy_handle = {.type = "proxy",
                                             .fold_in_type = false,
                                             .open = handle_open,
                                             .close = handle_close,
                                             .find = handle_find,
                                             .next = handle_next,
                                             .change = handle_change,
                                             .prefetch = handle_prefetch};

/* "proxy:name" in a process that opens tables that may block by itself: a command, or proxymap, which asks another. */
static void *
proxy_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    char *whole;
    void *state = NULL;

    if (!client.read_path) {
        err_set(err, ERR_TEMP, "proxy:%s: proxymap is not reached from here", name);
        return NULL;
    }
    if (asprintf(&whole, "proxy:%s", name) < 0)
        fatal("out of memory");
    state = handle_open(conf, whole, flags, about, err);
    free(whole);
    return state;
}

const struct table_ops table_proxy = {.type = "proxy",
                                      .may_block = true,
                                      .open = proxy_open,
                                      .close = handle_close,
                                      .find = handle_find,
                                      .next = handle_next,
                                      .change = handle_change,
                                      .prefetch = handle_prefetch};

/* ---- the process ---- */

void
proxy_client_init(const char *proxymap_path, const char *proxywrite_path)
{
    proxy_client_release();
    client.read_path = strdup(proxymap_path);
    client.write_path = strdup(proxywrite_path);
    if (!client.read_path || !client.write_path)
        fatal("out of memory");
    table_set_proxy(&table_proxy_handle);
}

static char *
socket_path(const struct conf *conf, struct arena *arena, const char *parameter, struct err *err)
{
    const char *queue = conf_string(conf, arena, "queue_directory", err);
    const char *service = queue ? conf_string(conf, arena, parameter, err) : NULL;

    return service ? arena_printf(arena, "%s/private/%s", queue, service) : NULL;
}

int
proxy_client_init_command(const struct conf *conf, struct err *err)
{
    struct arena *arena = arena_new();
    const char *readers = socket_path(conf, arena, "proxymap_service_name", err);
    const char *writers = readers ? socket_path(conf, arena, "proxywrite_service_name", err) : NULL;

    if (writers)
        proxy_client_init(readers, writers);
    arena_free(&arena);
    return writers ? 0 : -1;
}

void
proxy_client_release(void)
{
    if (client.read_link)
        link_free(&client.read_link);
    if (client.write_link)
        link_free(&client.write_link);
    free(client.read_path);
    free(client.write_path);
    client.read_path = client.write_path = NULL;
}
