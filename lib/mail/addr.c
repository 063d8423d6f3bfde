/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/addr.h"

#include <arpa/inet.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"

enum { LOCAL_PART_LIMIT = 1024, ADDRESS_LIMIT = 2000, HOSTNAME_LIMIT = 255, LABEL_LIMIT = 63 };

/* A cursor over the text of a path. */
struct cursor {
    const char *at, *end;
    bool strict, utf8;
};

static bool
is_atom_byte(char c, bool utf8)
{
    if ((unsigned char)c >= 0x80)
        return utf8;
    return text_is_alnum(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* Sloppy clients leave out brackets and quotes; what can't be part of any address ends it. */
static bool
is_sloppy_byte(char c, bool utf8)
{
    return is_atom_byte(c, utf8) || (c && strchr(".:[]\\();,", c)) || (unsigned char)c >= 0x80;
}

/* A quoted string, its quoting undone: RFC 5321 section 4.1.2. */
static int
take_quoted(struct cursor *c, struct buf *raw, struct err *err)
{
    for (c->at++; c->at < c->end && *c->at != '"'; c->at++) {
        if (*c->at == '\\' && ++c->at == c->end)
            break;
        if ((unsigned char)*c->at < 0x20 || *c->at == 0x7f)
            return err_set(err, ERR_SYNTAX, "control character in quoted local part");
        if ((unsigned char)*c->at >= 0x80 && !c->utf8)
            return err_set(err, ERR_SYNTAX, "8-bit character in address");
        buf_append_byte(raw, *c->at);
    }
    if (c->at == c->end)
        return err_set(err, ERR_SYNTAX, "quoted string without end");
    c->at++;
    return 0;
}

/* Atoms, quoted strings and dots, up to '@' or the end. */
static int
take_local_part(struct cursor *c, struct buf *raw, struct err *err)
{
    bool want_atom = true;

    while (c->at < c->end && *c->at != '@' && *c->at != '>') {
        if (*c->at == '"') {
            if (take_quoted(c, raw, err) < 0)
                return -1;
            want_atom = false;
        } else if (*c->at == '.') {
            if (want_atom && c->strict)
                return err_set(err, ERR_SYNTAX, "empty atom in local part");
            buf_append_byte(raw, *c->at++);
            want_atom = true;
        } else if (*c->at == '\\' && c->at + 1 < c->end && !c->strict && c->at[1] >= ' ' && c->at[1] != 0x7f) {
            buf_append_byte(raw, c->at[1]);
            c->at += 2;
            want_atom = false;
        } else if (is_atom_byte(*c->at, c->utf8) || (!c->strict && is_sloppy_byte(*c->at, c->utf8))) {
            buf_append_byte(raw, *c->at++);
            want_atom = false;
        } else if (text_is_space(*c->at) && !c->strict) {
            break;
        } else {
            return err_set(err, ERR_SYNTAX, "character not allowed in address");
        }
        if (raw->len > LOCAL_PART_LIMIT)
            return err_set(err, ERR_SYNTAX, "local part too long");
    }
    if (want_atom && c->strict && raw->len > 0)
        return err_set(err, ERR_SYNTAX, "local part ends in a dot");
    return 0;
}

/* A domain or an address literal, up to '>' or a blank. Its form is judged by whoever uses it: a table may know it. */
static int
take_domain(struct cursor *c, struct buf *raw, struct err *err)
{
    size_t start = raw->len;
    bool in_literal = false;

    while (c->at < c->end && *c->at != '>' && !text_is_space(*c->at)) {
        char byte = *c->at;
        if (byte == '[')
            in_literal = true;
        if ((unsigned char)byte < 0x20 || byte == 0x7f || ((unsigned char)byte >= 0x80 && !c->utf8))
            return err_set(err, ERR_SYNTAX, "character not allowed in domain");
        if (!in_literal && !text_is_alnum(byte) && (unsigned char)byte < 0x80 && !strchr("-._", byte)) {
            /* A second '@' or routing after it is left to the access checks of routed addresses. */
            if (c->strict || !strchr("@%!:\"\\", byte))
                return err_set(err, ERR_SYNTAX, "character not allowed in domain");
        }
        buf_append_byte(raw, byte);
        c->at++;
        if (raw->len - start > ADDRESS_LIMIT)
            return err_set(err, ERR_SYNTAX, "domain too long");
    }
    return 0;
}

/* "@a,@b:" in front: obsolete, dropped. */
static int
skip_source_route(struct cursor *c, struct err *err)
{
    if (c->at == c->end || *c->at != '@')
        return 0;
    while (c->at < c->end && *c->at != ':' && *c->at != '>')
        c->at++;
    if (c->at == c->end || *c->at != ':')
        return err_set(err, ERR_SYNTAX, "source route without end");
    c->at++;
    return 0;
}

static void
skip_blanks(struct cursor *c)
{
    while (c->at < c->end && text_is_space(*c->at))
        c->at++;
}

/* A quoted string without a domain may hold an '@', and is then an address like any other. What follows it there is one with us and on the
 * way to the next host, so that it must look like a domain: no blank, no '>'. */
static int
check_inner_domain(const struct cursor *c, const struct buf *raw, struct err *err)
{
    const char *at = raw->len > 0 ? memrchr(raw->ptr, '@', raw->len) : NULL;
    struct cursor inner = *c;
    struct buf domain = {0};

    if (!at)
        return 0;
    inner.at = at + 1;
    inner.end = raw->ptr + raw->len;
    int result = take_domain(&inner, &domain, err);
    buf_release(&domain);
    if (result == 0 && inner.at < inner.end)
        result = err_set(err, ERR_SYNTAX, "character not allowed in domain");
    return result;
}

static int
take_mailbox(struct cursor *c, struct buf *raw, struct err *err)
{
    if (skip_source_route(c, err) < 0)
        return -1;
    const char *local = c->at;
    if (take_local_part(c, raw, err) < 0)
        return -1;
    if (c->at < c->end && *c->at == '@') {
        if (c->at == local && c->strict)
            return err_set(err, ERR_SYNTAX, "empty local part");
        buf_append_byte(raw, *c->at++);
        size_t before = raw->len;
        if (take_domain(c, raw, err) < 0)
            return -1;
        if (raw->len == before)
            return err_set(err, ERR_SYNTAX, "empty domain");
        return 0;
    }
    return check_inner_domain(c, raw, err);
}

static int
take_path(struct cursor *c, struct buf *raw, struct err *err)
{
    bool bracket = c->at < c->end && *c->at == '<';

    if (!bracket && c->strict)
        return err_set(err, ERR_SYNTAX, "address without <>");
    if (bracket)
        c->at++;
    if (!c->strict)
        skip_blanks(c);
    if (take_mailbox(c, raw, err) < 0)
        return -1;
    if (!c->strict && bracket)
        skip_blanks(c);
    if (bracket) {
        if (c->at == c->end || *c->at != '>')
            return err_set(err, ERR_SYNTAX, "address without closing >");
        c->at++;
    }
    if (c->at < c->end && !text_is_space(*c->at))
        return err_set(err, ERR_SYNTAX, "text right behind the address");
    return 0;
}

int
addr_parse_path(struct arena *arena, struct slice text, bool strict, bool utf8, const char **raw, struct slice *rest,
                struct err *err)
{
    struct cursor c = {.at = text.ptr, .end = text.ptr + text.len, .strict = strict, .utf8 = utf8};
    struct buf out = {0};

    if (memchr(text.ptr, '\0', text.len))
        return err_set(err, ERR_SYNTAX, "NUL in address");
    int result = take_path(&c, &out, err);
    if (result == 0 && utf8 && !text_is_utf8(buf_slice(&out)))
        result = err_set(err, ERR_SYNTAX, "address is not UTF-8");
    if (result == 0) {
        *raw = arena_strndup(arena, out.len ? out.ptr : "", out.len);
        *rest = slice_make(c.at, (size_t)(c.end - c.at));
    }
    buf_release(&out);
    return result;
}

void
addr_split(const char *raw, struct slice *local, struct slice *domain)
{
    const char *at = strrchr(raw, '@');

    *local = at ? slice_make(raw, (size_t)(at - raw)) : slice_from(raw);
    *domain = at ? slice_from(at + 1) : slice_from("");
}

/* May the local part stand without quotes (RFC 5321: Dot-string)? Bytes from 128 need none. */
static bool
is_dot_string(struct slice local)
{
    char before = '.';

    for (size_t i = 0; i < local.len; i++) {
        char c = local.ptr[i];
        if (c == '.' ? before == '.' : !is_atom_byte(c, true))
            return false;
        before = c;
    }
    return local.len == 0 || before != '.';
}

const char *
addr_quote(struct arena *arena, const char *raw)
{
    struct slice local, domain;
    struct buf out = {0};

    addr_split(raw, &local, &domain);
    bool has_domain = local.len < strlen(raw);
    if (is_dot_string(local) && (local.len > 0 || !has_domain))
        return arena_strdup(arena, raw);
    buf_append_byte(&out, '"');
    for (size_t i = 0; i < local.len; i++) {
        if (strchr("\"\\", local.ptr[i]))
            buf_append_byte(&out, '\\');
        buf_append_byte(&out, local.ptr[i]);
    }
    buf_append_byte(&out, '"');
    if (has_domain) {
        buf_append_byte(&out, '@');
        buf_append_slice(&out, domain);
    }
    const char *result = arena_strdup(arena, buf_text(&out));
    buf_release(&out);
    return result;
}

bool
addr_is_hostname(struct slice name)
{
    size_t label = 0;

    if (name.len > 0 && name.ptr[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > HOSTNAME_LIMIT)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '.') {
            if (label == 0 || name.ptr[i - 1] == '-')
                return false;
            label = 0;
        } else if ((unsigned char)c >= 0x80 || text_is_alnum(c) || c == '_' || (c == '-' && label > 0)) {
            if (++label > LABEL_LIMIT)
                return false;
        } else {
            return false;
        }
    }
    return label > 0 && name.ptr[name.len - 1] != '-';
}

bool
addr_is_literal(struct slice text)
{
    char inner[INET6_ADDRSTRLEN];
    struct in_addr in4;
    struct in6_addr in6;

    if (text.len < 3 || text.ptr[0] != '[' || text.ptr[text.len - 1] != ']' || text.len - 2 >= sizeof inner + 5)
        return false;
    struct slice body = slice_make(text.ptr + 1, text.len - 2);
    bool is_v6 = slice_starts_with_fold(body, "IPv6:");
    if (is_v6)
        body = slice_make(body.ptr + 5, body.len - 5);
    if (body.len >= sizeof inner)
        return false;
    memcpy(inner, body.ptr, body.len);
    inner[body.len] = '\0';
    return is_v6 ? inet_pton(AF_INET6, inner, &in6) == 1 : inet_pton(AF_INET, inner, &in4) == 1;
}

bool
addr_is_site(struct slice name)
{
    bool is_number = true;

    if (addr_is_literal(name))
        return true;
    for (size_t i = 0; i < name.len; i++)
        is_number = is_number && (text_is_digit(name.ptr[i]) || name.ptr[i] == '.');
    return !is_number && name.ptr[name.len - 1] != '.' && addr_is_hostname(name);
}
