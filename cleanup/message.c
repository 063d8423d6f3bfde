/* SPDX-License-Identifier: Apache-2.0 */
/* The way of one message, as one task: gather, check and complete the header, measure, make durable, answer, announce. */
#include "cleanup/message.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "cleanup/announce.h"
#include "cleanup/body.h"
#include "cleanup/characters.h"
#include "cleanup/server.h"
#include "cleanup/spool.h"
#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/content_stream.h"
#include "lib/mail/queue_id.h"
#include "lib/run/loop.h"
#include "lib/run/stream.h"

enum {
    GATHER_LIMIT = 256 * 1024, /* of a content from a descriptor; what is larger is streamed to a segment of its own */
    ENVELOPE_SPARE = 8 * 1024, /* by which an envelope grows at most between here and the end */
};

int
message_refuse(struct message *m, int code, const char *enhanced, const char *fmt, ...)
{
    va_list args;

    if (m->answer.code)
        return -1;
    va_start(args, fmt);
    m->answer.text = arena_vprintf(m->arena, fmt, args);
    va_end(args);
    m->answer.code = code;
    m->answer.enhanced = enhanced;
    return -1;
}

void
message_add_piece(struct message *m, const char *bytes, size_t len)
{
    struct iovec *last = m->piece_count ? &m->pieces[m->piece_count - 1] : NULL;

    if (len == 0)
        return;
    if (last && (const char *)last->iov_base + last->iov_len == bytes) {
        last->iov_len += len;
        return;
    }
    if (m->piece_count == m->piece_room) {
        unsigned room = m->piece_room ? m->piece_room * 2 : 8;
        struct iovec *pieces = arena_array(m->arena, room, sizeof(*pieces));

        if (m->piece_count)
            memcpy(pieces, m->pieces, m->piece_count * sizeof(*pieces));
        m->pieces = pieces;
        m->piece_room = room;
    }
    m->pieces[m->piece_count++] = (struct iovec){(void *)(uintptr_t)bytes, len};
}

/* ---- checks ---- */

static int
check_envelope(struct message *m)
{
    const struct envelope *e = m->envelope;

    if (!queue_id_is_valid(slice_from(e->queue_id)) || e->recipient_count == 0 || e->arrival_sec <= 0) {
        log_warning("malformed envelope from a client: queue id \"%s\", %zu recipients", e->queue_id,
                    e->recipient_count);
        return message_refuse(m, 451, "4.3.0", "Error: internal error");
    }
    if (server.stopping)
        return message_refuse(m, 451, "4.3.2", "Error: the mail system is stopping");
    return 0;
}

static int
check_size(struct message *m)
{
    int64_t limit = server.settings.message_size_limit;

    if (limit > 0 && m->measure.record_length > (uint64_t)limit)
        return message_refuse(m, 552, "5.3.4", "Error: message file too big");
    return 0;
}

/* ---- gathering ---- */

/* The sender went away: there is nobody to answer. */
static int
sender_is_gone(struct message *m, const struct err *err)
{
    log_debug("%s: content not complete: %s", m->envelope->queue_id, err->text);
    return message_refuse(m, 451, "4.3.0", "Error: content not complete");
}

static int
too_slow(struct message *m, const struct err *err)
{
    log_warning("%s: %s", m->envelope->queue_id, err->text);
    return message_refuse(m, 451, "4.3.2", "Error: %s", err->text);
}

/* Says what kept the message from being stored. */
static int
not_stored(struct message *m, const struct err *err)
{
    if (err->kind == ERR_CANCELLED)
        return sender_is_gone(m, err);
    log_warning("%s: %s", m->envelope->queue_id, err->text);
    if (err->code == ENOSPC || err->code == EDQUOT)
        return message_refuse(m, 452, "4.3.1", "Insufficient system storage");
    return message_refuse(m, 451, "4.3.0", "Error: queue file write error");
}

/* The next piece of the stream; empty at the end, and then the stream is closed. */
static int may_wait
next_piece(struct message *m, struct slice *piece)
{
    struct err err;

    if (room_wait(&m->room, m->stream, &err) < 0)
        return err.kind == ERR_TEMP ? too_slow(m, &err) : sender_is_gone(m, &err);
    if (content_stream_receive(m->stream, &m->stream_left, piece, &err) < 0)
        return sender_is_gone(m, &err);
    room_count(&m->room, piece->len);
    if (piece->len == 0)
        stream_free(&m->stream);
    return characters_filter(m, piece, &m->filtered);
}

