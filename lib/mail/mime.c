/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/mime.h"

#include <string.h>

#include "lib/base/compiler.h"

/* ---- lines ---- */

/* Takes a line with its end off *rest; *end: how many bytes the end is long (0 at the end of the bytes). */
static bool
line_next(struct slice *rest, struct slice *line, size_t *end)
{
    if (rest->len == 0)
        return false;
    const char *lf = memchr(rest->ptr, '\n', rest->len);
    size_t len = lf ? (size_t)(lf - rest->ptr) : rest->len;
    *end = lf ? 1 : 0;
    if (lf && len > 0 && lf[-1] == '\r') {
        len--;
        *end = 2;
    }
    *line = slice_make(rest->ptr, len);
    *rest = slice_make(rest->ptr + len + *end, rest->len - len - *end);
    return true;
}

uint64_t
mime_wire_size(struct slice bytes, uint64_t *lines)
{
    uint64_t size = bytes.len, count = 0;
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
        size += at == bytes.ptr || at[-1] != '\r';
        count++;
        at++;
    }
    if (lines)
        *lines = count;
    return size;
}

/* The part [*from, *from + len) of what is emitted: skips what lies before the offset. */
struct window {
    uint64_t skip, left;
    void (*emit)(void *ctx, struct slice);
    void *ctx;
};

static void
window_emit(struct window *w, const char *ptr, size_t len)
{
    size_t skipped = w->skip < len ? (size_t)w->skip : len;
    w->skip -= skipped;
    ptr += skipped;
    len -= skipped;
    if (len > w->left)
        len = (size_t)w->left;
    w->left -= len;
    if (len > 0)
        w->emit(w->ctx, slice_make(ptr, len));
}

void
mime_wire(struct slice bytes, uint64_t offset, uint64_t max, void (*emit)(void *ctx, struct slice), void *ctx)
{
    struct window w = {offset, max, emit, ctx};
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len, *run = at;
    while (w.left > 0 && at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        if (!lf)
            break;
        at = lf + 1;
        if (lf != bytes.ptr && lf[-1] == '\r')
            continue;
        window_emit(&w, run, (size_t)(lf - run));
        window_emit(&w, "\r\n", 2);
        run = at;
    }
    if (run < end)
        window_emit(&w, run, (size_t)(end - run));
}

/* ---- header fields ---- */

bool
mime_field_next(struct slice *rest, struct slice *name, struct slice *value)
{
    struct slice line, next, after;
    size_t end, next_end;
    while (line_next(rest, &line, &end)) {
        if (line.len == 0)
            return false;
        const char *stop = line.ptr + line.len;
        for (after = *rest;
             line_next(&after, &next, &next_end) && next.len > 0 && (next.ptr[0] == ' ' || next.ptr[0] == '\t');
             *rest = after)
            stop = next.ptr + next.len;
        const char *colon = memchr(line.ptr, ':', line.len);
        if (!colon || colon == line.ptr || line.ptr[0] == ' ' || line.ptr[0] == '\t')
            continue;
        *name = slice_trim(slice_make(line.ptr, (size_t)(colon - line.ptr)));
        *value = slice_make(colon + 1, (size_t)(stop - colon - 1));
        return true;
    }
    return false;
}

bool
mime_field_find(struct slice header, const char *name, struct slice *value)
{
    struct slice field;
    while (mime_field_next(&header, &field, value))
        if (slice_equal_text_fold(field, name))
            return true;
    *value = slice_make("", 0);
    return false;
}

struct slice
mime_unfold(struct arena *arena, struct slice value)
{
    value = slice_trim(value);
    char *out = arena_alloc(arena, value.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (c == '\r' || c == '\n')
            continue; /* the blank that follows stays */
        out[len++] = c < 32 || c == 127 ? ' ' : (char)c;
    }
    return slice_make(out, len);
}

/* ---- tokens ---- */

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
skip_comment(struct slice *rest)
{
    unsigned depth = 0;
    size_t i = 0;
    for (; i < rest->len; i++) {
        char c = rest->ptr[i];
        if (c == '\\')
            i++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            break;
    }
    i = i < rest->len ? i + 1 : rest->len;
    *rest = slice_make(rest->ptr + i, rest->len - i);
}

static void
skip_blanks(struct slice *rest)
{
    while (rest->len > 0) {
        if (is_blank(rest->ptr[0]))
            *rest = slice_make(rest->ptr + 1, rest->len - 1);
        else if (rest->ptr[0] == '(')
            skip_comment(rest);
        else
            return;
    }
}

