/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/addr_class.h"

#include <string.h>

#include "lib/base/arena.h"
#include "lib/mail/addr.h"
#include "lib/mail/messages.h"
#include "lib/run/net.h"
#include "lib/table/match_list.h"

struct classes {
    const struct rewrite_settings *settings;
    struct arena *arena;
    struct match_list *local, *alias, *virtual, *relay;
    const struct interfaces *own, *proxy;
};

/* Is the literal, "[192.0.2.1]" or "[IPv6:...]", an address of ours? */
static bool
is_own_literal(const struct classes *classes, struct slice literal)
{
    char text[INET6_ADDRSTRLEN];
    struct net_addr addr;
    struct err err;

    if (!addr_is_literal(literal))
        return false;
    struct slice body = slice_make(literal.ptr + 1, literal.len - 2);
    if (slice_starts_with_fold(body, "IPv6:"))
        body = slice_make(body.ptr + 5, body.len - 5);
    memcpy(text, body.ptr, body.len);
    text[body.len] = '\0';
    if (net_addr_parse(text, 0, &addr, &err) < 0)
        return false;
    return interfaces_contain(classes->own, &addr) || interfaces_contain(classes->proxy, &addr);
}

/* ---- classes ---- */

/* Tests leave settings out. */
static struct match_list *
domains(struct classes *classes, const struct conf *conf, const struct rewrite_settings *settings,
        const char *parameter, const char *text, struct err *err)
{
    unsigned flags = match_list_flags(
        settings->parent_domain_matches_subdomains ? settings->parent_domain_matches_subdomains : "", parameter);
    return match_list_new(classes->arena, conf, parameter, text ? text : "", flags, err);
}

struct classes *
classes_new(struct arena *arena, const struct conf *conf, const struct rewrite_settings *settings,
            const struct interfaces *own, const struct interfaces *proxy, struct err *err)
{
    struct classes *classes = ARENA_NEW(arena, struct classes);

    classes->settings = settings;
    classes->arena = arena;
    classes->local = domains(classes, conf, settings, "mydestination", settings->mydestination, err);
    if (classes->local)
        classes->alias =
            domains(classes, conf, settings, "virtual_alias_domains", settings->virtual_alias_domains, err);
    if (classes->alias)
        classes->virtual = domains(classes, conf, settings, "virtual_mailbox_domains",
                                   settings->virtual_mailbox_domains, err);
    if (classes->virtual)
        classes->relay = domains(classes, conf, settings, "relay_domains", settings->relay_domains, err);
    if (!classes->relay)
        return NULL;
    classes->own = own;
    classes->proxy = proxy;
    return classes;
}

int may_wait
classes_of_domain(const struct classes *classes, struct slice domain, int *class, struct err *err)
{
    const struct {
        const struct match_list *list;
        int class;
    } lists[] = {
        {classes->local, ROUTE_LOCAL},
        {classes->alias, ROUTE_ALIAS},
        {classes->virtual, ROUTE_VIRTUAL},
        {classes->relay, ROUTE_RELAY},
    };
    bool found;

    *class = ROUTE_DEFAULT;
    if (domain.len > 0 && *domain.ptr == '[') {
        if (is_own_literal(classes, domain))
            *class = ROUTE_LOCAL;
        return 0;
    }
    if (domain.len > 0 && domain.ptr[domain.len - 1] == '.')
        domain.len--;
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++) {
        if (match_list_domain(lists[i].list, domain, &found, err) < 0)
            return -1;
        if (found) {
            *class = lists[i].class;
            return 0;
        }
    }
    return 0;
}

int may_wait
classes_is_ours(const struct classes *classes, struct slice domain, bool *is_ours, struct err *err)
{
    if (domain.len > 0 && *domain.ptr == '[') {
        *is_ours = is_own_literal(classes, domain);
        return 0;
    }
    if (domain.len > 0 && domain.ptr[domain.len - 1] == '.')
        domain.len--;
    *is_ours = slice_equal_text_fold(domain, classes->settings->myorigin);
    return *is_ours ? 0 : match_list_domain(classes->local, domain, is_ours, err);
}