static int may_wait
gather(struct message *m, struct buf *gathered)
{
    struct slice piece;

    if (!m->stream)
        return characters_filter(m, &m->front, &m->filtered);
    while (m->stream && gathered->len < GATHER_LIMIT) {
        if (next_piece(m, &piece) < 0)
            return -1;
        buf_append_slice(gathered, piece);
    }
    m->front = buf_slice(gathered);
    return 0;
}

/* ---- storing ---- */

/* Fields that are known when the content is. */
static void
finish_envelope(struct message *m)
{
    struct envelope *e = m->envelope;

    e->content_length = (int64_t)m->measure.wire_length;
    e->text_length = (int64_t)m->measure.record_length;
    e->longest_line = (int64_t)m->measure.longest_line;
    e->content_flags = (int64_t)m->measure.flags;
}

static int may_wait
store_whole(struct message *m, struct slice envelope, struct journal_place *place)
{
    struct err err;

    if (journal_append(server.journal, envelope, m->pieces, m->piece_count, place, &err) < 0)
        return not_stored(m, &err);
    return 0;
}

static int may_wait
write_piece(struct message *m, struct journal_large *large, struct slice piece)
{
    struct err err;

    measure_add(&m->measure, piece);
    if (check_size(m) < 0)
        return -1;
    return journal_large_write(large, piece, &err) < 0 ? not_stored(m, &err) : 0;
}

/* Whole lines, and at least one: a queue file without any content would be damaged (checks may have dropped all). */
static bool
ends_well(const struct message *m)
{
    return m->measure.wire_length > 0 && measure_is_at_line_start(&m->measure);
}

/* For the walk through the body. */
struct large_sink {
    struct message *m;
    struct journal_large *large;
};

static int may_wait
write_walked(void *ctx, struct slice piece, bool is_copy)
{
    struct large_sink *sink = ctx;

    (void)is_copy;
    return write_piece(sink->m, sink->large, piece);
}

/* A piece of the stream; an empty one is the end. */
static int may_wait
pass_piece(struct message *m, struct journal_large *large, struct slice piece)
{
    struct large_sink to = {m, large};
    const struct mime_sink sink = {write_walked, &to};

    if (!m->walk)
        return write_piece(m, large, piece);
    return piece.len > 0 ? mime_walk_add(m->walk, piece, &sink) : mime_walk_end(m->walk, &sink);
}

static int may_wait
write_stream(struct message *m, struct journal_large *large)
{
    struct slice piece;
    struct err err;

    for (unsigned i = 0; i < m->piece_count; i++) {
        piece = slice_make(m->pieces[i].iov_base, m->pieces[i].iov_len);
        if (journal_large_write(large, piece, &err) < 0)
            return not_stored(m, &err);
    }
    while (m->stream)
        if (next_piece(m, &piece) < 0 || pass_piece(m, large, piece) < 0)
            return -1;
    return ends_well(m) ? 0 : write_piece(m, large, slice_make("\r\n", 2));
}

static int may_wait
store_stream(struct message *m, struct buf *envelope, struct journal_place *place)
{
    struct journal_large *large;
    struct err err;

    large = journal_large_new(server.journal, 0, envelope->len + ENVELOPE_SPARE, &err);
    if (!large)
        return not_stored(m, &err);
    if (write_stream(m, large) < 0) {
        journal_large_abort(&large);
        return -1;
    }
    finish_envelope(m);
    buf_clear(envelope);
    msg_encode(&type_envelope, m->envelope, envelope);
    return journal_large_commit(&large, buf_slice(envelope), place, &err) < 0 ? not_stored(m, &err) : 0;
}

static int may_wait
store(struct message *m, struct buf *envelope, struct journal_place *place)
{
    if (m->stream)
        return store_stream(m, envelope, place);
    return store_whole(m, buf_slice(envelope), place);
}

/* A message to be held is in the journal only until its file is written. If it can't be, the client is told so, and the
 * image must not come up again after a crash. */
static int may_wait
hold(struct message *m, const struct journal_place *place)
{
    struct err err, why;
    int result = spool_image(place, "hold", &err);

    if (result < 0 && spool_strike(place, &why) < 0)
        log_warning("%s: %s", m->envelope->queue_id, why.text);
    journal_release(server.journal, place);
    return result < 0 ? not_stored(m, &err) : 0;
}