/* What it takes of the arena is as long as the string: a field may hold tens of thousands of them. */
static struct slice
take_quoted(struct arena *arena, struct slice *rest)
{
    size_t len = 0, i = 1, end = 1;
    while (end < rest->len && rest->ptr[end] != '"')
        end += rest->ptr[end] == '\\' && end + 1 < rest->len ? 2 : 1;
    char *out = arena_alloc(arena, end + 1);
    for (; i < rest->len && rest->ptr[i] != '"'; i++) {
        if (rest->ptr[i] == '\\' && i + 1 < rest->len)
            i++;
        else if (rest->ptr[i] == '\r' || rest->ptr[i] == '\n')
            continue;
        out[len++] = rest->ptr[i];
    }
    i = i < rest->len ? i + 1 : rest->len;
    *rest = slice_make(rest->ptr + i, rest->len - i);
    return slice_make(out, len);
}

bool
mime_token_next(struct arena *arena, struct slice *rest, const char *specials, enum mime_token_kind *kind,
                struct slice *token)
{
    skip_blanks(rest);
    if (rest->len == 0)
        return false;
    if (rest->ptr[0] == '"') {
        *kind = MIME_QUOTED;
        *token = take_quoted(arena, rest);
        return true;
    }
    size_t len = 0;
    while (len < rest->len && !is_blank(rest->ptr[len]) && rest->ptr[len] != '(' && rest->ptr[len] != '"' &&
           rest->ptr[len] && !strchr(specials, rest->ptr[len]))
        len++;
    *kind = len ? MIME_ATOM : MIME_SPECIAL;
    if (len == 0)
        len = 1;
    *token = slice_make(rest->ptr, len);
    *rest = slice_make(rest->ptr + len, rest->len - len);
    return true;
}

/* ---- fields of a part ---- */

static const char token_specials[] = "()<>@,;:\\\"/[]?=";

/* "; name=value; name=value" */
static void
parse_parameters(struct arena *arena, struct slice rest, struct mime_parameter **list, unsigned *count)
{
    enum mime_token_kind kind;
    struct slice token, name;
    *count = 0;
    *list = NULL;
    while (*count < MIME_PARAMETERS && mime_token_next(arena, &rest, token_specials, &kind, &token)) {
        if (kind != MIME_SPECIAL || token.ptr[0] != ';')
            continue;
        if (!mime_token_next(arena, &rest, token_specials, &kind, &name) || kind != MIME_ATOM)
            continue;
        if (!mime_token_next(arena, &rest, token_specials, &kind, &token) || token.ptr[0] != '=')
            continue;
        /* Values with specials that somebody forgot to quote are common: all up to the next ';' or blank. */
        if (!mime_token_next(arena, &rest, ";", &kind, &token) || kind == MIME_SPECIAL)
            continue;
        if (!*list)
            *list = arena_array(arena, MIME_PARAMETERS, sizeof(**list));
        (*list)[(*count)++] = (struct mime_parameter){name, token};
    }
}

static void
parse_type(struct arena *arena, struct slice value, struct mime_part *part)
{
    enum mime_token_kind kind;
    struct slice type, slash, subtype;
    if (!mime_token_next(arena, &value, token_specials, &kind, &type) || kind != MIME_ATOM ||
        !mime_token_next(arena, &value, token_specials, &kind, &slash) || slash.ptr[0] != '/' ||
        !mime_token_next(arena, &value, token_specials, &kind, &subtype) || kind != MIME_ATOM)
        return;
    part->type = type;
    part->subtype = subtype;
    parse_parameters(arena, value, &part->parameters, &part->parameter_count);
}

static void
parse_fields(struct arena *arena, struct mime_part *part, bool in_digest)
{
    enum mime_token_kind kind;
    struct slice rest = part->header, name, value, token;
    part->type = slice_from(in_digest ? "message" : "text");
    part->subtype = slice_from(in_digest ? "rfc822" : "plain");
    part->encoding = slice_from("7bit");
    part->disposition = slice_make("", 0);
    bool typed = false, encoded = false, disposed = false;
    while (mime_field_next(&rest, &name, &value)) {
        if (!typed && slice_equal_text_fold(name, "content-type")) {
            typed = true;
            parse_type(arena, value, part);
        } else if (!encoded && slice_equal_text_fold(name, "content-transfer-encoding")) {
            encoded = true;
            if (mime_token_next(arena, &value, token_specials, &kind, &token) && kind == MIME_ATOM)
                part->encoding = token;
        } else if (!disposed && slice_equal_text_fold(name, "content-disposition")) {
            disposed = true;
            if (mime_token_next(arena, &value, token_specials, &kind, &token) && kind == MIME_ATOM) {
                part->disposition = token;
                parse_parameters(arena, value, &part->disposition_parameters, &part->disposition_parameter_count);
            }
        }
    }
}

struct slice
mime_parameter(const struct mime_parameter *list, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (slice_equal_text_fold(list[i].name, name))
            return list[i].value;
    return slice_make("", 0);
}

