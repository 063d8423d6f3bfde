/* SPDX-License-Identifier: Apache-2.0 */
/* redis:FILE, which Postfix does not have: GET, SET and DEL by the RESP protocol. The file is memcache_table(5)'s, with "redis = inet:host:port",
 * and user, password, database. */
#include <stdio.h>

#include "lib/table/kv_source.h"
#include "lib/table/remote_reply.h"

enum { REPLY_LIMIT = 1024 };

static void may_wait
put(struct stream *stream, struct slice word)
{
    stream_printf(stream, "$%zu\r\n", word.len);
    stream_write(stream, word.ptr, word.len);
    stream_write_text(stream, "\r\n");
}

/* A status or a number; *first: its first digit or letter. */
static int may_wait
read_simple(struct stream *stream, char *first, struct err *err)
{
    struct slice line;

    if (kv_read_line(stream, REPLY_LIMIT, &line, err) < 0)
        return -1;
    if (line.len < 2 || (line.ptr[0] != '+' && line.ptr[0] != ':'))
        return err_set(err, ERR_SYNTAX, "the server says: %.*s", (int)(line.len < 200 ? line.len : 200), line.ptr);
    *first = line.ptr[1];
    return 0;
}

static int may_wait
begin(const struct source_conf *conf, struct stream *stream, struct err *err)
{
    const char *user = source_conf_text(conf, "user", ""), *password = source_conf_text(conf, "password", "");
    const char *database = source_conf_text(conf, "database", "");
    char first;

    if (*password) {
        stream_printf(stream, "*%d\r\n", *user ? 3 : 2);
        put(stream, slice_from("AUTH"));
        if (*user)
            put(stream, slice_from(user));
        put(stream, slice_from(password));
        if (read_simple(stream, &first, err) < 0)
            return -1;
    }
    if (*database) {
        stream_write_text(stream, "*2\r\n");
        put(stream, slice_from("SELECT"));
        put(stream, slice_from(database));
        if (read_simple(stream, &first, err) < 0)
            return -1;
    }
    return 0;
}

static int may_wait
get(const struct kv_limits *limits, struct arena *arena, struct stream *stream, struct slice key, const char **value,
    struct err *err)
{
    struct slice line;
    bool found;
    size_t len;

    stream_write_text(stream, "*2\r\n");
    put(stream, slice_from("GET"));
    put(stream, key);
    if (kv_read_line(stream, REPLY_LIMIT, &line, err) < 0 ||
        redis_value_read(line, limits->data, &found, &len, err) < 0)
        return -1;
    return found ? kv_read_value(arena, stream, len, value, err) : 0;
}

static int may_wait
set(const struct kv_limits *limits, struct stream *stream, struct slice key, struct slice value, struct err *err)
{
    char seconds[16], first;

    snprintf(seconds, sizeof(seconds), "%u", limits->ttl);
    stream_printf(stream, "*%d\r\n", limits->ttl ? 5 : 3);
    put(stream, slice_from("SET"));
    put(stream, key);
    put(stream, value);
    if (limits->ttl) {
        put(stream, slice_from("EX"));
        put(stream, slice_from(seconds));
    }
    return read_simple(stream, &first, err);
}

static int may_wait
remove_key(const struct kv_limits *limits, struct stream *stream, struct slice key, bool *found, struct err *err)
{
    char first;

    (void)limits;
    stream_write_text(stream, "*2\r\n");
    put(stream, slice_from("DEL"));
    put(stream, key);
    if (read_simple(stream, &first, err) < 0)
        return -1;
    *found = first != '0';
    return 0;
}

static const struct kv_protocol protocol = {.type = "redis",
                                            .server = "redis",
                                            .default_server = "inet:localhost:6379",
                                            .begin = begin,
                                            .get = get,
                                            .set = set,
                                            .remove = remove_key};

const struct table_ops table_redis = {.type = "redis",
                                      .may_block = true,
                                      .untrusted = true,
                                      .kind = &protocol,
                                      .open = kv_open,
                                      .close = kv_close,
                                      .find = kv_find,
                                      .next = kv_next,
                                      .change = kv_change};
