/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/mime_walk.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/mail/mime.h"
#include "lib/mail/wire.h"

/* ---- headers ---- */

/* RFC 5322 section 2.2: printable characters, then perhaps blanks (section 4.5), then a colon. */
bool
header_split(struct slice wire, struct slice *name, struct slice *value)
{
    size_t n = 0, colon;

    if (wire.len > 0 && *wire.ptr == '.')
        wire = slice_make(wire.ptr + 1, wire.len - 1);
    while (n < wire.len && wire.ptr[n] > ' ' && wire.ptr[n] < 127 && wire.ptr[n] != ':')
        n++;
    for (colon = n; colon < wire.len && (wire.ptr[colon] == ' ' || wire.ptr[colon] == '\t');)
        colon++;
    if (n == 0 || colon == wire.len || wire.ptr[colon] != ':')
        return false;
    *name = slice_make(wire.ptr, n);
    *value = slice_make(wire.ptr + colon + 1, wire.len - colon - 1);
    if (value->len > 0 && value->ptr[value->len - 1] == '\n')
        value->len--;
    if (value->len > 0 && value->ptr[value->len - 1] == '\r')
        value->len--;
    return true;
}

struct slice
header_as_text(struct arena *arena, struct slice wire, size_t limit)
{
    char *text, *to;

    if (wire.len > limit)
        wire.len = limit;
    text = to = arena_alloc(arena, wire.len + 1);
    for (size_t i = 0; i < wire.len; i++)
        if (wire.ptr[i] != '\r' || i + 1 == wire.len || wire.ptr[i + 1] != '\n')
            *to++ = wire.ptr[i];
    while (to > text && (to[-1] == '\n' || to[-1] == '\r'))
        to--;
    return slice_make(text, (size_t)(to - text));
}

struct slice
header_wire(struct arena *arena, const char *text, bool folds)
{
    struct wire_state state = {.in_line = false};
    struct buf plain = {0}, wire = {0};

    for (const char *p = text; *p; p++) {
        buf_append_byte(&plain, *p);
        if (*p == '\n' && folds && p[1] != ' ' && p[1] != '\t')
            buf_append_byte(&plain, ' ');
    }
    wire_encode(&state, buf_slice(&plain), &wire);
    wire_encode_end(&state, &wire);
    struct slice result = slice_make(arena_strndup(arena, wire.ptr, wire.len), wire.len);
    buf_release(&plain);
    buf_release(&wire);
    return result;
}

bool
header_is_mime(struct slice name)
{
    static const char *const names[] = {"mime-version",        "content-type", "content-transfer-encoding",
                                        "content-disposition", "content-id",   "content-description"};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_text_fold(name, names[i]))
            return true;
    return false;
}

/* ---- the body ----
 *
 * Lines are put together (a piece may end anywhere). A line is either body, or part of a header: of a MIME part, or of an
 * attached message. Lines that stay are passed on in runs that are as long as they can be. */

enum { LINE_LIMIT = 64 * 1024 }; /* of what is put together; a longer line passes in pieces */

enum state { IN_BODY, IN_MIME_HEADER, IN_NESTED_HEADER };

struct boundary {
    struct boundary *outer;
    bool is_digest; /* its parts are messages unless they say something else (RFC 2046 section 5.1.5) */
    size_t len;
    char text[];
};

struct mime_walk {
    struct arena *scratch; /* what one line needs */
    const struct mime_walk_rules *rules;
    const struct mime_sink *sink;
    enum state state;
    struct boundary *inner; /* the innermost */
    unsigned depth;

    /* Of the part. */
    uint64_t seen; /* bytes of its body */
    struct buf type, encoding;
    bool is_8bit; /* its encoding says so */
    bool converts;

    struct buf line;   /* the beginning of a line, from earlier pieces, as it is */
    struct buf header; /* a header that may go on, as it is in wire form */
    bool in_long_line; /* its beginning has passed */
};

/* ---- what a part is ---- */

static const char *const identities[] = {"", "7bit", "8bit", "binary"};

static bool
is_identity(struct slice encoding)
{
    for (unsigned i = 0; i < ARRAY_LEN(identities); i++)
        if (slice_equal_text_fold(encoding, identities[i]))
            return true;
    return false;
}

struct slice
mime_encoding(struct arena *arena, struct slice value)
{
    enum mime_token_kind kind;
    struct slice token;

    if (mime_token_next(arena, &value, ";", &kind, &token) && kind == MIME_ATOM)
        return token;
    return slice_trim(value);
}

