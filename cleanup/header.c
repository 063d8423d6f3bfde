/* SPDX-License-Identifier: Apache-2.0 */
/* The header section, in wire form. It ends with an empty line, or with the first line that is neither a header nor goes
 * on with one; then an empty line is put in its place. */
#include <string.h>

#include "cleanup/message.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/text.h"

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
    log_info("%s: message-id=%s", m->envelope->queue_id, unfold(m, h->value));
}

static void
on_resent_message_id(struct message *m, const struct header *h)
{
    log_info("%s: resent-message-id=%s", m->envelope->queue_id, unfold(m, h->value));
}

static void
on_received(struct message *m, const struct header *h)
{
    (void)h;
    m->hops++;
}

static void
on_encoding(struct message *m, const struct header *h)
{
    struct slice value = slice_trim(h->value);

    if (slice_equal_text_fold(value, "8bit") || slice_equal_text_fold(value, "binary"))
        m->envelope->encoding = "8bit";
}

static const struct {
    const char *name;
    unsigned has;
    void (*fn)(struct message *, const struct header *);
} known[] = {
    {"received", 0, on_received},
    {"message-id", HAS_MESSAGE_ID, on_message_id},
    {"date", HAS_DATE, NULL},
    {"from", HAS_FROM, NULL},
    {"to", HAS_RECIPIENT, NULL},
    {"cc", HAS_RECIPIENT, NULL},
    {"bcc", HAS_RECIPIENT, NULL},
    {"content-transfer-encoding", 0, on_encoding},
    {"resent-message-id", HAS_RESENT_MESSAGE_ID, on_resent_message_id},
    {"resent-date", HAS_RESENT_DATE, NULL},
    {"resent-from", HAS_RESENT_FROM, NULL},
};

static void
note(struct message *m, const struct header *h)
{
    if (slice_starts_with_fold(h->name, "resent-"))
        m->headers |= HAS_RESENT;
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        if (slice_equal_text_fold(h->name, known[i].name)) {
            m->headers |= known[i].has;
            if (known[i].fn)
                known[i].fn(m, h);
            return;
        }
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

/* RFC 5322 section 2.2: printable characters, then perhaps blanks (section 4.5), then a colon. */
static bool
parse_name(struct slice line, struct header *h)
{
    size_t n = 0, colon;

    while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] < 127 && line.ptr[n] != ':')
        n++;
    for (colon = n; colon < line.len && (line.ptr[colon] == ' ' || line.ptr[colon] == '\t');)
        colon++;
    if (n == 0 || colon == line.len || line.ptr[colon] != ':')
        return false;
    h->name = slice_make(line.ptr, n);
    h->value = slice_make(line.ptr + colon + 1, 0); /* its length is known at the end */
    return true;
}

static void
finish(struct message *m, struct header *h, const char *end)
{
    size_t limit = (size_t)server.settings.header_size_limit;

    if (!h->all.ptr)
        return;
    h->all.len = (size_t)(end - h->all.ptr);
    h->value.len = (size_t)(end - h->value.ptr) - 2;
    note(m, h);
    if (is_dropped(h)) {
        ;
    } else if (h->all.len > limit + 2) {
        while (limit > 0 && (h->all.ptr[limit - 1] == '\r' || h->all.ptr[limit - 1] == '\n'))
            limit--;
        message_add_piece(m, h->all.ptr, limit);
        message_add_piece(m, "\r\n", 2);
    } else {
        message_add_piece(m, h->all.ptr, h->all.len);
    }
    h->all.ptr = NULL;
}

/* The end of the line that begins at `at`, behind its CRLF; NULL: it is not all there. */
static const char *
line_end(const char *at, const char *end)
{
    const char *lf = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;

    return lf && lf > at && lf[-1] == '\r' ? lf + 1 : NULL;
}

static const char end_of_header[] = "\r\n";

/* Returns where the body begins (behind the empty line), with the headers in pieces and *has_end telling of the empty line. */
static const char *
walk(struct message *m, bool *has_end)
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
        finish(m, &h, at);
        h = begun;
        h.all = slice_make(at, 0);
    }
    finish(m, &h, at);
    return *has_end ? next : at;
}

int
header_scan(struct message *m)
{
    const char *end = m->front.ptr + m->front.len, *body;
    bool has_end;

    body = walk(m, &has_end);
    if (!(m->envelope->submit_flags & SUBMIT_INTERNAL) && m->hops > (uint64_t)server.settings.hopcount_limit)
        return message_refuse(m, 554, "5.4.0", "Error: too many hops");
    header_complete(m);
    if (has_end || body < end || m->stream || m->piece_count == 0)
        message_add_piece(m, end_of_header, 2);
    message_add_piece(m, body, (size_t)(end - body));
    return 0;
}
