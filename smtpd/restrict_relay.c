/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send where: the restrictions that keep this host from relaying for strangers. */
#include <string.h>
#include <strings.h>

#include "lib/base/log.h"
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

/* The oldest of relay controls: what is not ours is refused, what is needs no further restrictions. */
enum access may_wait
restrict_check_relay_domains(struct access_check *check, const char *argument)
{
    enum access result = restrict_permit_auth_destination(check, argument);

    if (result != ACCESS_DUNNO || !check->recipient)
        return result;
    return access_refuse(check, check->session->server->set.relay_domains_reject_code, "7.1", "Relay access denied");
}

/* --- backup MX --- */

static bool
is_our_address(const struct server *server, const char *text)
{
    struct net_addr addr;
    struct err err;

    return net_addr_parse(text, 0, &addr, &err) == 0 &&
           (interfaces_contain(&server->interfaces, &addr) || interfaces_contain(&server->proxies, &addr));
}

/* What is known of the domain's mail servers: is this host one of them, one of the first, and are the first within
 * permit_mx_backup_networks? */
struct mx_standing {
    bool listed, first, networks;
};

static int may_wait
look_at_server(struct access_check *check, const struct dns_record *mx, bool is_first, struct mx_standing *standing,
               struct err *err)
{
    struct server *server = check->session->server;
    struct msg_dns_answer answer;
    bool ours = strcasecmp(mx->data, server->set.myhostname) == 0, inside = false;

    if (access_dns(check, mx->data, "ADDR", &answer, err) < 0)
        return -1;
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.record_count; i++) {
        struct net_addr addr;
        bool found = false;
        ours = ours || is_our_address(server, answer.records[i].data);
        if (!is_first || net_addr_parse(answer.records[i].data, 0, &addr, err) < 0)
            continue;
        if (match_list_host(server->mx_backup_networks, slice_from(""), &addr, &found, err) < 0)
            return -1;
        inside = inside || found;
    }
    standing->listed = standing->listed || ours;
    standing->first = standing->first || (ours && is_first);
    if (is_first)
        standing->networks = standing->networks && inside;
    return 0;
}

static int may_wait
find_standing(struct access_check *check, const char *domain, struct mx_standing *standing, struct err *err)
{
    struct msg_dns_answer answer;
    int64_t best = INT64_MAX;

    *standing = (struct mx_standing){.networks = true};
    if (access_dns(check, domain, "MX", &answer, err) < 0)
        return -1;
    if (answer.status != DNS_FOUND)
        return 0;
    for (size_t i = 0; i < answer.record_count; i++)
        if (answer.records[i].preference < best)
            best = answer.records[i].preference;
    for (size_t i = 0; i < answer.record_count; i++)
        if (look_at_server(check, &answer.records[i], answer.records[i].preference == best, standing, err) < 0)
            return -1;
    return 0;
}

/* Whoever owns a domain decides whose backup this host is, unless permit_mx_backup_networks says which first servers count. */
enum access may_wait
restrict_permit_mx_backup(struct access_check *check, const char *argument)
{
    struct session *s = check->session;
    const struct smtpd_settings *set = &s->server->set;
    struct mx_standing standing;
    struct slice local, domain;
    enum access result = restrict_permit_auth_destination(check, argument);

    if (result != ACCESS_DUNNO || !check->recipient || is_routed(set, check->recipient))
        return result;
    addr_split(check->recipient, &local, &domain);
    if (!addr_is_hostname(domain))
        return ACCESS_DUNNO;
    if (find_standing(check, arena_strndup(s->cmd, domain.ptr, domain.len), &standing, &s->err) < 0) {
        log_warning("permit_mx_backup: %s: %s", check->recipient, s->err.text);
        access_refuse(check, 450, "4.4", "Unable to look up mail exchanger information");
        return access_defer_if_reject(check);
    }
    bool permitted = standing.listed && !standing.first && (!*set->permit_mx_backup_networks || standing.networks);
    return permitted ? ACCESS_PERMIT : ACCESS_DUNNO;
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
