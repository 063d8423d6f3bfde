/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <time.h>

#include "lib/mail/addr.h"
#include "lib/run/loop.h"
#include "pipe/pipe.h"

enum { PIECE = 32 * 1024, HEADER_LIMIT = 1 << 20 };

static const char from_[] = "From ";

/* ---- what goes before the content ---- */

static const char *
sender_of(const struct pipe_content *c)
{
    const char *sender = c->delivery->request->sender;

    return *sender ? addr_quote(c->delivery->arena, sender) : c->attributes->null_sender;
}

static void
put_line_end(const struct pipe_content *c, struct buf *out)
{
    buf_append_slice(out, c->attributes->eol);
}

/* Addresses may hold anything that a client could quote; a header line is one line. */
static void
put_address(struct buf *out, const char *address)
{
    for (; *address; address++)
        buf_append_byte(out, *address == '\n' || *address == '\r' ? '?' : *address);
}

static void
put_from_line(const struct pipe_content *c, struct buf *out)
{
    time_t now = (time_t)(loop_now_wall() / 1000000);
    struct tm tm;
    char date[64];

    localtime_r(&now, &tm);
    strftime(date, sizeof date, "%a %b %e %H:%M:%S %Y", &tm);
    buf_append_text(out, from_);
    put_address(out, sender_of(c));
    buf_printf(out, "  %s", date);
    put_line_end(c, out);
}

static void
put_field(const struct pipe_content *c, const char *name, const char *value, struct buf *out)
{
    buf_append_text(out, name);
    put_address(out, value);
    if (name[strlen(name) - 1] == '<')
        buf_append_byte(out, '>');
    put_line_end(c, out);
}

static void
put_front(const struct pipe_content *c, struct buf *out)
{
    const struct msg_deliver *request = c->delivery->request;
    const struct deliver_recipient *r = &request->recipients[0];
    unsigned flags = c->attributes->flags;

    if (flags & PIPE_FROM_LINE)
        put_from_line(c, out);
    if (flags & PIPE_RETURN_PATH)
        put_field(c, "Return-Path: <", sender_of(c), out);
    if (flags & PIPE_ORIGINAL_TO)
        put_field(c, "X-Original-To: ", addr_quote(c->delivery->arena, *r->original ? r->original : r->address), out);
    if (flags & PIPE_DELIVERED_TO)
        put_field(c, "Delivered-To: ", addr_quote(c->delivery->arena, r->address), out);
}

/* ---- lines ---- */

/* Bytes of a line's start that may become "From " are held back until that is known. */
static void
put_line_start(struct pipe_content *c, struct slice *text, struct buf *out)
{
    size_t n = 0;

    if ((c->attributes->flags & PIPE_STUFF_DOTS) && c->from_seen == 0 && text->ptr[0] == '.')
        buf_append_byte(out, '.');
    if (c->attributes->flags & PIPE_QUOTE_FROM) {
        while (n < text->len && c->from_seen < sizeof from_ - 1 && text->ptr[n] == from_[c->from_seen]) {
            n++;
            c->from_seen++;
        }
        *text = slice_make(text->ptr + n, text->len - n);
        if (text->len == 0 && c->from_seen < sizeof from_ - 1)
            return;
        if (c->from_seen == sizeof from_ - 1)
            buf_append_byte(out, '>');
        buf_append(out, from_, c->from_seen);
        c->from_seen = 0;
    }
    c->at_line_start = false;
}

static void
put_text(struct pipe_content *c, struct slice text, struct buf *out)
{
    while (text.len > 0) {
        const char *lf;
        size_t len;

        if (c->at_line_start) {
            put_line_start(c, &text, out);
            if (text.len == 0)
                break;
        }
        lf = memchr(text.ptr, '\n', text.len);
        len = lf ? (size_t)(lf - text.ptr) : text.len;
        buf_append(out, text.ptr, len);
        if (lf) {
            put_line_end(c, out);
            c->at_line_start = true;
        }
        text = slice_make(text.ptr + len + (lf != NULL), text.len - len - (lf != NULL));
    }
}

static void
put_end(struct pipe_content *c, struct buf *out)
{
    buf_append(out, from_, c->from_seen);
    if (c->from_seen || !c->at_line_start)
        put_line_end(c, out);
    c->from_seen = 0;
    if (c->attributes->flags & PIPE_BLANK_LINE)
        put_line_end(c, out);
    c->ended = true;
}

/* Without changes the pieces go as they are. */
static bool
is_plain(const struct pipe_attributes *a)
{
    return !(a->flags & (PIPE_STUFF_DOTS | PIPE_QUOTE_FROM)) && slice_equal_text(a->eol, "\n");
}

int
pipe_content_feed(void *ctx, struct buf *out, struct err *err)
{
    struct pipe_content *c = ctx;
    struct buf piece = {0};
    ssize_t n;

    if (c->ended)
        return 0;
    if (!c->begun) {
        c->begun = c->at_line_start = true;
        put_front(c, out);
    }
    while (out->len < PIECE && !c->ended) {
        struct buf *into = is_plain(c->attributes) ? out : &piece;

        buf_clear(&piece);
        n = source_read_text(c->delivery->source, buf_reserve(into, PIECE), PIECE, err);
        if (n < 0) {
            buf_release(&piece);
            return -1;
        }
        if (n == 0)
            put_end(c, out);
        else if (into == out)
            c->at_line_start = into->ptr[into->len + (size_t)n - 1] == '\n';
        if (n > 0)
            buf_added(into, (size_t)n);
        if (n > 0 && into == &piece)
            put_text(c, buf_slice(&piece), out);
    }
    buf_release(&piece);
    return 0;
}

/* ---- loops ---- */

static bool
is_delivered_to(struct slice line, const char *address)
{
    static const char name[] = "Delivered-To:";

    if (!slice_starts_with_fold(line, name))
        return false;
    return slice_equal_text_fold(slice_trim(slice_make(line.ptr + sizeof name - 1, line.len - (sizeof name - 1))),
                                 address);
}

/* Looks at the complete lines; the rest stays. True: found, or the header is over. */
static bool
look(struct buf *header, const char *address, bool *found)
{
    struct slice line;
    const char *lf;

    while ((lf = memchr(header->ptr, '\n', header->len)) != NULL) {
        line = slice_make(header->ptr, (size_t)(lf - header->ptr));
        if (line.len == 0)
            return true;
        *found = is_delivered_to(line, address);
        if (*found)
            return true;
        buf_consume(header, line.len + 1);
        if (header->len == 0)
            break;
    }
    return false;
}

int
pipe_content_is_loop(const struct delivery *d, const char *address, bool *found, struct err *err)
{
    struct buf header = {0};
    size_t seen = 0;
    ssize_t n = 0;

    *found = false;
    while (seen < HEADER_LIMIT && (n = source_read_text(d->source, buf_reserve(&header, PIECE), PIECE, err)) > 0) {
        buf_added(&header, (size_t)n);
        seen += (size_t)n;
        if (look(&header, address, found))
            break;
    }
    buf_release(&header);
    source_rewind(d->source);
    return n < 0 ? -1 : 0;
}
