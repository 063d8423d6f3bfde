/* SPDX-License-Identifier: Apache-2.0 */
#include "rewrite/resolve.h"

#include <string.h>

#include "lib/mail/addr.h"
#include "rewrite/address.h"

enum { UNROUTE_LIMIT = 100 }; /* levels of "a%b%c@us": more is an attack */

struct resolving {
    struct arena *arena;
    const struct rewrite_settings *settings;
    struct classes *classes;
    struct route_answer *answer;
};

static void
fail_look_up(struct resolving *r, const struct err *err)
{
    r->answer->flags = ROUTE_FAIL;
    r->answer->reason = arena_strdup(r->arena, err->text);
}

static void
refuse(struct resolving *r, int flags, const char *text)
{
    r->answer->flags |= ROUTE_ERROR | flags;
    r->answer->transport = "error";
    r->answer->nexthop = text;
    r->answer->reason = text;
}

/* Strips our own domains off the right end for as long as the local part names another place ("a%b@us"): the last one
 * decides. The address of r->answer gets what is left; *class its class. -1: a table failed. */
static int may_wait
find_destination(struct resolving *r, const char *address, int *class, struct slice *domain)
{
    struct slice local;
    struct err err;

    for (unsigned i = 0; i < UNROUTE_LIMIT; i++) {
        r->answer->address = address;
        addr_split(address, &local, domain);
        const char *unrouted =
            r->settings->resolve_dequoted_address ? address_unroute(r->arena, r->settings, local) : NULL;
        if (unrouted || slice_has_byte(local, '@'))
            r->answer->flags |= ROUTE_ROUTED;
        *class = ROUTE_LOCAL;
        if (domain->len > 0 && classes_of_domain(r->classes, *domain, class, &err) < 0) {
            fail_look_up(r, &err);
            return -1;
        }
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

/* "transport:nexthop" as in local_transport: either part may be missing. */
static void
set_transport(struct resolving *r, const char *setting, const char *nexthop)
{
    const char *colon = strchr(setting, ':');

    r->answer->transport = colon ? arena_strndup(r->arena, setting, (size_t)(colon - setting)) : setting;
    r->answer->nexthop = colon && colon[1] ? colon + 1 : nexthop;
}

static void
set_route(struct resolving *r, int class, const char *domain)
{
    const struct rewrite_settings *settings = r->settings;
    const char *elsewhere = *settings->relayhost ? settings->relayhost : domain;

    r->answer->flags |= class;
    switch (class) {
    case ROUTE_LOCAL: set_transport(r, settings->local_transport, settings->myhostname); break;
    case ROUTE_ALIAS: /* an alias that is known was expanded before mail comes here */
        refuse(r, 0,
               settings->show_user_unknown_table_name ? "5.1.1 User unknown in virtual alias table"
                                                      : "5.1.1 User unknown");
        break;
    case ROUTE_VIRTUAL: set_transport(r, settings->virtual_transport, domain); break;
    case ROUTE_RELAY: set_transport(r, settings->relay_transport, elsewhere); break;
    default: set_transport(r, settings->default_transport, elsewhere); break;
    }
}

void may_wait
resolve_address(struct arena *arena, const struct rewrite_settings *settings, struct classes *classes,
                const char *sender, const char *address, struct route_answer *answer)
{
    (void)sender; /* sender-dependent tables will ask for it */
    struct resolving r = {arena, settings, classes, answer};
    struct slice domain;
    int class;

    *answer = (struct route_answer){.transport = "", .nexthop = "", .address = "", .reason = ""};
    if (!*address)
        address = settings->empty_address_recipient;
    if (find_destination(&r, address_canonical(arena, settings, address, true), &class, &domain) < 0)
        return;
    char *nexthop = arena_strndup(arena, domain.ptr, domain.len);
    if (class != ROUTE_LOCAL && *nexthop != '[' && !addr_is_hostname(slice_from(nexthop))) {
        refuse(&r, class, "5.1.3 bad domain in address");
        return;
    }
    if (class != ROUTE_LOCAL && *nexthop == '[' && !addr_is_literal(slice_from(nexthop))) {
        refuse(&r, class, "5.1.3 bad address literal");
        return;
    }
    set_route(&r, class, nexthop);
}