/* ---- the way ---- */

static void
begin_envelope(struct message *m)
{
    struct envelope *e = m->envelope;

    e->create_time = loop_now_wall() / 1000000;
    if (server.settings.delay_warning_time > 0 && *e->sender && !e->warn_time)
        e->warn_time = e->arrival_sec + server.settings.delay_warning_time / 1000000;
}

/* SMTPUTF8 where the source wanted it found out, and what of the message needs it. */
static void
note_utf8(struct message *m)
{
    struct envelope *e = m->envelope;
    bool sender = text_has_8bit(slice_from(e->sender)), recipient = false;

    for (size_t i = 0; i < e->recipient_count && !recipient; i++)
        recipient = text_has_8bit(slice_from(e->recipients[i].address));
    if ((e->submit_flags & SUBMIT_DETECT_UTF8) && (m->has_utf8_header || sender || recipient))
        e->sendopts |= SENDOPT_SMTPUTF8;
    if (e->sendopts & SENDOPT_SMTPUTF8)
        e->sendopts |= (m->has_utf8_header ? SENDOPT_UTF8_HEADER : 0) | (sender ? SENDOPT_UTF8_SENDER : 0);
}

/* The message is to be thrown away, and nothing speaks against it. */
static bool
is_discarded(const struct message *m)
{
    return (m->envelope->submit_flags & SUBMIT_DISCARD) && m->answer.code == 0;
}

/* Everything up to where the message is durable. *place.length 0: it was not to be kept. */
static int may_wait
take_in(struct message *m, struct buf *gathered, struct buf *encoded, struct journal_place *place)
{
    if (check_envelope(m) < 0 || gather(m, gathered) < 0)
        return -1;
    begin_envelope(m);
    if (addresses_clean(m) < 0 || header_scan(m) < 0)
        return is_discarded(m) ? 0 : -1;
    note_utf8(m);
    for (unsigned i = 0; i < m->piece_count; i++)
        measure_add(&m->measure, slice_make(m->pieces[i].iov_base, m->pieces[i].iov_len));
    if (!m->stream && !ends_well(m)) {
        message_add_piece(m, "\r\n", 2);
        measure_add(&m->measure, slice_make("\r\n", 2));
    }
    if (check_size(m) < 0)
        return -1;
    if (m->envelope->submit_flags & SUBMIT_DISCARD)
        return 0;
    finish_envelope(m);
    msg_encode(&type_envelope, m->envelope, encoded);
    return store(m, encoded, place) < 0 && !is_discarded(m) ? -1 : 0;
}

static void may_wait
process(struct message *m, struct link_message *in)
{
    struct journal_place place = {.length = 0};
    struct buf gathered = {0}, encoded = {0};
    struct err err;
    bool from_stream = in->fd_count > 0;
    int result = 0;

    m->front = in->payload;
    if (from_stream) {
        m->stream = stream_new(in->fds[0]);
        stream_set_bulk(m->stream, true);
        in->fds[0] = in->fds[--in->fd_count]; /* now the stream's */
        result = room_take(&m->room, &err) < 0 ? sender_is_gone(m, &err) : 0;
    }
    if (result == 0)
        result = take_in(m, &gathered, &encoded, &place);
    if (result == 0 && place.length > 0 && (m->envelope->submit_flags & SUBMIT_HOLD))
        result = hold(m, &place);
    else if (result == 0 && place.length > 0)
        announce(&place, buf_slice(&encoded));
    if (result == 0) {
        m->answer.size = m->envelope->text_length;
        message_refuse(m, 250, "2.0.0", "Ok: queued as %s", m->envelope->queue_id);
    }
    if (from_stream) {
        room_leave(&m->room);
        stream_free(&m->stream);
    }
    mime_walk_free(&m->walk);
    buf_release(&m->filtered);
    buf_release(&gathered);
    buf_release(&encoded);
}

void
message_take(struct link_request *request, struct link_message *in, void *ctx)
{
    struct message m = {.arena = link_request_arena(request), .envelope = in->message};

    (void)ctx;
    m.answer.enhanced = m.answer.text = "";
    server.messages++;
    process(&m, in);
    link_close_fds(in);
    link_reply(request, &type_submitted, &m.answer, slice_make(NULL, 0), NULL, 0);
    server.messages--;
    task_wake_all(&server.taken_in);
}
