/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/kv_source.h"

#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/run/task.h"
#include "lib/table/match_list.h"
#include "lib/table/remote.h"
#include "lib/table/template.h"

enum { KEY_LIMIT = 250 };

struct kv {
    struct arena *arena;
    const char *name;
    const struct kv_protocol *protocol;
    struct source_conf *conf;
    struct remote *remote;
    struct table *backup; /* NULL: none */
    const char *key_format;
    struct match_list *domains;
    struct kv_limits limits;
    unsigned tries, pause, timeout;
    int watch_fd;
};

/* ---- opening ---- */

static int
take_numbers(struct kv *k, struct err *err)
{
    const struct source_conf *c = k->conf;

    if (source_conf_number(c, "data_size_limit", 10240, 1, 64 << 20, &k->limits.data, err) < 0 ||
        source_conf_number(c, "line_size_limit", 1024, 32, STREAM_IN_SIZE - 2, &k->limits.line, err) < 0 ||
        source_conf_number(c, "flags", 0, 0, UINT16_MAX, &k->limits.flags, err) < 0 ||
        source_conf_time(c, "ttl", 3600, &k->limits.ttl, err) < 0 ||
        source_conf_number(c, "max_try", 2, 1, 100, &k->tries, err) < 0 ||
        source_conf_time(c, "retry_pause", 1, &k->pause, err) < 0 ||
        source_conf_time(c, "timeout", 2, &k->timeout, err) < 0)
        return -1;
    return 0;
}

static int
set_up(struct kv *k, const struct conf *conf, struct err *err)
{
    const char *backup = source_conf_text(k->conf, "backup", ""), *domain = source_conf_text(k->conf, "domain", "");

    k->key_format = source_conf_text(k->conf, "key_format", "%s");
    if (template_check(k->key_format, err) < 0 || take_numbers(k, err) < 0)
        return -1;
    k->remote = remote_new(k->arena, source_conf_text(k->conf, k->protocol->server, k->protocol->default_server), err);
    if (!k->remote)
        return -1;
    if (slice_trim(slice_from(domain)).len > 0 &&
        !(k->domains = match_list_new(k->arena, conf, "domain", domain, 0, err)))
        return -1;
    if (*backup)
        k->backup = table_open_late(conf, backup, TABLE_NO_UTF8);
    return 0;
}

static const char *const *
parameters_of(struct arena *arena, const struct kv_protocol *protocol)
{
    static const char *const common[] = {
        "backup",  "flags",       "ttl",     "key_format", "domain", "data_size_limit", "line_size_limit",
        "max_try", "retry_pause", "timeout", "password",   "user",   "database"};
    const char **all = arena_array(arena, ARRAY_LEN(common) + 2, sizeof(*all));

    memcpy(all, common, sizeof(common));
    all[ARRAY_LEN(common)] = protocol->server;
    return all;
}

void *
kv_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    const struct kv_protocol *protocol = about->kind;
    struct arena *arena = arena_new();
    struct kv *k = ARENA_NEW(arena, struct kv);

    (void)flags;
    k->arena = arena;
    k->protocol = protocol;
    k->name = arena_printf(arena, "%s:%s", protocol->type, name);
    k->conf = source_conf_load(arena, conf, protocol->type, name, parameters_of(arena, protocol), &k->watch_fd, err);
    if (k->conf && set_up(k, conf, err) == 0) {
        about->watch_fd = k->watch_fd;
        return k;
    }
    err_context(err, "%s", k->name);
    if (k->watch_fd >= 0)
        close(k->watch_fd);
    arena_free(&arena);
    return NULL;
}

void
kv_close(void *state)
{
    struct kv *k = state;

    if (k->watch_fd >= 0)
        close(k->watch_fd);
    arena_free(&k->arena);
}

/* ---- the server ---- */

int may_wait
kv_read_line(struct stream *stream, unsigned limit, struct slice *line, struct err *err)
{
    enum stream_line_end ending;

    if (stream_read_line(stream, limit, line, &ending, err) < 0)
        return -1;
    return ending == STREAM_LINE_CUT ? err_set(err, ERR_SYNTAX, "a line of more than %u bytes", limit) : 0;
}

int may_wait
kv_read_value(struct arena *arena, struct stream *stream, size_t len, const char **value, struct err *err)
{
    char *data = arena_alloc(arena, len + 3);

    if (stream_read(stream, data, len + 2, err) < 0)
        return -1;
    if (memcmp(data + len, "\r\n", 2) != 0 || memchr(data, '\0', len))
        return err_set(err, ERR_SYNTAX, "malformed value in a reply");
    data[len] = '\0';
    *value = data;
    return 0;
}

struct question {
    struct kv *kv;
    struct arena *arena;
    struct slice key;
    enum { GET, SET, REMOVE } what;
    const char *value; /* to set, or what was found */
    bool found;
};

