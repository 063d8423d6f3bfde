/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/content.h"

#include <string.h>

#include "lib/base/buf.h"
#include "lib/run/loop.h"

/* What is written with one time limit. */
enum { WHOLE_LIMIT = 128 * 1024 };

static void
start_limit(struct session *s)
{
    stream_set_deadline(s->stream, loop_now() + s->client->set.smtp_data_xfer_timeout);
}

/* Bytes within a line: no LF among them; a CR stands only before its LF and does not count. */
static void
fold_line(struct line_folder *folder, struct slice bytes, size_t limit, struct buf *out)
{
    size_t extra = bytes.len > 0 && bytes.ptr[bytes.len - 1] == '\r';

    while (folder->column + bytes.len - extra > limit) {
        size_t room = limit > folder->column ? limit - folder->column : 0;
        buf_append(out, bytes.ptr, room);
        buf_append(out, "\r\n ", 3);
        bytes = slice_make(bytes.ptr + room, bytes.len - room);
        folder->column = 1;
    }
    buf_append_slice(out, bytes);
    folder->column += bytes.len - extra;
}

void
content_fold(struct line_folder *folder, struct slice bytes, size_t limit, struct buf *out)
{
    while (bytes.len > 0) {
        const char *lf = memchr(bytes.ptr, '\n', bytes.len);
        size_t len = lf ? (size_t)(lf - bytes.ptr) : bytes.len;
        fold_line(folder, slice_make(bytes.ptr, len), limit < 2 ? 2 : limit, out);
        if (!lf)
            return;
        buf_append_byte(out, '\n');
        folder->column = 0;
        bytes = slice_make(lf + 1, bytes.len - len - 1);
    }
}

/* Writes all pieces; limit 0: lines stay as they are. */
static int may_wait
send_pieces(struct session *s, struct source *source, size_t limit, bool *unreadable, struct err *err)
{
    struct line_folder folder = {.column = 0};
    struct buf folded = {0};
    struct slice bytes;
    int result = 0, more;

    while (result == 0 && (more = source_next_wire(source, &bytes, err)) != 0) {
        *unreadable = more < 0;
        if (more < 0) {
            result = -1;
            break;
        }
        if (limit > 0) {
            buf_clear(&folded);
            content_fold(&folder, bytes, limit, &folded);
            bytes = buf_slice(&folded);
        }
        start_limit(s);
        result = stream_write_through(s->stream, bytes.ptr, bytes.len, err);
    }
    buf_release(&folded);
    return result;
}

int may_wait
content_send(struct session *s, struct source *source, bool *unreadable, struct err *err)
{
    int64_t limit = s->client->set.smtp_line_length_limit, longest = source_envelope(source)->longest_line;
    /* A queue file does not tell. */
    bool fold = limit > 0 && (longest == 0 || longest > limit);
    struct slice whole = fold ? slice_make(NULL, 0) : source_whole_wire(source, WHOLE_LIMIT);

    *unreadable = false;
    source_rewind(source);
    if (whole.len == 0)
        return send_pieces(s, source, fold ? (size_t)limit : 0, unreadable, err);
    start_limit(s);
    return stream_write_through(s->stream, whole.ptr, whole.len, err);
}