static struct slice
parameter_of(struct arena *arena, struct slice rest, const char *name)
{
    enum mime_token_kind kind;
    struct slice token;
    bool is_name = false, is_value = false;

    while (mime_token_next(arena, &rest, "=;", &kind, &token)) {
        if (is_value)
            return token;
        if (kind == MIME_SPECIAL && *token.ptr == '=')
            is_value = is_name;
        else
            is_name = kind == MIME_ATOM && slice_equal_text_fold(token, name);
    }
    return slice_make("", 0);
}

static int
push_boundary(struct mime_walk *w, struct slice boundary, bool is_digest, struct slice what)
{
    size_t limit = w->rules->boundary_limit;
    size_t len = boundary.len < limit ? boundary.len : limit;
    struct boundary *b;

    if (len == 0)
        return 0;
    if (w->depth >= w->rules->nesting_limit + 2) /* Postfix counts from there */
        return w->rules->refuse(w->rules->ctx, "MIME nesting exceeds safety limit", what);
    b = malloc(sizeof *b + len);
    if (!b)
        fatal("out of memory");
    b->outer = w->inner;
    b->is_digest = is_digest;
    b->len = len;
    memcpy(b->text, boundary.ptr, len);
    w->inner = b;
    w->depth++;
    return 0;
}

static void
pop_boundary(struct mime_walk *w)
{
    struct boundary *b = w->inner;

    w->inner = b->outer;
    w->depth--;
    free(b);
}

static int may_wait emit_line(struct mime_walk *, const char *text);

/* The header section is over: what does the one who converts want? */
static int may_wait
ask_converter(struct mime_walk *w)
{
    const char *last;

    if (!w->rules->part)
        return 0;
    last = w->rules->part(w->rules->ctx, slice_trim(buf_slice(&w->type)),
                          mime_encoding(w->scratch, buf_slice(&w->encoding)), &w->converts);
    return last ? emit_line(w, last) : 0;
}

/* The header of the whole, of a part or of an attached message has ended: what follows it? */
static int may_wait
begin_part(struct mime_walk *w)
{
    struct slice type = slice_trim(buf_slice(&w->type)), encoding = mime_encoding(w->scratch, buf_slice(&w->encoding));
    bool is_multipart = slice_starts_with_fold(type, "multipart/");
    bool is_message = slice_starts_with_fold(type, "message/");
    int result = 0;

    w->seen = 0;
    w->is_8bit = slice_equal_text_fold(encoding, "8bit") || slice_equal_text_fold(encoding, "binary");
    if (w->rules->strict_domain && (is_multipart || is_message) && !is_identity(encoding))
        result = w->rules->refuse(w->rules->ctx, "invalid message/* or multipart/* encoding domain", encoding);
    if (result < 0 || ask_converter(w) < 0)
        return -1;
    w->state = IN_BODY;
    if (w->converts) {
        /* It is one body. */
    } else if (is_multipart) {
        struct slice what = slice_make(arena_printf(w->scratch, "Content-Type: %.*s", SLICE_ARG(type)), type.len + 14);
        bool is_digest = slice_starts_with_fold(type, "multipart/digest");
        result = push_boundary(w, parameter_of(w->scratch, type, "boundary"), is_digest, what);
    } else if (is_message && is_identity(encoding)) {
        struct slice subtype = slice_make(type.ptr + 8, type.len - 8);
        if (slice_starts_with_fold(subtype, "rfc822") || slice_starts_with_fold(subtype, "global"))
            w->state = IN_NESTED_HEADER;
    }
    buf_clear(&w->type);
    buf_clear(&w->encoding);
    return result;
}

static void
set_unfolded(struct buf *to, struct slice value)
{
    buf_clear(to);
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != '\r' && value.ptr[i] != '\n' && value.ptr[i] != '\0')
            buf_append_byte(to, value.ptr[i]);
}

/* ---- output ---- */

static int may_wait
emit(struct mime_walk *w, struct slice bytes, bool is_copy)
{
    return bytes.len > 0 ? w->sink->emit(w->sink->ctx, bytes, is_copy) : 0;
}

/* A text of ours. */
static int may_wait
emit_line(struct mime_walk *w, const char *text)
{
    return emit(w, header_wire(w->scratch, text, w->state != IN_BODY), true);
}

/* What is to become of bytes in wire form, as a check has decided. */
static int may_wait
emit_checked(struct mime_walk *w, const struct check_result *result, struct slice wire, bool is_copy)
{
    if (result->prepend && emit_line(w, result->prepend) < 0)
        return -1;
    if (result->replace)
        return emit_line(w, result->replace);
    return result->drop ? 0 : emit(w, wire, is_copy);
}

/* ---- headers of parts ---- */