static int may_wait
begin(void *ctx, struct stream *stream, struct err *err)
{
    const struct question *q = ctx;

    return q->kv->protocol->begin ? q->kv->protocol->begin(q->kv->conf, stream, err) : 0;
}

static int may_wait
converse(void *ctx, struct stream *stream, struct err *err)
{
    struct question *q = ctx;
    const struct kv_protocol *protocol = q->kv->protocol;
    const struct kv_limits *limits = &q->kv->limits;

    if (q->what == SET)
        return protocol->set(limits, stream, q->key, slice_from(q->value), err);
    if (q->what == REMOVE)
        return protocol->remove(limits, stream, q->key, &q->found, err);
    q->value = NULL;
    return protocol->get(limits, q->arena, stream, q->key, &q->value, err);
}

static int may_wait
ask(struct question *q, struct err *err)
{
    struct kv *k = q->kv;
    const struct remote_talk talk = {converse, begin, q};
    struct err ignored;

    for (unsigned try = 1;; try++) {
        if (remote_ask(k->remote, &talk, SECONDS(k->timeout), err) == 0)
            return 0;
        if (try >= k->tries || err->kind == ERR_CANCELLED || strncmp(err->text, "connect", 7) == 0)
            return err_context(err, "%s", k->name);
        if (task_sleep(SECONDS(k->pause), &ignored) < 0) {
            *err = ignored;
            return -1;
        }
    }
}

/* The key as the server knows it; ptr NULL: it can't be there. */
static int may_wait
make_key(const struct kv *k, struct arena *arena, struct slice key, struct slice *made, struct err *err)
{
    struct template_parts parts = template_parts(key);
    struct buf out = {0};
    bool good = true;

    *made = slice_make(NULL, 0);
    if (k->domains) {
        if (parts.user.len == 0 || parts.domain.len == 0)
            return 0;
        if (match_list_domain(k->domains, parts.domain, &good, err) < 0)
            return err_context(err, "%s", k->name);
    }
    good = good && template_expand(k->key_format, &parts, &parts, NULL, &out) == TEMPLATE_DONE && out.len > 0 &&
           out.len <= KEY_LIMIT;
    for (size_t i = 0; good && i < out.len; i++)
        good = (unsigned char)out.ptr[i] > 32 && out.ptr[i] != 127;
    if (good)
        *made = arena_slice(arena, buf_slice(&out));
    buf_release(&out);
    return 0;
}

/* ---- the table ---- */

/* What the backup has goes to the server; that it can't be told there is no failure of the look-up. */
static int may_wait
find_in_backup(struct kv *k, struct arena *arena, struct slice key, struct slice made, bool can_store,
               const char **value, struct err *err)
{
    struct question q = {.kv = k, .arena = arena, .key = made, .what = SET};
    struct err ignored;

    if (table_find(k->backup, arena, key, value, err) < 0)
        return err_context(err, "%s", k->name);
    q.value = *value;
    if (*value && can_store && ask(&q, &ignored) < 0)
        log_warning("%s", ignored.text);
    return 0;
}

int may_wait
kv_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct kv *k = state;
    struct question q = {.kv = k, .arena = arena, .what = GET};
    int result;

    *value = NULL;
    if (make_key(k, arena, key, &q.key, err) < 0)
        return -1;
    if (!q.key.ptr)
        return 0;
    result = ask(&q, err);
    if (result == 0 && q.value) {
        *value = q.value;
        return 0;
    }
    if (!k->backup || (result < 0 && err->kind == ERR_CANCELLED))
        return result;
    if (result < 0)
        log_warning("%s", err->text);
    return find_in_backup(k, arena, key, q.key, result == 0, value, err);
}

int may_wait
kv_next(void *state, struct arena *arena, bool first, struct slice *key, const char **value, struct err *err)
{
    struct kv *k = state;

    if (!k->backup)
        return err_set(err, ERR_PERM, "%s: can't be listed without a backup", k->name);
    return table_next(k->backup, arena, first, key, value, err);
}

int may_wait
kv_change(void *state, struct arena *arena, struct slice key, const char *value, bool *found, struct err *err)
{
    struct kv *k = state;
    struct question q = {.kv = k, .arena = arena, .what = value ? SET : REMOVE, .value = value, .found = true};
    struct err of_server;

    if (make_key(k, arena, key, &q.key, err) < 0)
        return -1;
    if (!q.key.ptr) {
        log_warning("%s: no such key can be in it: the change is left out", k->name);
        return 0;
    }
    if (!k->backup) {
        int result = ask(&q, err);

        *found = q.found;
        return result;
    }
    if (table_change(k->backup, arena, key, value, found, err) < 0)
        return -1;
    if (ask(&q, &of_server) < 0)
        log_warning("%s", of_server.text);
    return 0;
}
