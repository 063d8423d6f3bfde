/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/header_addr.h"

#include <string.h>

#include "lib/base/buf.h"
#include "lib/mail/addr.h"

enum token { TOKEN_END, TOKEN_BLANK, TOKEN_WORD, TOKEN_QUOTED, TOKEN_LITERAL, TOKEN_SPECIAL };

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
is_word_byte(char c)
{
    return (unsigned char)c > ' ' && c != 127 && !strchr("()<>@,;:\".[]", c);
}

/* Behind the comment that begins at `at`; comments nest. */
static size_t
skip_comment(struct slice text, size_t at)
{
    unsigned depth = 0;

    for (; at < text.len; at++) {
        if (text.ptr[at] == '\\')
            at++;
        else if (text.ptr[at] == '(')
            depth++;
        else if (text.ptr[at] == ')' && --depth == 0)
            return at + 1;
    }
    return text.len;
}

/* Behind the closing character, or the end. */
static size_t
skip_until(struct slice text, size_t at, char close)
{
    for (at++; at < text.len; at++) {
        if (text.ptr[at] == '\\')
            at++;
        else if (text.ptr[at] == close)
            return at + 1;
    }
    return text.len;
}

/* The token at `at`, and where the next begins. Blanks and comments are one kind; control characters are blanks. */
static enum token
token_at(struct slice text, size_t at, size_t *next)
{
    char c;

    if (at >= text.len) {
        *next = text.len;
        return TOKEN_END;
    }
    c = text.ptr[at];
    *next = at + 1;
    if (c == '(') {
        *next = skip_comment(text, at);
        return TOKEN_BLANK;
    }
    if (c == '"') {
        *next = skip_until(text, at, '"');
        return TOKEN_QUOTED;
    }
    if (c == '[') {
        *next = skip_until(text, at, ']');
        return TOKEN_LITERAL;
    }
    if (!is_word_byte(c))
        return c && strchr(")<>@,;:.]", c) ? TOKEN_SPECIAL : TOKEN_BLANK;
    for (*next = at; *next < text.len && is_word_byte(text.ptr[*next]); ++*next)
        if (text.ptr[*next] == '\\' && *next + 1 < text.len)
            ++*next;
    return TOKEN_WORD;
}

/* The token's bytes without quoting; line breaks and control characters are dropped. */
static void
add_plain(struct buf *raw, struct slice token, enum token kind)
{
    size_t end = token.len;

    if (kind == TOKEN_QUOTED) {
        if (end > 1 && token.ptr[end - 1] == '"')
            end--;
        token.ptr++;
        end--;
    }
    for (size_t i = 0; i < end; i++) {
        if (token.ptr[i] == '\\' && kind != TOKEN_LITERAL && i + 1 < end)
            i++;
        if ((unsigned char)token.ptr[i] >= ' ' && token.ptr[i] != 127)
            buf_append_byte(raw, token.ptr[i]);
    }
}

/* Does the quoted string have its closing quote? */
static bool
is_closed(struct slice token)
{
    for (size_t i = 1; i < token.len; i++) {
        if (token.ptr[i] == '\\')
            i++;
        else if (token.ptr[i] == '"')
            return true;
    }
    return false;
}

/* ---- one address ---- */

struct part {
    size_t start, end; /* end 0: nothing yet */
    struct buf raw;
    bool has_domain;
    bool after_word; /* the last token was a word: another one begins another address */
};

static void
take(struct part *p, struct slice text, size_t at, size_t next, enum token kind)
{
    struct slice token = slice_make(text.ptr + at, next - at);

    if (p->end == 0)
        p->start = at;
    p->end = next;
    if (kind == TOKEN_QUOTED && !is_closed(token))
        add_plain(&p->raw, slice_make(token.ptr + 1, token.len - 1), TOKEN_WORD);
    else if (kind != TOKEN_SPECIAL)
        add_plain(&p->raw, token, kind);
    else
        buf_append_byte(&p->raw, *token.ptr);
    if (kind == TOKEN_SPECIAL && *token.ptr == '@')
        p->has_domain = true;
    p->after_word = kind != TOKEN_SPECIAL;
}

static bool
is_over(struct header_addr_scan *scan)
{
    if (scan->token_limit > 0 && ++scan->tokens > scan->token_limit)
        scan->is_cut = true;
    return scan->is_cut;
}

