/* SPDX-License-Identifier: Apache-2.0 */
/* XFORWARD: Postfix's XFORWARD_README. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "smtpd/session.h"
#include "smtpd/xforward.h"

enum { VALUE_LIMIT = 255, PROTOCOL_LIMIT = 64 };

static bool may_wait
is_listed(struct session *s, const struct match_list *list)
{
    bool found;

    if (match_list_is_empty(list))
        return false;
    if (match_list_host(list, slice_from(s->peer.name), &s->addr, &found, &s->err) == 0)
        return found;
    log_warning("%s: %s", s->client, s->err.text);
    return false;
}

bool may_wait
xforward_is_allowed(struct session *s)
{
    return is_listed(s, s->server->xforward_hosts);
}

bool may_wait
xclient_is_allowed(struct session *s)
{
    return is_listed(s, s->server->xclient_hosts);
}

/* smtpd_authorized_verp_clients, once authorized_verp_clients. Users of this machine may ask for it anyway, with sendmail -XV. */
bool may_wait
verp_is_allowed(struct session *s)
{
    return s->server->stand_alone || is_listed(s, s->server->verp_clients);
}

/* ---- attributes ---- */

/* Nothing that could pretend to be something else in a log line or a header. */
static bool
is_clean(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~' || strchr("<>()\\\";@,", text.ptr[i]))
            return false;
    return true;
}

int
xattribute_next(struct session *s, struct slice *rest, struct slice *name, const char **value,
                struct smtp_reply *refusal)
{
    struct slice word;
    struct buf decoded = {0};
    const char *equals;
    bool good;

    if (!slice_word(rest, " \t", &word))
        return 0;
    equals = memchr(word.ptr, '=', word.len);
    if (!equals) {
        *refusal = smtp_reply(s->cmd, 501, "5.5.4", "Error: attribute=value expected");
        return -1;
    }
    *name = slice_make(word.ptr, (size_t)(equals - word.ptr));
    word = slice_make(equals + 1, word.len - name->len - 1);
    good = word.len > 0 && word.len <= VALUE_LIMIT && text_xtext_decode(word, &decoded) == 0;
    if (good && slice_equal_text_fold(buf_slice(&decoded), "[unavailable]"))
        buf_clear(&decoded);
    else if (good && slice_equal_text_fold(buf_slice(&decoded), "[tempunavail]"))
        buf_clear(&decoded);
    good = good && (is_clean(buf_slice(&decoded)) || slice_equal_text_fold(*name, "LOGIN"));
    *value = good ? arena_strndup(s->cmd, decoded.len ? decoded.ptr : "", decoded.len) : NULL;
    buf_release(&decoded);
    if (*value)
        return 1;
    *refusal = smtp_reply(s->cmd, 501, "5.5.4", "Bad %.*s syntax", SLICE_ARG(*name));
    return -1;
}

/* ---- the set ---- */

void
xforward_free(struct xforward **xforward)
{
    struct arena *arena;

    if (!*xforward)
        return;
    arena = (*xforward)->arena;
    *xforward = NULL;
    arena_free(&arena);
}

static struct xforward *
set_of(struct session *s)
{
    struct arena *arena;

    if (s->xforward)
        return s->xforward;
    arena = arena_new();
    s->xforward = ARENA_NEW(arena, struct xforward);
    *s->xforward = (struct xforward){
        .arena = arena, .name = "", .address = "", .port = "", .protocol = "", .helo = "", .ident = "", .source = ""};
    return s->xforward;
}

static bool
is_address(struct session *s, const char *value)
{
    struct net_addr addr;

    if (slice_starts_with_fold(slice_from(value), "ipv6:"))
        value += 5;
    return !*value || net_addr_parse(value, 0, &addr, &s->err) == 0;
}

static bool
is_port(const char *value)
{
    unsigned long long port;

    return !*value || slice_to_u64(slice_from(value), 65535, &port) == 0;
}

static bool
set(struct session *s, struct slice name, const char *value)
{
    struct xforward *x = set_of(s);
    const struct {
        const char *name;
        const char **field;
        bool good;
    } attributes[] = {
        {"NAME", &x->name, true},
        {"ADDR", &x->address, is_address(s, value)},
        {"PORT", &x->port, is_port(value)},
        {"PROTO", &x->protocol, strlen(value) <= PROTOCOL_LIMIT},
        {"HELO", &x->helo, true},
        {"IDENT", &x->ident, true},
        {"SOURCE", &x->source, !*value || strcasecmp(value, "LOCAL") == 0 || strcasecmp(value, "REMOTE") == 0},
    };

    for (unsigned i = 0; i < ARRAY_LEN(attributes); i++) {
        if (!slice_equal_text_fold(name, attributes[i].name))
            continue;
        if (attributes[i].good)
            *attributes[i].field = arena_strdup(x->arena, value);
        return attributes[i].good;
    }
    return false;
}

struct smtp_reply may_wait
cmd_xforward(struct session *s, struct slice args)
{
    struct smtp_reply refusal;
    struct slice name;
    const char *value;
    int result;

    if (!xforward_is_allowed(s)) {
        log_warning("NOQUEUE: reject: XFORWARD from %s: insufficient authorization", s->client);
        return smtp_reply(s->cmd, 550, "5.7.0", "Error: insufficient authorization");
    }
    if (args.len == 0)
        return smtp_reply(s->cmd, 501, "5.5.4", "Syntax: XFORWARD attribute=value...");
    while ((result = xattribute_next(s, &args, &name, &value, &refusal)) > 0)
        if (!set(s, name, value))
            return smtp_reply(s->cmd, 501, "5.5.4", "Bad %.*s value or attribute", SLICE_ARG(name));
    return result < 0 ? refusal : smtp_reply(s->cmd, 250, "2.0.0", "Ok");
}

/* ---- its use ---- */

static const char *
or_unknown(const char *value)
{
    return *value ? value : "unknown";
}

void
xforward_apply(const struct xforward *x, struct arena *arena, struct envelope *e)
{
    const char *address = x->address;

    if (slice_starts_with_fold(slice_from(address), "ipv6:"))
        address += 5;
    e->log_client_name = arena_strdup(arena, or_unknown(x->name));
    e->log_client_address = arena_strdup(arena, or_unknown(address));
    e->log_client_port = arena_strdup(arena, or_unknown(x->port));
    e->log_helo_name = arena_strdup(arena, or_unknown(x->helo));
    e->log_protocol_name = arena_strdup(arena, or_unknown(x->protocol));
    e->log_message_origin = arena_printf(arena, "%s[%s]", e->log_client_name, e->log_client_address);
    if (*x->ident)
        e->log_ident = arena_strdup(arena, x->ident);
    if (*x->source)
        e->rewrite_context = strcasecmp(x->source, "LOCAL") == 0 ? "local" : "remote";
}

const char *
xforward_log_text(const struct xforward *x, struct arena *arena)
{
    if (!x)
        return "";
    return arena_printf(arena, "%s%s%s", *x->ident ? ", orig_queue_id=" : "", x->ident,
                        *x->name || *x->address ? arena_printf(arena, ", orig_client=%s[%s]", or_unknown(x->name),
                                                               or_unknown(x->address))
                                                : "");
}
