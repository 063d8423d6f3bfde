/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/resolve.h"

#include <string.h>
#include <strings.h>

#include "lib/mail/addr.h"
#include "lib/mail/addr_form.h"
#include "lib/table/maps.h"
#include "lib/table/match_list.h"

enum { UNROUTE_LIMIT = 100 }; /* levels of "a%b%c@us": more is an attack */

struct routes {
    const struct rewrite_settings *settings;
    struct classes *classes;
    struct maps *transports, *relayhosts, *default_transports, *relocated;
    unsigned transport_forms;
};

struct resolving {
    struct arena *arena;
    const struct routes *routes;
    const struct rewrite_settings *settings;
    struct route_answer *answer;
    struct route_reason reason;
};

/* ---- what can't be routed ---- */

static int
fail_look_up(struct resolving *r, const struct err *err)
{
    r->answer->flags |= ROUTE_FAIL;
    r->answer->reason = arena_strdup(r->arena, err->text);
    return -1;
}

static void
refuse(struct resolving *r, int flags, const char *text)
{
    r->answer->flags |= ROUTE_ERROR | flags;
    r->answer->transport = "error";
    r->answer->nexthop = text;
    r->answer->reason = text;
}

/* ---- which domain decides ---- */

/* resolve_numeric_domain: user@192.0.2.1 means user@[192.0.2.1]. */
static const char *
bracket_numeric(struct resolving *r, const char *address)
{
    struct slice local, domain;

    addr_split(address, &local, &domain);
    if (!r->settings->resolve_numeric_domain || domain.len == 0)
        return address;
    const char *literal = arena_printf(r->arena, "[%.*s]", SLICE_ARG(domain));
    return addr_is_literal(slice_from(literal)) ? arena_printf(r->arena, "%.*s@%s", SLICE_ARG(local), literal) : address;
}

/* Strips our own domains off the right end for as long as the local part names another place ("a%b@us"): the last one
 * decides. The address of r->answer gets what is left; *class its class. -1: a table failed. */
static int may_wait
find_destination(struct resolving *r, const char *address, int *class, struct slice *domain)
{
    struct slice local;
    struct err err;

    for (unsigned i = 0; i < UNROUTE_LIMIT; i++) {
        r->answer->address = address = bracket_numeric(r, address);
        addr_split(address, &local, domain);
        const char *unrouted =
            r->settings->resolve_dequoted_address ? address_unroute(r->arena, r->settings, local) : NULL;
        if (unrouted || slice_has_byte(local, '@'))
            r->answer->flags |= ROUTE_ROUTED;
        *class = ROUTE_LOCAL;
        if (domain->len > 0 && classes_of_domain(r->routes->classes, *domain, class, &err) < 0)
            return fail_look_up(r, &err);
        if (domain->len == 0 && !r->settings->resolve_null_domain && strchr(address, '@')) {
            refuse(r, ROUTE_DEFAULT, "5.1.3 empty domain in address");
            return -1;
        }
        if (*class != ROUTE_LOCAL || !unrouted)
            return 0;
        address = address_canonical(r->arena, r->settings, unrouted, true);
    }
    refuse(r, ROUTE_LOCAL, "5.1.3 too many levels of routing in address");
    return -1;
}

/* ---- the class's transport ---- */

/* "transport:nexthop" as in local_transport: either part may be missing. */
static void
set_transport(struct resolving *r, const char *parameter, const char *setting, const char *nexthop)
{
    const char *colon = strchr(setting, ':');

    r->answer->transport = colon ? arena_strndup(r->arena, setting, (size_t)(colon - setting)) : setting;
    r->answer->nexthop = colon && colon[1] ? colon + 1 : nexthop;
    r->reason.transport_by = parameter;
    if (colon && colon[1])
        r->reason.nexthop_by = parameter;
}

/* A sender's own value: *value stays as it is where there is none. */
static int may_wait
find_of_sender(struct resolving *r, const struct maps *maps, const char *parameter, const char *sender,
               const char *null_key, const char **value, const char **by)
{
    const char *found, *extension;
    struct err err;

    if (maps_is_empty(maps))
        return 0;
    if (maps_find_address(maps, r->arena, slice_from(*sender ? sender : null_key), r->settings->recipient_delimiter,
                          MAPS_FULL | MAPS_DOMAIN, NULL, &found, &extension, &err) < 0)
        return fail_look_up(r, &err);
    if (!found || strcasecmp(found, "DUNNO") == 0)
        return 0;
    *value = found;
    *by = parameter;
    return 0;
}

