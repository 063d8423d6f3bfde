/* SPDX-License-Identifier: Apache-2.0 */
/* Is there such a user? The tables that list the users of a domain, by the domain's class. */
#include <string.h>

#include "lib/mail/addr.h"
#include "smtpd/access_action.h"

/* An address on its way through the tables. */
struct unlisted {
    struct access_check *check;
    const char *address, *kind;
    const char *detail; /* of the refusal */
    bool is_local;      /* its domain is one of ours, so that tables know it by its local part too */
};

static int
is_ours(void *ctx, struct slice domain, bool *ours, struct err *err)
{
    (void)domain;
    (void)err;
    *ours = ((const struct unlisted *)ctx)->is_local;
    return 0;
}

static enum access may_wait
find(struct unlisted *u, const struct maps *maps, const char *parameter, bool *found)
{
    struct session *s = u->check->session;
    struct maps_ours ours = {.is_ours = is_ours, .ctx = u};
    const char *value = NULL, *extension;
    struct err err;

    if (maps_find_address(maps, s->cmd, slice_from(u->address), s->server->set.recipient_delimiter,
                          MAPS_FULL | MAPS_LOCAL | MAPS_DOMAIN, &ours, &value, &extension, &err) < 0)
        return access_table_failed(u->check, parameter, u->address, &err);
    *found = value != NULL;
    return ACCESS_DUNNO;
}

static enum access may_wait
require(struct unlisted *u, const struct maps *maps, const char *parameter, int64_t code, const char *name)
{
    bool found = false;
    bool show = u->check->session->server->set.show_user_unknown_table_name;

    if (maps_is_empty(maps))
        return ACCESS_DUNNO;
    enum access result = find(u, maps, parameter, &found);
    if (result != ACCESS_DUNNO || found)
        return result;
    return access_refuse_text(u->check, code, u->detail, "<%s>: %s rejected: User unknown%s%s%s",
                              addr_quote(u->check->session->cmd, u->address), u->kind, show ? " in " : "",
                              show ? name : "", show ? " table" : "");
}

/* A table that turns the address into another one answers for it. */
static enum access may_wait
is_rewritten(struct unlisted *u, bool is_sender, bool *found)
{
    const struct user_tables *users = &u->check->session->server->users;
    const struct {
        const struct maps *maps;
        const char *parameter;
    } tables[] = {
        {is_sender ? users->sender_canonical : users->recipient_canonical,
         is_sender ? "sender_canonical_maps" : "recipient_canonical_maps"},
        {users->canonical, "canonical_maps"},
        {users->virtual_alias, "virtual_alias_maps"},
    };

    for (size_t i = 0; i < ARRAY_LEN(tables) && !*found; i++) {
        if (maps_is_empty(tables[i].maps))
            continue;
        enum access result = find(u, tables[i].maps, tables[i].parameter, found);
        if (result != ACCESS_DUNNO)
            return result;
    }
    return ACCESS_DUNNO;
}

/* Mail that transport_maps send to the error service has no user either. */
static enum access may_wait
is_refused_route(struct unlisted *u, const struct route_answer *route)
{
    if (strcmp(route->transport, "error") == 0)
        return access_act(u->check, "transport_maps",
                          arena_printf(u->check->session->cmd, "550 5.%s %s", u->detail, route->nexthop),
                          addr_quote(u->check->session->cmd, u->address), u->kind);
    return ACCESS_DUNNO;
}

static enum access may_wait
check_class(struct unlisted *u, const struct route_answer *route)
{
    const struct server *server = u->check->session->server;
    const struct smtpd_settings *set = &server->set;
    const struct user_tables *users = &server->users;

    if (route->flags & ROUTE_LOCAL)
        return require(u, users->local, "local_recipient_maps", set->unknown_local_recipient_reject_code,
                       "local recipient");
    if (route->flags & ROUTE_ALIAS)
        return require(u, users->virtual_alias, "virtual_alias_maps", set->unknown_virtual_alias_reject_code,
                       "virtual alias");
    if (route->flags & ROUTE_VIRTUAL)
        return require(u, users->virtual_mailbox, "virtual_mailbox_maps", set->unknown_virtual_mailbox_reject_code,
                       "virtual mailbox");
    if (route->flags & ROUTE_RELAY)
        return require(u, users->relay, "relay_recipient_maps", set->unknown_relay_recipient_reject_code,
                       "relay recipient");
    return ACCESS_DUNNO;
}

static enum access may_wait
reject_unlisted(struct access_check *check, const char *address, bool is_sender)
{
    struct session *s = check->session;
    struct unlisted u = {.check = check,
                         .address = address,
                         .kind = is_sender ? "Sender address" : "Recipient address",
                         .detail = is_sender ? "1.0" : "1.1"};
    struct route_answer route;
    bool found = false;

    if (!address || !address[0])
        return ACCESS_DUNNO;
    if (access_route(check, address, &route, &s->err) < 0)
        return access_fail(check, &s->err);
    u.is_local = (route.flags & ROUTE_LOCAL) != 0;
    enum access result = is_rewritten(&u, is_sender, &found);
    if (result != ACCESS_DUNNO || found)
        return result;
    result = check_class(&u, &route);
    return result == ACCESS_DUNNO ? is_refused_route(&u, &route) : result;
}

enum access may_wait
restrict_reject_unlisted_recipient(struct access_check *check, const char *argument)
{
    (void)argument;
    check->recipient_looked_up = true;
    return reject_unlisted(check, check->recipient, false);
}

enum access may_wait
restrict_reject_unlisted_sender(struct access_check *check, const char *argument)
{
    (void)argument;
    check->sender_looked_up = true;
    return reject_unlisted(check, check->sender, true);
}
