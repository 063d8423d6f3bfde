/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/content.h"

#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "smtp/checks.h"
#include "smtp/downgrade.h"
#include "smtp/features.h"
#include "smtp/generic.h"
#include "smtp/pix.h"

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

/* Pieces on their way out; limit 0: lines stay as they are. */
struct sending {
    struct session *session;
    size_t limit;
    struct line_folder folder;
    struct buf folded;
    struct checking *checking;   /* NULL: no checks */
    struct downgrade *downgrade; /* NULL: it stays 8-bit */
    bool stream_failed;
    struct err *err;
    bool delays_dot;
    char held[3]; /* then: the last bytes so far, which are the final dot's line in the end */
    size_t held_len;
};

/* Sends all but the last three bytes. */
static int may_wait
send_all_but_dot(struct sending *to, struct slice bytes, struct err *err)
{
    struct buf all = {0};
    size_t keep;
    int result;

    buf_append(&all, to->held, to->held_len);
    buf_append_slice(&all, bytes);
    keep = all.len < sizeof to->held ? all.len : sizeof to->held;
    result = stream_write_through(to->session->stream, all.ptr, all.len - keep, err);
    memcpy(to->held, all.ptr + all.len - keep, keep);
    to->held_len = keep;
    buf_release(&all);
    return result;
}

static int may_wait
send_delayed_dot(struct sending *to, struct err *err)
{
    struct session *s = to->session;

    if (stream_flush(s->stream, err) < 0 || task_sleep(s->client->set.smtp_pix_workaround_delay_time, err) < 0)
        return -1;
    start_limit(s);
    return stream_write_through(s->stream, to->held, to->held_len, err);
}

static int may_wait
send_piece(struct sending *to, struct slice bytes, struct err *err)
{
    if (to->limit > 0) {
        buf_clear(&to->folded);
        content_fold(&to->folder, bytes, to->limit, &to->folded);
        bytes = buf_slice(&to->folded);
    }
    start_limit(to->session);
    to->stream_failed = (to->delays_dot ? send_all_but_dot(to, bytes, err)
                                        : stream_write_through(to->session->stream, bytes.ptr, bytes.len, err)) < 0;
    return to->stream_failed ? -1 : 0;
}

/* What was made 7-bit. */
static int may_wait
send_converted(void *ctx, struct slice bytes, bool is_copy)
{
    struct sending *to = ctx;

    (void)is_copy;
    return send_piece(to, bytes, to->err);
}

/* For what the checks let pass. */
static int may_wait
send_checked(void *ctx, struct slice bytes, bool is_copy)
{
    struct sending *to = ctx;

    (void)is_copy;
    return to->downgrade ? downgrade_add(to->downgrade, bytes) : send_piece(to, bytes, to->err);
}

static int may_wait
pass_piece(struct sending *to, struct slice bytes, struct err *err)
{
    return to->checking ? checking_add(to->checking, bytes, err) : send_checked(to, bytes, false);
}

static int may_wait
pass_end(struct sending *to, struct err *err)
{
    if (to->checking && checking_end(to->checking, err) < 0)
        return -1;
    return to->downgrade ? downgrade_end(to->downgrade) : 0;
}

static int may_wait
send_header(struct sending *to, struct source *source, bool *unreadable, struct err *err)
{
    struct arena *arena = arena_new();
    struct buf header = {0};
    int result = generic_header(arena, to->session->client->generic, source, &header, unreadable, err);

    if (result == 0)
        result = pass_piece(to, buf_slice(&header), err);
    buf_release(&header);
    arena_free(&arena);
    return result;
}

static int may_wait
send_pieces(struct session *s, struct source *source, size_t limit, bool *unreadable, struct err *err)
{
    struct sending to = {
        .session = s, .limit = limit, .err = err, .delays_dot = (s->workarounds & PIX_DELAY_DOTCRLF) != 0};
    const struct mime_sink sink = {send_checked, &to}, last = {send_converted, &to};
    struct arena *arena = arena_new();
    struct slice bytes;
    int result = 0, more;

    if (s->client->checks)
        to.checking = checking_new(arena, s->client->checks, source_envelope(source)->queue_id, &sink);
    if (content_is_converted(s, source))
        to.downgrade = downgrade_new(arena, &s->client->set, &last);
    if (s->client->generic)
        result = send_header(&to, source, unreadable, err);
    while (result == 0 && (more = source_next_wire(source, &bytes, err)) != 0) {
        *unreadable = more < 0;
        result = more < 0 ? -1 : pass_piece(&to, bytes, err);
    }
    if (result == 0)
        result = pass_end(&to, err);
    if (result == 0 && to.delays_dot)
        to.stream_failed = (result = send_delayed_dot(&to, err)) < 0;
    if (result < 0 && to.checking && !to.stream_failed)
        *unreadable = true; /* it, or a table */
    buf_release(&to.folded);
    arena_free(&arena);
    return result;
}

bool
content_is_converted(const struct session *s, struct source *source)
{
    const struct envelope *e = source_envelope(source);
    struct slice whole;

    if ((s->features & FEATURE_8BITMIME) || s->client->set.disable_mime_output_conversion ||
        strcmp(e->encoding, "7bit") == 0)
        return false;
    if (strcmp(e->encoding, "8bit") == 0)
        return true;
    whole = source_whole_wire(source, WHOLE_LIMIT);
    if (whole.len > 0)
        return text_has_8bit(whole);
    /* cleanup has looked at what lies in the journal; a queue file does not tell. */
    return e->longest_line == 0 || (e->content_flags & CONTENT_8BIT);
}

int may_wait
content_send(struct session *s, struct source *source, bool *unreadable, struct err *err)
{
    int64_t limit = s->client->set.smtp_line_length_limit, longest = source_envelope(source)->longest_line;
    bool changes = s->client->generic || s->client->checks || content_is_converted(s, source);
    bool in_pieces = changes || (s->workarounds & PIX_DELAY_DOTCRLF);
    /* A queue file does not tell. */
    bool fold = limit > 0 && (longest == 0 || longest > limit || changes);
    struct slice whole = fold || in_pieces ? slice_make(NULL, 0) : source_whole_wire(source, WHOLE_LIMIT);

    *unreadable = false;
    source_rewind(source);
    if (whole.len == 0)
        return send_pieces(s, source, fold ? (size_t)limit : 0, unreadable, err);
    start_limit(s);
    return stream_write_through(s->stream, whole.ptr, whole.len, err);
}