/* To other hosts: the next hop is the relay host (of the sender, or of all), or the domain. */
static int may_wait
route_to_host(struct resolving *r, int class, const char *sender, const char *domain)
{
    const struct rewrite_settings *s = r->settings;
    const char *relayhost = s->relayhost, *relayhost_by = "relayhost";
    const char *transport = class == ROUTE_RELAY ? s->relay_transport : s->default_transport;
    const char *transport_by = class == ROUTE_RELAY ? "relay_transport" : "default_transport";

    if (find_of_sender(r, r->routes->relayhosts, "sender_dependent_relayhost_maps", sender,
                       s->empty_address_relayhost_maps_lookup_key, &relayhost, &relayhost_by) < 0)
        return -1;
    if (class == ROUTE_DEFAULT &&
        find_of_sender(r, r->routes->default_transports, "sender_dependent_default_transport_maps", sender,
                       s->empty_address_default_transport_maps_lookup_key, &transport, &transport_by) < 0)
        return -1;
    r->reason.nexthop_by = *relayhost ? relayhost_by : NULL;
    set_transport(r, transport_by, transport, *relayhost ? relayhost : domain);
    return 0;
}

static int may_wait
set_route(struct resolving *r, int class, const char *sender, const char *domain)
{
    const struct rewrite_settings *s = r->settings;

    r->answer->flags |= class;
    switch (class) {
    case ROUTE_LOCAL:
        r->reason.class_by = "mydestination";
        set_transport(r, "local_transport", s->local_transport, s->myhostname);
        return 0;
    case ROUTE_ALIAS: /* an alias that is known was expanded before mail comes here */
        r->reason.class_by = "virtual_alias_domains";
        refuse(r, 0,
               s->show_user_unknown_table_name ? "5.1.1 User unknown in virtual alias table" : "5.1.1 User unknown");
        return 0;
    case ROUTE_VIRTUAL:
        r->reason.class_by = "virtual_mailbox_domains";
        set_transport(r, "virtual_transport", s->virtual_transport, domain);
        return 0;
    default:
        r->reason.class_by = class == ROUTE_RELAY ? "relay_domains" : NULL;
        return route_to_host(r, class, sender, domain);
    }
}

/* ---- tables that have the last word ---- */

/* transport(5): an empty transport keeps the one that the class gave, and an empty next hop means the domain, but ":"
 * alone changes nothing. */
static void
apply_transport(struct resolving *r, const char *entry, const char *domain)
{
    const char *colon = strchr(entry, ':');
    size_t name = colon ? (size_t)(colon - entry) : strlen(entry);
    const char *nexthop = colon ? colon + 1 : "";

    if (name == 0 && !*nexthop)
        return;
    if (name > 0) {
        r->answer->transport = arena_strndup(r->arena, entry, name);
        r->answer->nexthop = strcmp(r->answer->transport, "error") == 0 ? "Address is undeliverable" : domain;
        r->reason.transport_by = "transport_maps";
        r->reason.nexthop_by = NULL;
    }
    if (*nexthop) {
        r->answer->nexthop = nexthop;
        r->reason.nexthop_by = "transport_maps";
    }
}

static int may_wait
look_up_transport(struct resolving *r, const char *domain)
{
    const struct maps *maps = r->routes->transports;
    const char *found, *extension;
    struct err err;

    if (maps_is_empty(maps))
        return 0;
    if (maps_find_address(maps, r->arena, slice_from(r->answer->address), r->settings->recipient_delimiter,
                          r->routes->transport_forms, NULL, &found, &extension, &err) < 0)
        return fail_look_up(r, &err);
    if (!found && maps_find(maps, r->arena, slice_from("*"), &found, &err) < 0)
        return fail_look_up(r, &err);
    if (found)
        apply_transport(r, found, domain);
    return 0;
}

static int
is_ours(void *ctx, struct slice domain, bool *result, struct err *err)
{
    return classes_is_ours(ctx, domain, result, err);
}

