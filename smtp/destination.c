/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/destination.h"

#include <string.h>

#include "lib/run/net.h"

int
destination_port(struct slice text)
{
    static const struct {
        const char *name;
        int port;
    } known[] = {{"smtp", 25}, {"lmtp", 24}, {"submission", 587}, {"smtps", 465}, {"submissions", 465}, {"ssmtp", 465}};
    unsigned long long number;

    if (slice_to_u64(text, 65535, &number) == 0)
        return number > 0 ? (int)number : -1;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_equal_text_fold(text, known[i].name))
            return known[i].port;
    return -1;
}

static bool
is_numeric(const char *name)
{
    struct net_addr addr;
    return net_addr_parse(name, 0, &addr, NULL) == 0;
}

static int
set_port(struct destination *to, struct slice text, struct err *err)
{
    int port = destination_port(text);

    if (port < 0)
        return err_set(err, ERR_SYNTAX, "unknown port: %.*s", SLICE_ARG(text));
    to->port = (unsigned)port;
    to->is_default_port = false;
    return 0;
}

/* [host], perhaps with :port. */
static int
parse_bracketed(struct arena *arena, struct slice text, struct destination *to, struct err *err)
{
    const char *end = memchr(text.ptr, ']', text.len);

    if (!end)
        return err_set(err, ERR_SYNTAX, "missing ] in \"%.*s\"", SLICE_ARG(text));
    struct slice inside = slice_make(text.ptr + 1, (size_t)(end - text.ptr) - 1);
    struct slice after = slice_make(end + 1, text.len - inside.len - 2);
    if (slice_starts_with_fold(inside, "ipv6:"))
        inside = slice_make(inside.ptr + 5, inside.len - 5);
    if (inside.len == 0 || (after.len > 0 && *after.ptr != ':'))
        return err_set(err, ERR_SYNTAX, "malformed destination \"%.*s\"", SLICE_ARG(text));
    to->name = arena_strndup(arena, inside.ptr, inside.len);
    to->kind = is_numeric(to->name) ? DESTINATION_ADDRESS : DESTINATION_HOST;
    return after.len > 0 ? set_port(to, slice_make(after.ptr + 1, after.len - 1), err) : 0;
}

/* domain, host or bare address, perhaps with :port. An IPv6 address has several colons and no port. */
static int
parse_plain(struct arena *arena, struct slice text, bool lmtp, struct destination *to, struct err *err)
{
    const char *colon = memchr(text.ptr, ':', text.len);
    size_t len = text.len;

    to->name = arena_strndup(arena, text.ptr, text.len);
    if (colon && !is_numeric(to->name)) {
        len = (size_t)(colon - text.ptr);
        if (set_port(to, slice_make(colon + 1, text.len - len - 1), err) < 0)
            return -1;
        to->name = arena_strndup(arena, text.ptr, len);
    }
    if (len == 0)
        return err_set(err, ERR_SYNTAX, "malformed destination \"%.*s\"", SLICE_ARG(text));
    to->kind = is_numeric(to->name) ? DESTINATION_ADDRESS : lmtp ? DESTINATION_HOST : DESTINATION_DOMAIN;
    return 0;
}

int
destination_parse(struct arena *arena, struct slice text, unsigned default_port, bool lmtp, struct destination *to,
                  struct err *err)
{
    *to = (struct destination){.port = default_port, .is_default_port = true};
    if (lmtp && slice_starts_with_fold(text, "unix:")) {
        to->kind = DESTINATION_UNIX;
        to->name = arena_strndup(arena, text.ptr + 5, text.len - 5);
        return *to->name ? 0 : err_set(err, ERR_SYNTAX, "empty path in \"%.*s\"", SLICE_ARG(text));
    }
    if (slice_starts_with_fold(text, "inet:"))
        text = slice_make(text.ptr + 5, text.len - 5);
    if (text.len == 0)
        return err_set(err, ERR_SYNTAX, "empty destination");
    if (slice_has_byte(text, '\0'))
        return err_set(err, ERR_SYNTAX, "malformed destination");
    return *text.ptr == '[' ? parse_bracketed(arena, text, to, err) : parse_plain(arena, text, lmtp, to, err);
}
