/* SPDX-License-Identifier: Apache-2.0 */
/* socketmap_table(5): "name key" in a netstring to a server, an answer in a netstring back. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/table/remote_reply.h"
#include "lib/table/remote_table.h"

static void *
socketmap_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    const char *colon = strrchr(name, ':');
    struct buf whole = {0}, where = {0};
    struct remote_table *table;

    (void)conf;
    (void)flags;
    if (!colon || !colon[1]) {
        err_set(err, ERR_PERM, "socketmap:%s: inet:host:port:name or unix:path:name is expected", name);
        return NULL;
    }
    buf_printf(&whole, "socketmap:%s", name);
    buf_append(&where, name, (size_t)(colon - name));
    table = remote_table_new(buf_text(&whole), buf_text(&where), colon + 1, about, err);
    buf_release(&whole);
    buf_release(&where);
    return table;
}

static int may_wait
read_netstring(struct arena *arena, struct stream *stream, struct slice *content, struct err *err)
{
    struct slice seen;
    size_t len, head;
    char *text;
    int result;

    if (stream_peek(stream, &seen, err) < 0)
        return -1;
    while ((result = netstring_head_read(seen, SOCKETMAP_REPLY_LIMIT, &len, &head, err)) == 0)
        if (stream_peek_more(stream, &seen, err) < 0)
            return -1;
    if (result < 0)
        return -1;
    stream_take(stream, head);
    text = arena_alloc(arena, len + 1);
    if (stream_read(stream, text, len + 1, err) < 0)
        return -1;
    *content = slice_make(text, len);
    return text[len] == ',' ? 0 : err_set(err, ERR_SYNTAX, "malformed netstring");
}

static int may_wait
converse(void *ctx, struct stream *stream, struct err *err)
{
    struct remote_question *q = ctx;
    struct slice content;

    stream_write(stream, q->request.ptr, q->request.len);
    if (stream_flush(stream, err) < 0 || read_netstring(q->arena, stream, &content, err) < 0)
        return -1;
    return socketmap_reply_read(q->arena, content, &q->value, err);
}

static int may_wait
socketmap_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    const struct remote_table *table = state;
    struct buf request = {0};

    buf_printf(&request, "%zu:%s %.*s,", strlen(table->map) + 1 + key.len, table->map, SLICE_ARG(key));
    return remote_table_ask(table, arena, &request, converse, value, err);
}

const struct table_ops table_socketmap = {.type = "socketmap",
                                          .keys = TABLE_PATTERNS,
                                          .may_block = true,
                                          .untrusted = true,
                                          .open = socketmap_open,
                                          .close = remote_table_close,
                                          .find = socketmap_find};