/* w->header is complete. */
static int may_wait
end_header(struct mime_walk *w)
{
    struct slice wire = buf_slice(&w->header), name, value;
    struct check_result result;
    enum check_kind kind = CHECK_MIME_HEADER;
    int answer;

    if (wire.len == 0)
        return 0;
    struct slice text = header_as_text(w->scratch, wire, w->rules->header_limit);
    if (!header_split(wire, &name, &value))
        name = value = slice_make("", 0);
    if (w->state == IN_NESTED_HEADER && !header_is_mime(name))
        kind = CHECK_NESTED_HEADER;
    if (w->rules->strict_header && text_has_8bit(text) &&
        w->rules->refuse(w->rules->ctx, "improper use of 8-bit data in message header", text) < 0)
        return -1;
    if (slice_equal_text_fold(name, "content-type"))
        set_unfolded(&w->type, value);
    else if (slice_equal_text_fold(name, "content-transfer-encoding"))
        set_unfolded(&w->encoding, value);
    if (w->rules->ask(w->rules->ctx, kind, text, &result) < 0)
        return -1;
    answer = emit_checked(w, &result, wire, true);
    buf_clear(&w->header);
    return answer;
}

/* Is the line taken as part of a header? *ends: the header section is over; the line is the empty one, or body. */
static int may_wait
header_line(struct mime_walk *w, struct slice wire, struct slice text, bool *taken, bool *ends)
{
    struct slice name, value;

    *taken = *ends = false;
    if (w->header.len > 0 && text.len > 0 && (*text.ptr == ' ' || *text.ptr == '\t')) {
        if (w->header.len + wire.len <= w->rules->header_limit)
            buf_append_slice(&w->header, wire);
        *taken = true;
        return 0;
    }
    if (end_header(w) < 0)
        return -1;
    if (text.len > 0 && header_split(wire, &name, &value)) {
        buf_append_slice(&w->header, wire);
        *taken = true;
        return 0;
    }
    *ends = true;
    return 0;
}

/* ---- lines of the body ---- */

/* Is the line a delimiter of a multipart around us? Then those within have ended. */
static struct boundary *
delimiter(struct mime_walk *w, struct slice text, bool *closes)
{
    if (text.len < 3 || text.ptr[0] != '-' || text.ptr[1] != '-')
        return NULL;
    struct slice rest = slice_make(text.ptr + 2, text.len - 2);
    for (struct boundary *b = w->inner; b; b = b->outer)
        if (rest.len >= b->len && memcmp(rest.ptr, b->text, b->len) == 0) {
            *closes = rest.len >= b->len + 2 && memcmp(rest.ptr + b->len, "--", 2) == 0;
            return b;
        }
    return NULL;
}

/* Long lines are looked at in chunks; what a check wants done to a chunk is done to the line. */
static int may_wait
check_line(struct mime_walk *w, struct slice text, struct check_result *result)
{
    uint64_t limit = w->rules->body_limit;
    size_t chunk_size = w->rules->line_limit;
    struct check_result one;

    *result = (struct check_result){.drop = false};
    do {
        struct slice chunk = slice_make(text.ptr, text.len < chunk_size ? text.len : chunk_size);
        if (w->seen < limit) {
            if (w->rules->ask(w->rules->ctx, CHECK_BODY, chunk, &one) < 0)
                return -1;
            result->drop |= one.drop;
            result->prepend = one.prepend ? one.prepend : result->prepend;
            result->replace = one.replace ? one.replace : result->replace;
        }
        w->seen += chunk.len;
        text = slice_make(text.ptr + chunk.len, text.len - chunk.len);
    } while (text.len > 0);
    return 0;
}

static bool
is_bad_8bit(const struct mime_walk *w, struct slice text)
{
    return w->rules->strict_body && !w->is_8bit &&
           text_has_8bit(text);
}

static int may_wait
body_line(struct mime_walk *w, struct slice wire, struct slice text, bool is_copy)
{
    struct check_result result;

    if (is_bad_8bit(w, text) &&
        w->rules->refuse(w->rules->ctx, "improper use of 8-bit data in message body", text) < 0)
        return -1;
    if (check_line(w, text, &result) < 0)
        return -1;
    return emit_checked(w, &result, wire, is_copy);
}

/* ---- the walk ---- */

