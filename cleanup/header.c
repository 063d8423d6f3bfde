/* SPDX-License-Identifier: Apache-2.0 */
/* The header section, in wire form. It ends with an empty line, or with the first line that is neither a header nor goes
 * on with one; then an empty line is put in its place. */
#include <string.h>

#include "cleanup/body.h"
#include "cleanup/check.h"
#include "cleanup/message.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/mail/wire.h"

enum { MESSAGE_ID_LIMIT = 1000 }; /* of what is logged and kept in the envelope */

/* A header with the lines that go on with it. */
struct header {
    struct slice all;   /* with the final CRLF */
    struct slice name;  /* without colon */
    struct slice value; /* as it stands, from behind the colon to before the final CRLF */
};

/* ---- what single headers mean to us ---- */

static const char *
unfold(struct message *m, struct slice value)
{
    char *text, *to;

    value = slice_trim(value);
    if (value.len > MESSAGE_ID_LIMIT)
        value.len = MESSAGE_ID_LIMIT;
    text = to = arena_strndup(m->arena, value.ptr, value.len);
    for (size_t i = 0; i < value.len; i++)
        if (text[i] != '\r' && text[i] != '\n' && text[i] != '\0')
            *to++ = text[i];
    *to = '\0';
    return text;
}

static void
on_message_id(struct message *m, const struct header *h)
{
    if (!*m->envelope->message_id)
        m->envelope->message_id = unfold(m, h->value);
    log_message_id(m->envelope->queue_id, "", unfold(m, h->value));
}

static void
on_resent_message_id(struct message *m, const struct header *h)
{
    log_message_id(m->envelope->queue_id, "resent-", unfold(m, h->value));
}

static void
on_received(struct message *m, const struct header *h)
{
    (void)h;
    m->hops++;
}

static void
on_type(struct message *m, const struct header *h)
{
    m->content_type = slice_from(unfold(m, h->value));
}

static void
on_encoding(struct message *m, const struct header *h)
{
    struct slice value = slice_trim(h->value);

    m->content_encoding = value;
    if (slice_equal_text_fold(value, "8bit") || slice_equal_text_fold(value, "binary"))
        m->envelope->encoding = "8bit";
}

enum { SENDER = ADDR_HEADER_SENDER, RECIPIENT = ADDR_HEADER_RECIPIENT };

static const struct known {
    const char *name;
    unsigned has;
    void (*fn)(struct message *, const struct header *);
    unsigned role; /* what the addresses in it are; 0: there are none */
} known[] = {
    {"received", 0, on_received, 0},
    {"message-id", HAS_MESSAGE_ID, on_message_id, 0},
    {"date", HAS_DATE, NULL, 0},
    {"from", HAS_FROM, NULL, SENDER},
    {"to", HAS_RECIPIENT, NULL, RECIPIENT},
    {"cc", HAS_RECIPIENT, NULL, RECIPIENT},
    {"bcc", HAS_RECIPIENT, NULL, RECIPIENT},
    {"content-type", 0, on_type, 0},
    {"content-transfer-encoding", 0, on_encoding, 0},
    {"sender", 0, NULL, SENDER},
    {"reply-to", 0, NULL, SENDER},
    {"errors-to", 0, NULL, SENDER},
    {"return-receipt-to", 0, NULL, SENDER},
    {"disposition-notification-to", 0, NULL, SENDER},
    {"mail-followup-to", 0, NULL, SENDER},
    {"apparently-to", 0, NULL, RECIPIENT},
    {"resent-message-id", HAS_RESENT_MESSAGE_ID, on_resent_message_id, 0},
    {"resent-date", HAS_RESENT_DATE, NULL, 0},
    {"resent-from", HAS_RESENT_FROM, NULL, SENDER},
    {"resent-sender", 0, NULL, SENDER},
    {"resent-to", 0, NULL, RECIPIENT},
    {"resent-cc", 0, NULL, RECIPIENT},
    {"resent-bcc", 0, NULL, RECIPIENT},
    {"resent-reply-to", 0, NULL, RECIPIENT},
};

/* Its row, or NULL. */
static const struct known *
note(struct message *m, const struct header *h)
{
    if (slice_starts_with_fold(h->name, "resent-"))
        m->headers |= HAS_RESENT;
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        if (slice_equal_text_fold(h->name, known[i].name)) {
            m->headers |= known[i].has;
            if (known[i].fn)
                known[i].fn(m, h);
            return &known[i];
        }
    return NULL;
}

static bool
is_dropped(const struct header *h)
{
    struct slice rest = slice_from(server.settings.message_drop_headers), word;

    while (slice_word(&rest, " ,\t\r\n", &word))
        if (slice_equal_fold(word, h->name))
            return true;
    return false;
}

/* ---- the walk ---- */

static bool
parse_name(struct slice line, struct header *h)
{
    if (!header_split(line, &h->name, &h->value))
        return false;
    h->value.len = 0; /* known at the end */
    return true;
}

static void
add_piece_of(struct message *m, struct slice all)
{
    size_t limit = (size_t)server.settings.header_size_limit;

    if (all.len <= limit + 2) {
        message_add_piece(m, all.ptr, all.len);
        return;
    }
    while (limit > 0 && (all.ptr[limit - 1] == '\r' || all.ptr[limit - 1] == '\n'))
        limit--;
    message_add_piece(m, all.ptr, limit);
    message_add_piece(m, "\r\n", 2);
}

