/* SPDX-License-Identifier: Apache-2.0 */
/* XCLIENT: Postfix's XCLIENT_README. A proxy that is trusted says whose connection this is; access control goes by that, and the
 * session begins anew. */
#include <string.h>

#include "lib/base/log.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"
#include "smtpd/xforward.h"

static bool
set_address(struct session *s, const char *value)
{
    struct net_addr addr;

    if (!*value)
        return true;
    if (slice_starts_with_fold(slice_from(value), "ipv6:"))
        value += 5;
    if (net_addr_parse(value, 0, &addr, &s->err) < 0)
        return false;
    s->addr = addr;
    s->peer.address = arena_strdup(s->arena, value);
    s->peer.rfc_address = addr.any.sa_family == AF_INET6 ? arena_printf(s->arena, "IPv6:%s", value) : s->peer.address;
    s->peer.family = addr.any.sa_family;
    return true;
}

static bool
set_name(struct session *s, const char *value, const char **name, enum name_status *status)
{
    *name = *value ? arena_strdup(s->arena, value) : "unknown";
    *status = *value ? NAME_FOUND : NAME_PERM;
    return true;
}

static bool
set_number(const char *value, unsigned *number)
{
    unsigned long long n = 0;

    if (*value && slice_to_u64(slice_from(value), 65535, &n) < 0)
        return false;
    *number = (unsigned)n;
    return true;
}

static bool
set_login(struct session *s, const char *value)
{
    s->sasl_username = *value ? arena_strdup(s->arena, value) : NULL;
    s->sasl_method = *value ? "XCLIENT" : NULL;
    return true;
}

static bool
set_helo(struct session *s, const char *value)
{
    snprintf(s->helo_name, sizeof s->helo_name, "%s", value);
    s->helo = *value ? s->helo_name : NULL;
    return true;
}

static bool
set_protocol(struct session *s, const char *value)
{
    if (strcasecmp(value, "ESMTP") != 0 && strcasecmp(value, "SMTP") != 0)
        return false;
    s->protocol = strcasecmp(value, "ESMTP") == 0 ? "ESMTP" : "SMTP";
    return true;
}

static bool
set(struct session *s, struct slice name, const char *value)
{
    if (slice_equal_text_fold(name, "ADDR"))
        return set_address(s, value);
    if (slice_equal_text_fold(name, "NAME"))
        return set_name(s, value, &s->peer.name, &s->peer.name_status);
    if (slice_equal_text_fold(name, "REVERSE_NAME"))
        return set_name(s, value, &s->peer.reverse_name, &s->peer.reverse_status);
    if (slice_equal_text_fold(name, "PORT"))
        return set_number(value, &s->peer.port);
    if (slice_equal_text_fold(name, "PROTO"))
        return set_protocol(s, value);
    if (slice_equal_text_fold(name, "HELO"))
        return set_helo(s, value);
    if (slice_equal_text_fold(name, "LOGIN"))
        return set_login(s, value);
    if (slice_equal_text_fold(name, "DESTPORT"))
        return set_number(value, &s->server_port);
    if (slice_equal_text_fold(name, "DESTADDR")) {
        s->server_address = arena_strdup(s->arena, value);
        return true;
    }
    return false;
}

struct smtp_reply may_wait
cmd_xclient(struct session *s, struct slice args)
{
    struct smtp_reply refusal;
    struct slice name;
    const char *value;
    int result;

    if (!xclient_is_allowed(s)) {
        log_warning("NOQUEUE: reject: XCLIENT from %s: insufficient authorization", s->client);
        return smtp_reply(s->cmd, 550, "5.7.0", "Error: insufficient authorization");
    }
    if (args.len == 0)
        return smtp_reply(s->cmd, 501, "5.5.4", "Syntax: XCLIENT attribute=value...");
    s->helo = NULL;
    while ((result = xattribute_next(s, &args, &name, &value, &refusal)) > 0)
        if (!set(s, name, value))
            return smtp_reply(s->cmd, 501, "5.5.4", "Bad %.*s value or attribute", SLICE_ARG(name));
    if (result < 0)
        return refusal;
    session_reset(s);
    s->denied = NULL;
    s->client = arena_printf(s->arena, "%s[%s]", s->peer.name, s->peer.address);
    if (access_check_connect(s, &refusal) < 0) {
        s->denied = arena_strdup(s->arena, refusal.text);
        return refusal;
    }
    return smtp_reply(s->cmd, 220, NULL, "%s", s->server->set.smtpd_banner);
}