/* ---- the tree ---- */

struct parse {
    struct arena *arena;
    unsigned parts; /* made so far */
};

static struct slice
header_of(struct slice bytes)
{
    struct slice rest = bytes, line;
    size_t end;
    while (line_next(&rest, &line, &end))
        if (line.len == 0)
            break;
    return slice_make(bytes.ptr, bytes.len - rest.len);
}

static struct mime_part *
part_new(struct parse *p, struct slice bytes, bool in_digest)
{
    struct mime_part *part = ARENA_NEW(p->arena, struct mime_part);
    p->parts++;
    part->header = header_of(bytes);
    part->body = slice_make(bytes.ptr + part->header.len, bytes.len - part->header.len);
    part->header_wire = mime_wire_size(part->header, NULL);
    part->body_wire = mime_wire_size(part->body, &part->lines);
    parse_fields(p->arena, part, in_digest);
    return part;
}

/* Is the line "--boundary", or with *last "--boundary--"? */
static bool
is_delimiter(struct slice line, struct slice boundary, bool *last)
{
    if (line.len < boundary.len + 2 || line.ptr[0] != '-' || line.ptr[1] != '-' ||
        memcmp(line.ptr + 2, boundary.ptr, boundary.len) != 0)
        return false;
    struct slice tail = slice_make(line.ptr + 2 + boundary.len, line.len - 2 - boundary.len);
    *last = tail.len >= 2 && tail.ptr[0] == '-' && tail.ptr[1] == '-';
    return *last || slice_trim(tail).len == 0;
}

/* Calls for each piece between delimiters; the line end before a delimiter belongs to it. */
static void
split_parts(struct parse *p, struct slice body, struct slice boundary, struct slice *pieces, unsigned max,
            unsigned *count)
{
    struct slice rest = body, line;
    const char *from = NULL;
    size_t end, before = 0;
    bool last = false;
    (void)p;
    *count = 0;
    while (!last && *count < max && line_next(&rest, &line, &end)) {
        if (is_delimiter(line, boundary, &last)) {
            if (from)
                pieces[(*count)++] =
                    slice_make(from, line.ptr >= from + before ? (size_t)(line.ptr - from) - before : 0);
            from = rest.ptr;
            before = 0;
        } else {
            before = end;
        }
    }
    if (from && !last && *count < max) /* the end is missing */
        pieces[(*count)++] = slice_make(from, (size_t)(body.ptr + body.len - from));
}

static unsigned
count_delimiters(struct slice body, struct slice boundary)
{
    struct slice line;
    size_t end;
    unsigned count = 0;
    bool last = false;
    while (!last && line_next(&body, &line, &end))
        count += is_delimiter(line, boundary, &last);
    return count;
}

static struct mime_part *parse_part(struct parse *, struct slice bytes, bool in_digest, unsigned depth);

static void
parse_multipart(struct parse *p, struct mime_part *part, unsigned depth)
{
    struct slice boundary = mime_parameter(part->parameters, part->parameter_count, "boundary");
    if (boundary.len == 0)
        return;
    unsigned max = count_delimiters(part->body, boundary), count;
    if (max == 0)
        return;
    if (max > MIME_PARTS - p->parts)
        max = MIME_PARTS - p->parts;
    struct slice *pieces = arena_array(p->arena, max + 1, sizeof(*pieces));
    split_parts(p, part->body, boundary, pieces, max, &count);
    if (count == 0)
        return;
    bool digest = slice_equal_text_fold(part->subtype, "digest");
    part->is_multipart = true;
    part->parts = arena_array(p->arena, count, sizeof(*part->parts));
    for (unsigned i = 0; i < count; i++)
        part->parts[part->part_count++] = parse_part(p, pieces[i], digest, depth + 1);
}

/* Depth is bounded by MIME_DEPTH, so this recursion is too. */
static struct mime_part *
parse_part(struct parse *p, struct slice bytes, bool in_digest, unsigned depth)
{
    struct mime_part *part = part_new(p, bytes, in_digest);
    if (depth >= MIME_DEPTH || p->parts >= MIME_PARTS)
        return part;
    if (slice_equal_text_fold(part->type, "multipart"))
        parse_multipart(p, part, depth);
    else if (slice_equal_text_fold(part->type, "message") &&
             (slice_equal_text_fold(part->subtype, "rfc822") || slice_equal_text_fold(part->subtype, "global")))
        part->message = parse_part(p, part->body, false, depth + 1);
    return part;
}

struct mime_part *
mime_parse(struct arena *arena, struct slice message)
{
    struct parse p = {.arena = arena};
    return parse_part(&p, message, false, 0);
}

struct mime_part *
mime_parse_top(struct arena *arena, struct slice message)
{
    struct parse p = {.arena = arena};
    return part_new(&p, message, false);
}