static int may_wait
look_up_relocated(struct resolving *r)
{
    const struct maps *maps = r->routes->relocated;
    const struct maps_ours ours = {is_ours, r->routes->classes};
    const char *found, *extension;
    struct err err;

    if (maps_is_empty(maps))
        return 0;
    if (maps_find_address(maps, r->arena, slice_from(r->answer->address), r->settings->recipient_delimiter,
                          MAPS_FULL | MAPS_LOCAL | MAPS_DOMAIN, &ours, &found, &extension, &err) < 0)
        return fail_look_up(r, &err);
    if (!found)
        return 0;
    r->reason.transport_by = r->reason.nexthop_by = "relocated_maps";
    refuse(r, 0, arena_printf(r->arena, "5.1.6 User has moved to %s", found));
    return 0;
}

/* ---- the whole ---- */

static void may_wait
resolve(struct resolving *r, const char *sender, const char *address)
{
    struct slice domain;
    int class;

    if (!*address)
        address = r->settings->empty_address_recipient;
    if (find_destination(r, address_canonical(r->arena, r->settings, address, true), &class, &domain) < 0)
        return;
    if (*r->answer->address == '-' && !r->settings->allow_min_user) {
        refuse(r, class, "5.1.3 bad address syntax");
        return;
    }
    char *nexthop = arena_strndup(r->arena, domain.ptr, domain.len);
    if (class != ROUTE_LOCAL && *nexthop != '[' && !addr_is_hostname(slice_from(nexthop))) {
        refuse(r, class, "5.1.3 bad domain in address");
        return;
    }
    if (class != ROUTE_LOCAL && *nexthop == '[' && !addr_is_literal(slice_from(nexthop))) {
        refuse(r, class, "5.1.3 bad address literal");
        return;
    }
    if (set_route(r, class, sender, nexthop) < 0 || class == ROUTE_ALIAS)
        return;
    if (look_up_transport(r, nexthop) == 0)
        (void)look_up_relocated(r);
}

void may_wait
resolve_explain(struct arena *arena, const struct routes *routes, const char *sender, const char *address,
                struct route_answer *answer, struct route_reason *reason)
{
    struct resolving r = {arena, routes, routes->settings, answer, {NULL, NULL, NULL}};

    *answer = (struct route_answer){.transport = "", .nexthop = "", .address = "", .reason = ""};
    resolve(&r, sender, address);
    *reason = r.reason;
}

void may_wait
resolve_address(struct arena *arena, const struct routes *routes, const char *sender, const char *address,
                struct route_answer *answer)
{
    struct route_reason reason;

    resolve_explain(arena, routes, sender, address, answer, &reason);
}

/* ---- making them ---- */

static struct maps *
open_maps(struct arena *arena, const struct conf *conf, const char *parameter, const char *text, unsigned flags,
          struct err *err)
{
    return maps_new(arena, conf, parameter, text ? text : "", TABLE_FOLD_FIXED | flags, err);
}

struct routes *
routes_new(struct arena *arena, const struct conf *conf, const struct rewrite_settings *s,
           const struct interfaces *own, const struct interfaces *proxy, struct err *err)
{
    struct routes *routes = ARENA_NEW(arena, struct routes);
    const char *parents = s->parent_domain_matches_subdomains ? s->parent_domain_matches_subdomains : "";

    routes->settings = s;
    routes->transport_forms = MAPS_FULL | MAPS_BARE;
    if (match_list_flags(parents, "transport_maps") & MATCH_SUBDOMAINS)
        routes->transport_forms |= MAPS_SUBDOMAINS;
    if (!(routes->classes = classes_new(arena, conf, s, own, proxy, err)) ||
        !(routes->transports =
              open_maps(arena, conf, "transport_maps", s->transport_maps, TABLE_NO_REGSUB, err)) ||
        !(routes->relayhosts = open_maps(arena, conf, "sender_dependent_relayhost_maps",
                                         s->sender_dependent_relayhost_maps, TABLE_NO_REGSUB, err)) ||
        !(routes->default_transports =
              open_maps(arena, conf, "sender_dependent_default_transport_maps",
                        s->sender_dependent_default_transport_maps, TABLE_NO_REGSUB, err)) ||
        !(routes->relocated = open_maps(arena, conf, "relocated_maps", s->relocated_maps, 0, err)))
        return NULL;
    return routes;
}
