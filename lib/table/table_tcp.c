/* SPDX-License-Identifier: Apache-2.0 */
/* tcp_table(5): a line to a server, a line back. */
#include "lib/table/remote_reply.h"
#include "lib/table/remote_table.h"

static void *
tcp_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct buf whole = {0}, where = {0};
    struct remote_table *table;

    (void)conf;
    (void)flags;
    buf_printf(&whole, "tcp:%s", name);
    buf_printf(&where, "inet:%s", name);
    table = remote_table_new(buf_text(&whole), buf_text(&where), NULL, about, err);
    buf_release(&whole);
    buf_release(&where);
    return table;
}

static int may_wait
converse(void *ctx, struct stream *stream, struct err *err)
{
    struct remote_question *q = ctx;
    enum stream_line_end ending;
    struct slice line;

    stream_write(stream, q->request.ptr, q->request.len);
    if (stream_read_line(stream, TCP_REPLY_LIMIT, &line, &ending, err) < 0)
        return -1;
    if (ending == STREAM_LINE_CUT)
        return err_set(err, ERR_SYNTAX, "a reply of more than %d bytes", TCP_REPLY_LIMIT);
    return tcp_reply_read(q->arena, line, &q->value, err);
}

static int may_wait
tcp_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct buf request = {0};

    buf_append_text(&request, "get ");
    tcp_encode(key, &request);
    buf_append_byte(&request, '\n');
    return remote_table_ask(state, arena, &request, converse, value, err);
}

const struct table_ops table_tcp = {.type = "tcp",
                                    .keys = TABLE_PATTERNS,
                                    .may_block = true,
                                    .untrusted = true,
                                    .open = tcp_open,
                                    .close = remote_table_close,
                                    .find = tcp_find};
