/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send where: the restrictions that keep this host from relaying for strangers. */
#include <string.h>

#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"
#include "smtpd/restrict.h"

enum { OUR_CLASSES = ROUTE_LOCAL | ROUTE_ALIAS | ROUTE_VIRTUAL | ROUTE_RELAY };

enum access may_wait
restrict_permit_mynetworks(struct access_check *check, const char *argument)
{
    struct session *s = check->session;
    bool found;

    (void)argument;
    if (match_list_host(s->server->mynetworks, slice_from(s->peer.name), &s->addr, &found, &check->session->err) < 0)
        return access_fail(check, &check->session->err);
    if (found && !conf_is_set(s->server->conf, "mynetworks") && access_by_old_default(s, "mynetworks_style"))
        log_old_mynetworks_style(s->server->set.mynetworks_style, s->client);
    return found ? ACCESS_PERMIT : ACCESS_DUNNO;
}

enum access may_wait
restrict_permit_inet_interfaces(struct access_check *check, const char *argument)
{
    (void)argument;
    return interfaces_contain(&check->session->server->interfaces, &check->session->addr) ? ACCESS_PERMIT
                                                                                          : ACCESS_DUNNO;
}

/* Would the local part make another host, or ourselves, send the message on? Whoever rewrites the address says so too;
 * this does not rely on it. */
static bool
is_routed(const struct smtpd_settings *set, const char *address)
{
    struct slice local, domain;

    addr_split(address, &local, &domain);
    return slice_has_byte(local, '@') || (set->allow_percent_hack && slice_has_byte(local, '%')) ||
           (set->swap_bangpath && slice_has_byte(local, '!'));
}

static const char *
domain_of(const char *address)
{
    const char *at = strrchr(address, '@');

    return at ? at + 1 : "";
}

/* Is the recipient one that this system is responsible for: delivers here, or relays for its domain? */
static int may_wait
is_ours(struct access_check *check, bool *ours, struct err *err)
{
    struct server *server = check->session->server;
    struct route_answer answer;

    *ours = false;
    if (!server->set.allow_untrusted_routing && is_routed(&server->set, check->recipient))
        return 0;
    if (access_route(check, check->recipient, &answer, err) < 0)
        return -1;
    if ((answer.flags & ROUTE_ERROR) || (!server->set.allow_untrusted_routing && (answer.flags & ROUTE_ROUTED)))
        return 0;
    *ours = (answer.flags & OUR_CLASSES) != 0;
    if ((answer.flags & ROUTE_RELAY) && access_by_old_default(check->session, "relay_domains"))
        log_old_relay_domains(domain_of(check->recipient));
    return 0;
}

enum access may_wait
restrict_permit_auth_destination(struct access_check *check, const char *argument)
{
    bool ours = false;

    (void)argument;
    if (!check->recipient)
        return ACCESS_DUNNO;
    if (is_ours(check, &ours, &check->session->err) < 0)
        return access_fail(check, &check->session->err);
    return ours ? ACCESS_PERMIT : ACCESS_DUNNO;
}

static enum access may_wait
refuse_unless_ours(struct access_check *check, int64_t code)
{
    bool ours = false;

    if (!check->recipient)
        return ACCESS_DUNNO;
    if (is_ours(check, &ours, &check->session->err) < 0)
        return access_fail(check, &check->session->err);
    if (ours)
        return ACCESS_DUNNO;
    return access_refuse_text(check, code, "7.1", "<%s>: Relay access denied",
                              addr_quote(check->session->cmd, check->recipient));
}

enum access may_wait
restrict_reject_unauth_destination(struct access_check *check, const char *argument)
{
    (void)argument;
    return refuse_unless_ours(check, check->session->server->set.relay_domains_reject_code);
}

enum access may_wait
restrict_defer_unauth_destination(struct access_check *check, const char *argument)
{
    (void)argument;
    return refuse_unless_ours(check, 454);
}
