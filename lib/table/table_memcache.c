/* SPDX-License-Identifier: Apache-2.0 */
/* memcache_table(5), by memcached's text protocol. */
#include "lib/table/kv_source.h"
#include "lib/table/remote_reply.h"

static int
unexpected(struct slice line, struct err *err)
{
    return err_set(err, ERR_SYNTAX, "unexpected reply: %.*s", (int)(line.len < 100 ? line.len : 100), line.ptr);
}

static int may_wait
get(const struct kv_limits *limits, struct arena *arena, struct stream *stream, struct slice key, const char **value,
    struct err *err)
{
    struct slice line;
    bool found;
    size_t len;
    const char *data;

    stream_printf(stream, "get %.*s\r\n", SLICE_ARG(key));
    if (kv_read_line(stream, limits->line, &line, err) < 0 ||
        memcache_value_read(line, key, limits->data, &found, &len, err) < 0)
        return -1;
    if (!found)
        return 0;
    if (kv_read_value(arena, stream, len, &data, err) < 0 || kv_read_line(stream, limits->line, &line, err) < 0)
        return -1;
    if (!slice_equal_text(line, "END"))
        return unexpected(line, err);
    *value = data;
    return 0;
}

static int may_wait
set(const struct kv_limits *limits, struct stream *stream, struct slice key, struct slice value, struct err *err)
{
    struct slice line;

    stream_printf(stream, "set %.*s %u %u %zu\r\n", SLICE_ARG(key), limits->flags, limits->ttl, value.len);
    stream_write(stream, value.ptr, value.len);
    stream_write_text(stream, "\r\n");
    if (kv_read_line(stream, limits->line, &line, err) < 0)
        return -1;
    return slice_equal_text(line, "STORED") ? 0 : unexpected(line, err);
}

static int may_wait
remove_key(const struct kv_limits *limits, struct stream *stream, struct slice key, bool *found, struct err *err)
{
    struct slice line;

    stream_printf(stream, "delete %.*s\r\n", SLICE_ARG(key));
    if (kv_read_line(stream, limits->line, &line, err) < 0)
        return -1;
    *found = slice_equal_text(line, "DELETED");
    return *found || slice_equal_text(line, "NOT_FOUND") ? 0 : unexpected(line, err);
}

static const struct kv_protocol protocol = {.type = "memcache",
                                            .server = "memcache",
                                            .default_server = "inet:localhost:11211",
                                            .get = get,
                                            .set = set,
                                            .remove = remove_key};

const struct table_ops table_memcache = {.type = "memcache",
                                         .may_block = true,
                                         .untrusted = true,
                                         .kind = &protocol,
                                         .open = kv_open,
                                         .close = kv_close,
                                         .find = kv_find,
                                         .next = kv_next,
                                         .change = kv_change};
