/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/template.h"

#include <string.h>

#include "lib/base/text.h"

struct template_parts
template_parts(struct slice text)
{
    struct template_parts parts = {.whole = text, .user = text};
    const char *at = text.len ? memrchr(text.ptr, '@', text.len) : NULL;

    if (at) {
        parts.user = slice_make(text.ptr, (size_t)(at - text.ptr));
        parts.domain = slice_make(at + 1, text.len - parts.user.len - 1);
    }
    return parts;
}

int
template_check(const char *text, struct err *err)
{
    for (const char *p = text; (p = strchr(p, '%')); p += 2)
        if (p[1] == '\0' || !strchr("%sudSUD123456789", p[1]))
            return err_set(err, ERR_PERM, "\"%.1s\" means nothing after a %% in \"%s\"", p + 1, text);
    return 0;
}

bool
template_has_key(const char *text)
{
    for (const char *p = text; (p = strchr(p, '%')) && p[1]; p += 2)
        if (p[1] != '%')
            return true;
    return false;
}

/* The n-th part of the domain, from the right. */
static struct slice
label(struct slice domain, unsigned n)
{
    for (;;) {
        const char *dot = domain.len ? memrchr(domain.ptr, '.', domain.len) : NULL;
        size_t start = dot ? (size_t)(dot - domain.ptr) + 1 : 0;

        if (--n == 0)
            return slice_make(domain.ptr + start, domain.len - start);
        if (!dot)
            return slice_make(NULL, 0);
        domain.len = start - 1;
    }
}

/* What the letter stands for; len 0: nothing. */
static struct slice
piece_of(char letter, const struct template_parts *value, const struct template_parts *key)
{
    if (text_is_digit(letter))
        return key->domain.ptr ? label(key->domain, (unsigned)(letter - '0')) : slice_make(NULL, 0);
    if (letter == 'S' || letter == 'U' || letter == 'D')
        value = key;
    switch (text_lower(letter)) {
    case 's': return value->whole;
    case 'u': return value->user;
    default: return value->domain;
    }
}

enum template_result
template_expand(const char *text, const struct template_parts *value, const struct template_parts *key,
                const struct template_quote *quote, struct buf *out)
{
    size_t before = out->len;

    for (; *text; text++) {
        struct slice piece;

        if (*text != '%') {
            buf_append_byte(out, *text);
            continue;
        }
        text++;
        if (*text == '%') {
            buf_append_byte(out, '%');
            continue;
        }
        piece = *text ? piece_of(*text, value, key) : slice_make(NULL, 0);
        if (piece.len == 0) {
            out->len = before;
            return TEMPLATE_NOTHING;
        }
        if (!quote)
            buf_append_slice(out, piece);
        else if (quote->append(quote->ctx, piece, out) < 0)
            return TEMPLATE_BAD;
    }
    return TEMPLATE_DONE;
}