/* A line with its line end, if it has one. */
static int may_wait
take_line(struct mime_walk *w, struct slice wire, bool is_copy)
{
    struct slice text = wire;
    struct boundary *b;
    bool closes, taken, ends;

    arena_reset(w->scratch);
    if (text.len > 0 && text.ptr[text.len - 1] == '\n')
        text.len--;
    if (text.len > 0 && text.ptr[text.len - 1] == '\r')
        text.len--;
    if (text.len > 0 && *text.ptr == '.')
        text = slice_make(text.ptr + 1, text.len - 1);
    if (w->rules->follows_structure && (b = delimiter(w, text, &closes)) != NULL) {
        if (end_header(w) < 0 || (w->state != IN_BODY && ask_converter(w) < 0))
            return -1;
        w->converts = false;
        if (body_line(w, wire, text, is_copy) < 0)
            return -1;
        while (w->inner != b)
            pop_boundary(w);
        w->state = closes ? IN_BODY : IN_MIME_HEADER;
        buf_clear(&w->type);
        buf_clear(&w->encoding);
        if (b->is_digest)
            buf_append_text(&w->type, "message/rfc822");
        if (closes)
            pop_boundary(w);
        w->is_8bit = closes; /* what stands between parts is nobody's */
        return 0;
    }
    if (w->state != IN_BODY) {
        if (header_line(w, wire, text, &taken, &ends) < 0)
            return -1;
        if (taken)
            return 0;
        if (begin_part(w) < 0)
            return -1;
        if (text.len == 0)
            return emit(w, wire, is_copy);
        if (w->converts && emit(w, slice_from("\r\n"), true) < 0) /* converted, the line might look like a header */
            return -1;
    }
    if (w->converts)
        return w->rules->convert(w->rules->ctx, wire);
    return body_line(w, wire, text, is_copy);
}

/* More of a line whose beginning has passed, up to its end. */
static int may_wait
pass_long_line(struct mime_walk *w, struct slice *wire)
{
    const char *lf = memchr(wire->ptr, '\n', wire->len);
    size_t n = lf ? (size_t)(lf - wire->ptr) + 1 : wire->len;
    struct slice part = slice_make(wire->ptr, n);

    *wire = slice_make(wire->ptr + n, wire->len - n);
    w->in_long_line = lf == NULL;
    if (w->header.len > 0) { /* of a header: it waits for its end */
        if (w->header.len + part.len <= w->rules->header_limit)
            buf_append_slice(&w->header, part);
        else if (lf)
            buf_append(&w->header, "\r\n", 2);
        return 0;
    }
    return w->converts ? w->rules->convert(w->rules->ctx, part) : emit(w, part, false);
}

int may_wait
mime_walk_add(struct mime_walk *w, struct slice wire, const struct mime_sink *sink)
{
    w->sink = sink;
    while (wire.len > 0) {
        if (w->in_long_line) {
            if (pass_long_line(w, &wire) < 0)
                return -1;
            continue;
        }
        const char *lf = memchr(wire.ptr, '\n', wire.len);
        size_t n = lf ? (size_t)(lf - wire.ptr) + 1 : wire.len;
        struct slice part = slice_make(wire.ptr, n);
        wire = slice_make(wire.ptr + n, wire.len - n);
        if (lf && w->line.len == 0) {
            if (take_line(w, part, false) < 0)
                return -1;
            continue;
        }
        buf_append_slice(&w->line, part);
        if (!lf && w->line.len < LINE_LIMIT)
            continue;
        int result = take_line(w, buf_slice(&w->line), true);
        buf_clear(&w->line);
        w->in_long_line = !lf;
        if (result < 0)
            return -1;
    }
    return 0;
}

int may_wait
mime_walk_end(struct mime_walk *w, const struct mime_sink *sink)
{
    int result = 0;

    w->sink = sink;
    if (w->line.len > 0)
        result = take_line(w, buf_slice(&w->line), true);
    buf_clear(&w->line);
    if (result < 0 || end_header(w) < 0)
        return -1;
    return w->state != IN_BODY ? ask_converter(w) : 0;
}

/* ---- making it ---- */

struct mime_walk *
mime_walk_new(struct arena *arena, const struct mime_walk_rules *rules, struct slice type, struct slice encoding)
{
    struct mime_walk *w = ARENA_NEW(arena, struct mime_walk);

    w->scratch = arena_new();
    w->rules = rules;
    if (!rules->follows_structure)
        return w;
    buf_append_slice(&w->type, type);
    buf_append_slice(&w->encoding, encoding);
    if (begin_part(w) < 0)
        mime_walk_free(&w);
    return w;
}

void
mime_walk_free(struct mime_walk **walk)
{
    struct mime_walk *w = *walk;

    if (!w)
        return;
    while (w->inner)
        pop_boundary(w);
    buf_release(&w->type);
    buf_release(&w->encoding);
    buf_release(&w->line);
    buf_release(&w->header);
    arena_free(&w->scratch);
    *walk = NULL;
}