static void
add_line(struct message *m, const char *text)
{
    struct slice wire = header_wire(m->arena, text, true);

    message_add_piece(m, wire.ptr, wire.len);
}

/* Asks header_checks. *dropped: it goes. *h may become another header. */
static int may_wait
check(struct message *m, struct header *h, bool *dropped)
{
    bool is_mime = header_is_mime(h->name);
    enum check_kind kind = is_mime ? CHECK_MIME_HEADER : CHECK_HEADER;
    struct check_result result;

    *dropped = false;
    if (!checks_want(m) || !checks_has(kind))
        return 0;
    if (check_text(m, kind, header_as_text(m->arena, h->all, (size_t)server.settings.header_size_limit), &result) < 0)
        return -1;
    if (result.prepend)
        add_line(m, result.prepend);
    *dropped = result.drop;
    if (result.replace) {
        h->all = header_wire(m->arena, result.replace, true);
        if (!header_split(h->all, &h->name, &h->value))
            return 0; /* it was looked at before */
    }
    return 0;
}

/* The header is complete: *h gets nothing in it. */
static int may_wait
finish(struct message *m, struct header *h, const char *end)
{
    const struct known *row;
    bool dropped;

    if (!h->all.ptr)
        return 0;
    h->all.len = (size_t)(end - h->all.ptr);
    h->value.len = (size_t)(end - h->value.ptr) - 2;
    if (check(m, h, &dropped) < 0)
        return -1;
    if (!dropped) {
        if (server.settings.strict_7bit_headers || server.settings.strict_8bitmime) {
            struct slice text = header_as_text(m->arena, h->all, (size_t)server.settings.header_size_limit);
            if (text_has_8bit(text) && !(m->envelope->submit_flags & SUBMIT_INTERNAL))
                return check_mime_error(m, "improper use of 8-bit data in message header", text);
        }
        row = note(m, h);
        if (!is_dropped(h)) {
            if (row && row->role && m->header_form && header_rewrite(m, row->role, &h->all, h->value) < 0)
                return -1;
            add_piece_of(m, h->all);
            m->has_utf8_header = m->has_utf8_header || (text_has_8bit(h->all) && text_is_utf8(h->all));
        }
    }
    h->all.ptr = NULL;
    return 0;
}

/* The end of the line that begins at `at`, behind its CRLF; NULL: it is not all there. */
static const char *
line_end(const char *at, const char *end)
{
    const char *lf = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;

    return lf && lf > at && lf[-1] == '\r' ? lf + 1 : NULL;
}

static const char end_of_header[] = "\r\n";

/* *body gets where the body begins (behind the empty line), the headers are in pieces, and *has_end tells of the empty
 * line. */
static int may_wait
walk(struct message *m, const char **body, bool *has_end)
{
    const char *at = m->front.ptr, *end = at + m->front.len, *next;
    struct header h = {.all = {NULL, 0}};

    *has_end = false;
    for (; (next = line_end(at, end)) != NULL; at = next) {
        struct slice line = slice_make(at, (size_t)(next - at) - 2);
        struct header begun;

        if (line.len == 0) {
            *has_end = true;
            break;
        }
        if (h.all.ptr && (*at == ' ' || *at == '\t'))
            continue;
        if (!parse_name(line, &begun))
            break;
        if (finish(m, &h, at) < 0)
            return -1;
        h = begun;
        h.all = slice_make(at, 0);
    }
    if (finish(m, &h, at) < 0)
        return -1;
    *body = *has_end ? next : at;
    return 0;
}

static void
choose_form(struct message *m)
{
    if (strcmp(m->envelope->rewrite_context, "remote") != 0)
        m->header_form = addr_rewriter_rules(server.rewriter)->form;
    else
        m->header_form = server.remote_form;
}

static int
add_piece(void *ctx, struct slice bytes, bool is_copy)
{
    struct message *m = ctx;

    message_add_piece(m, is_copy ? arena_strndup(m->arena, bytes.ptr, bytes.len) : bytes.ptr, bytes.len);
    return 0;
}

/* What follows the header section. */
static int may_wait
add_body(struct message *m, struct slice body)
{
    const struct mime_sink sink = {add_piece, m};

    m->walk = body_walk_new(m);
    if (m->answer.code)
        return -1;
    if (!m->walk)
        return add_piece(m, body, false);
    if (mime_walk_add(m->walk, body, &sink) < 0)
        return -1;
    return m->stream ? 0 : mime_walk_end(m->walk, &sink);
}

int may_wait
header_scan(struct message *m)
{
    const char *end = m->front.ptr + m->front.len, *body;
    bool has_end;

    choose_form(m);
    if (walk(m, &body, &has_end) < 0)
        return -1;
    if (!(m->envelope->submit_flags & SUBMIT_INTERNAL) && m->hops > (uint64_t)server.settings.hopcount_limit)
        return message_refuse(m, 554, "5.4.0", "Error: too many hops");
    header_complete(m);
    if (has_end || body < end || m->stream || m->piece_count == 0)
        message_add_piece(m, end_of_header, 2);
    return add_body(m, slice_make(body, (size_t)(end - body)));
}