/* Between < and >: a source route in front is dropped (RFC 5322 section 4.4). */
static void
take_bracketed(struct header_addr_scan *scan, struct part *p)
{
    size_t next;
    enum token kind;
    size_t opened = ++scan->at;
    bool has_route = false;

    for (; (kind = token_at(scan->text, scan->at, &next)) != TOKEN_END && !is_over(scan); scan->at = next) {
        char c = scan->text.ptr[scan->at];
        bool is_route = p->end == 0 || scan->text.ptr[p->start] == '@';
        if (kind == TOKEN_SPECIAL && (c == '>' || (c == ',' && !is_route)))
            break;
        if (kind == TOKEN_BLANK || (kind == TOKEN_SPECIAL && c != '@' && c != '.' && c != ':' && c != ','))
            continue;
        if (kind == TOKEN_SPECIAL && c == ':' && p->end && is_route) {
            buf_clear(&p->raw);
            p->end = 0;
            p->has_domain = false;
            has_route = true;
            continue;
        }
        take(p, scan->text, scan->at, next, kind);
    }
    if (p->end == 0)
        p->end = opened;
    if (p->end == opened || has_route) /* a new address takes the route's place, too */
        p->start = opened;
    if (kind != TOKEN_END && scan->text.ptr[scan->at] == '>')
        scan->at = next;
}

/* Words that are joined by dots and '@', up to what divides addresses. */
static void
take_plain(struct header_addr_scan *scan, struct part *p)
{
    size_t next;
    enum token kind;

    for (; (kind = token_at(scan->text, scan->at, &next)) != TOKEN_END; scan->at = next) {
        char c = scan->text.ptr[scan->at];
        if (kind == TOKEN_BLANK)
            continue;
        if (kind == TOKEN_SPECIAL && c != '@' && c != '.')
            return;
        if (kind != TOKEN_SPECIAL && p->after_word && scan->at > p->end)
            return;
        if (is_over(scan))
            return;
        take(p, scan->text, scan->at, next, kind);
    }
}

/* Are the words that begin here the name of a mailbox or of a group? Looked at once for each run of words. */
static bool
is_name(struct header_addr_scan *scan, size_t *ends)
{
    size_t at = scan->at, next;
    enum token kind;

    if (at < scan->words_end)
        return false;
    for (; (kind = token_at(scan->text, at, &next)) != TOKEN_END; at = next)
        if (kind == TOKEN_SPECIAL && strchr("<:,;", scan->text.ptr[at]))
            break;
    scan->words_end = at;
    *ends = at;
    return kind != TOKEN_END && (scan->text.ptr[at] == '<' || scan->text.ptr[at] == ':');
}

static bool
found(struct arena *arena, struct header_addr_scan *scan, struct part *p, bool bracketed, struct header_addr *addr)
{
    *addr = (struct header_addr){.start = p->start,
                                 .end = p->end,
                                 .raw = arena_strdup(arena, buf_text(&p->raw)),
                                 .has_domain = p->has_domain,
                                 .needs_comma = scan->after_address && !bracketed};
    scan->after_address = true;
    buf_release(&p->raw);
    return true;
}

bool
header_addr_next(struct arena *arena, struct header_addr_scan *scan, struct header_addr *addr)
{
    struct part p = {0};
    enum token kind;
    size_t next;

    while (!scan->is_cut && (kind = token_at(scan->text, scan->at, &next)) != TOKEN_END) {
        char c = scan->text.ptr[scan->at];
        if (kind != TOKEN_BLANK && is_over(scan))
            break;
        if (kind == TOKEN_SPECIAL && c == '<') {
            take_bracketed(scan, &p);
            return found(arena, scan, &p, true, addr);
        }
        if (kind == TOKEN_BLANK || (kind == TOKEN_SPECIAL && c != '@' && c != '.')) {
            if (kind == TOKEN_SPECIAL)
                scan->after_address = scan->after_address && c != ',' && c != ';' && c != ':';
            scan->at = next;
        } else if (is_name(scan, &next)) {
            scan->at = next;
        } else {
            take_plain(scan, &p);
            if (p.end)
                return found(arena, scan, &p, false, addr);
        }
    }
    buf_release(&p.raw);
    return false;
}

void
header_addr_replace(struct arena *arena, struct slice text, const struct header_addr *addrs, const char *const *news,
                    unsigned count, struct buf *out)
{
    size_t at = 0;

    for (unsigned i = 0; i < count; i++) {
        buf_append(out, text.ptr + at, addrs[i].start - at);
        if (addrs[i].needs_comma && out->len > 0) {
            while (out->len > 0 && is_blank(out->ptr[out->len - 1]))
                out->len--;
            buf_append(out, ", ", 2);
        }
        if (news[i])
            buf_append_text(out, addr_quote(arena, news[i]));
        else
            buf_append(out, text.ptr + addrs[i].start, addrs[i].end - addrs[i].start);
        at = addrs[i].end;
    }
    buf_append(out, text.ptr + at, text.len - at);
}
