/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/addr_list.h"

#include "lib/base/buf.h"
#include "lib/base/text.h"

/* An address in the making. */
struct making {
    struct buf text;
    bool any;    /* a word was seen (an empty quoted string is one) */
    bool at_end; /* the last thing was a word: another one is set apart by a blank */
};

static char
peek(struct slice text)
{
    return text.len ? text.ptr[0] : '\0';
}

static void
skip(struct slice *text, size_t n)
{
    *text = slice_make(text->ptr + n, text->len - n);
}

/* Behind the comment that begins here; an unfinished one takes the rest. */
static void
skip_comment(struct slice *text)
{
    unsigned depth = 0;

    while (text->len) {
        char c = peek(*text);

        skip(text, c == '\\' && text->len > 1 ? 2 : 1);
        depth += c == '(';
        if (c == ')' && --depth == 0)
            return;
    }
}

static void
take_quoted(struct slice *text, struct buf *out)
{
    for (skip(text, 1); text->len && peek(*text) != '"'; skip(text, 1)) {
        if (peek(*text) == '\\' && text->len > 1)
            skip(text, 1);
        buf_append_byte(out, peek(*text));
    }
    if (text->len)
        skip(text, 1);
}

static void
take_literal(struct slice *text, struct buf *out)
{
    char c;

    do {
        c = peek(*text);
        if (!text_is_space(c))
            buf_append_byte(out, c);
        skip(text, 1);
    } while (text->len && c != ']');
}

static void
begin_word(struct making *m)
{
    if (m->at_end)
        buf_append_byte(&m->text, ' ');
    m->any = m->at_end = true;
}

/* A word, a dot, an at. False: something else. */
static bool
take_part(struct slice *text, struct making *m)
{
    char c = peek(*text);

    if (c == '"') {
        begin_word(m);
        take_quoted(text, &m->text);
    } else if (c == '[') {
        m->any = m->at_end = true;
        take_literal(text, &m->text);
    } else if (c == '.' || c == '@') {
        m->any = true;
        m->at_end = false;
        buf_append_byte(&m->text, c);
        skip(text, 1);
    } else {
        size_t n = 0;
        static const struct slice specials = {"\"[]().,;:<>@", 12};

        while (n < text->len && !text_is_space(text->ptr[n]) && !slice_has_byte(specials, text->ptr[n]))
            n++;
        if (n == 0)
            return false;
        begin_word(m);
        for (size_t i = 0; i < n; i++)
            if (text->ptr[i] != '\\' || i + 1 == n)
                buf_append_byte(&m->text, text->ptr[i]);
        skip(text, n);
    }
    return true;
}

static void
forget(struct making *m)
{
    buf_clear(&m->text);
    m->any = m->at_end = false;
}

/* What stands between < and >; a source route in front of the address goes. */
static void
take_brackets(struct slice *text, struct making *m)
{
    forget(m);
    m->any = true;
    for (skip(text, 1); text->len && peek(*text) != '>';) {
        char c = peek(*text);

        if (c == '(')
            skip_comment(text);
        else if (c == ':') {
            forget(m);
            m->any = true;
            skip(text, 1);
        } else if (text_is_space(c) || !take_part(text, m))
            skip(text, 1);
    }
    if (text->len)
        skip(text, 1);
}

bool
addr_list_next(struct arena *arena, struct slice *rest, const char **address)
{
    struct making m = {0};
    bool ended = false, bracketed = false;

    while (rest->len && !ended) {
        char c = peek(*rest);

        if (c == '(') {
            skip_comment(rest);
        } else if (c == '<') {
            take_brackets(rest, &m);
            bracketed = true;
        } else if (c == ':') {
            forget(&m); /* the name of a group */
            skip(rest, 1);
        } else if (c == ',' || c == ';') {
            ended = m.any;
            skip(rest, 1);
        } else if (text_is_space(c) || bracketed || !take_part(rest, &m)) {
            skip(rest, 1);
        }
    }
    *address = m.any ? arena_strndup(arena, m.text.ptr ? m.text.ptr : "", m.text.len) : NULL;
    buf_release(&m.text);
    return *address != NULL;
}
