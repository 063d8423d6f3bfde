/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/downgrade.h"

#include <stdint.h>
#include <string.h>

#include "lib/base/buf.h"

enum {
    LINE = 72,                /* a line of quoted-printable gets nothing more behind so many bytes; RFC 2045 has 76 as the limit */
    OUT_LIMIT = 32 * 1024,    /* what is gathered before it goes on */
    ENCODE_STEP = 16 * 1024,  /* of a line */
};

struct downgrade {
    struct mime_walk_rules rules;
    struct mime_walk *walk;
    const struct mime_sink *sink;
    struct mime_sink gather;
    struct arena *scratch;
    struct buf out;

    /* Of the part that is being encoded. */
    size_t column;
    bool in_line; /* a piece of a long line has passed */
    char held;    /* its last byte, if only what follows can say what it becomes; else 0 */
};

/* ---- output ---- */

static int may_wait
flush(struct downgrade *d)
{
    int result = d->out.len > 0 ? d->sink->emit(d->sink->ctx, buf_slice(&d->out), true) : 0;

    buf_clear(&d->out);
    return result;
}

static int may_wait
gather(void *ctx, struct slice bytes, bool is_copy)
{
    struct downgrade *d = ctx;

    (void)is_copy;
    buf_append_slice(&d->out, bytes);
    return d->out.len >= OUT_LIMIT ? flush(d) : 0;
}

/* ---- quoted-printable (RFC 2045 section 6.7) ---- */

static void
encode_byte(struct downgrade *d, char byte, bool ends_line)
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned char c = (unsigned char)byte;
    bool is_blank = c == ' ' || c == '\t';
    bool stays = is_blank ? !ends_line : c > ' ' && c < 127 && c != '=';

    if (d->column > LINE) {
        buf_append(&d->out, "=\r\n", 3);
        d->column = 0;
        stays = stays && c != '-'; /* no line of ours may look like a delimiter */
    }
    if (d->column == 0 && c == '.')
        buf_append_byte(&d->out, '.'); /* what begins with a dot gets another one (RFC 5321 section 4.5.2) */
    if (stays) {
        buf_append_byte(&d->out, byte);
        d->column++;
        return;
    }
    buf_append(&d->out, (const char[]){'=', digits[c >> 4], digits[c & 15]}, 3);
    d->column += 3;
}

/* Behind this byte of an unfinished line may come one that changes what it is. */
static bool
may_change(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* A line's bytes, without its end and the dot that the wire form adds. */
static void
encode_text(struct downgrade *d, struct slice text, bool ends_line)
{
    if (d->held && !(d->held == '\r' && ends_line && text.len == 0))
        encode_byte(d, d->held, ends_line && text.len == 0);
    d->held = '\0';
    if (!ends_line && text.len > 0 && may_change(text.ptr[text.len - 1]))
        d->held = text.ptr[--text.len];
    for (size_t i = 0; i < text.len; i++)
        encode_byte(d, text.ptr[i], ends_line && i + 1 == text.len);
}

static bool
is_final_dot(const struct downgrade *d, struct slice wire)
{
    return !d->in_line && (slice_equal_text(wire, ".\r\n") || slice_equal_text(wire, ".\n"));
}

/* A line, or a piece of one. */
static int may_wait
convert(void *ctx, struct slice wire)
{
    struct downgrade *d = ctx;
    struct slice text = wire;
    bool ends_line = wire.ptr[wire.len - 1] == '\n';

    if (is_final_dot(d, wire))
        return gather(d, wire, true);
    if (ends_line)
        text.len--;
    if (ends_line && text.len > 0 && text.ptr[text.len - 1] == '\r')
        text.len--;
    if (!d->in_line && text.len > 0 && *text.ptr == '.')
        text = slice_make(text.ptr + 1, text.len - 1);
    while (text.len > ENCODE_STEP) {
        encode_text(d, slice_make(text.ptr, ENCODE_STEP), false);
        text = slice_make(text.ptr + ENCODE_STEP, text.len - ENCODE_STEP);
        if (flush(d) < 0)
            return -1;
    }
    encode_text(d, text, ends_line);
    d->in_line = !ends_line;
    if (!ends_line)
        return 0;
    d->column = 0;
    return gather(d, slice_from("\r\n"), true);
}

/* ---- which part becomes what ---- */

static bool
is_wide(struct slice encoding)
{
    return slice_equal_text_fold(encoding, "8bit") || slice_equal_text_fold(encoding, "binary");
}

/* Does it hold other parts, which are looked at by themselves? */
static bool
is_composite(struct slice type)
{
    return slice_starts_with_fold(type, "multipart/") || slice_starts_with_fold(type, "message/rfc822");
}

static const char *
part(void *ctx, struct slice type, struct slice encoding, bool *converts)
{
    struct downgrade *d = ctx;

    if (!is_wide(encoding))
        return NULL;
    if (is_composite(type))
        return "Content-Transfer-Encoding: 7bit";
    *converts = true;
    d->column = 0;
    d->in_line = false;
    d->held = '\0';
    return "Content-Transfer-Encoding: quoted-printable";
}

/* As the walk sees it. */
static struct slice
unfolded(struct arena *arena, struct slice value)
{
    char *text = arena_strndup(arena, value.ptr, value.len), *to = text;

    for (size_t i = 0; i < value.len; i++)
        if (text[i] != '\r' && text[i] != '\n' && text[i] != '\0')
            *to++ = text[i];
    return slice_make(text, (size_t)(to - text));
}

/* The header that part() gives in another form is dropped. */
static int
ask(void *ctx, enum check_kind kind, struct slice text, struct check_result *result)
{
    struct downgrade *d = ctx;
    struct slice name, value;

    (void)kind;
    *result = (struct check_result){.drop = false};
    if (!header_split(text, &name, &value) || !slice_equal_text_fold(name, "content-transfer-encoding"))
        return 0;
    result->drop = is_wide(mime_encoding(d->scratch, unfolded(d->scratch, value)));
    arena_reset(d->scratch);
    return 0;
}

/* It was accepted, and what can't be understood stays as it is. */
static int
refuse(void *ctx, const char *why, struct slice what)
{
    (void)ctx, (void)why, (void)what;
    return 0;
}

/* ---- the way ---- */

static void
release(void *arg)
{
    struct downgrade *d = arg;

    mime_walk_free(&d->walk);
    arena_free(&d->scratch);
    buf_release(&d->out);
}

struct downgrade *
downgrade_new(struct arena *arena, const struct smtp_settings *s, const struct mime_sink *sink)
{
    struct downgrade *d = ARENA_NEW(arena, struct downgrade);

    d->rules = (struct mime_walk_rules){.follows_structure = true,
                                        .header_limit = (size_t)s->header_size_limit,
                                        .boundary_limit = (size_t)s->mime_boundary_length_limit,
                                        .line_limit = SIZE_MAX,
                                        .nesting_limit = (unsigned)s->mime_nesting_limit,
                                        .ask = ask,
                                        .refuse = refuse,
                                        .part = part,
                                        .convert = convert,
                                        .ctx = d};
    d->sink = sink;
    d->gather = (struct mime_sink){gather, d};
    d->scratch = arena_new();
    d->walk = mime_walk_new(arena, &d->rules, slice_from("message/rfc822"), slice_from(""));
    arena_defer(arena, release, d);
    return d;
}

int may_wait
downgrade_add(struct downgrade *d, struct slice wire)
{
    return mime_walk_add(d->walk, wire, &d->gather);
}

int may_wait
downgrade_end(struct downgrade *d)
{
    return mime_walk_end(d->walk, &d->gather) < 0 ? -1 : flush(d);
}
