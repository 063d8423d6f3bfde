/* SPDX-License-Identifier: Apache-2.0 */
/* Restrictions that ask DNS whether a domain exists. A failure neither permits nor refuses for good: what would be
 * permitted is deferred. */
#include <string.h>

#include "lib/mail/addr.h"
#include "smtpd/restrict.h"

enum domain_status { DOMAIN_EXISTS, DOMAIN_MISSING, DOMAIN_NULL_MX, DOMAIN_UNKNOWN };

static bool
is_null_mx(const struct msg_dns_answer *answer)
{
    return answer->record_count == 1 && (!answer->records[0].data[0] || strcmp(answer->records[0].data, ".") == 0);
}

/* Has the domain an MX, A or AAAA record? */
static enum domain_status may_wait
look_up_domain(struct access_check *check, const char *domain)
{
    static const char *const types[] = {"MX", "A", "AAAA"};
    struct msg_dns_answer answer;
    struct err err;

    for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
        if (access_dns(check, domain, types[i], &answer, &err) < 0)
            return DOMAIN_UNKNOWN;
        if (answer.status == DNS_FOUND)
            return i == 0 && is_null_mx(&answer) ? DOMAIN_NULL_MX : DOMAIN_EXISTS;
        if (answer.status != DNS_NODATA)
            return DOMAIN_MISSING;
    }
    return DOMAIN_MISSING;
}

/* Nobody needs to ask for domains that are delivered here. */
static int may_wait
is_delivered_here(struct access_check *check, const char *address, bool *here, struct err *err)
{
    struct route_answer answer;

    if (access_route(check, address, &answer, err) < 0)
        return -1;
    *here = (answer.flags & (ROUTE_LOCAL | ROUTE_ALIAS | ROUTE_VIRTUAL)) != 0;
    return 0;
}

static enum access may_wait
reject_unknown_domain(struct access_check *check, const char *address, const char *kind, const char *detail,
                      int64_t null_mx_code, const char *null_mx_detail)
{
    struct session *s = check->session;
    struct slice local, domain;
    struct err err;
    bool here = false;

    if (!address || !address[0])
        return ACCESS_DUNNO;
    addr_split(address, &local, &domain);
    if (domain.len == 0 || domain.ptr[0] == '[')
        return ACCESS_DUNNO;
    if (is_delivered_here(check, address, &here, &err) < 0)
        return access_fail(check, &err);
    if (here)
        return ACCESS_DUNNO;
    const char *shown = addr_quote(s->cmd, address);
    switch (look_up_domain(check, domain.ptr)) {
    case DOMAIN_MISSING:
        return access_refuse_text(check, s->server->set.unknown_address_reject_code, detail,
                                  "<%s>: %s address rejected: Domain not found", shown, kind);
    case DOMAIN_NULL_MX:
        return access_refuse_text(check, null_mx_code, null_mx_detail,
                                  "<%s>: %s address rejected: Domain %s does not accept mail (nullMX)", shown, kind,
                                  domain.ptr);
    case DOMAIN_UNKNOWN:
        access_refuse_text(check, 450, detail, "<%s>: %s address rejected: Domain not found", shown, kind);
        return access_tempfail(check, s->server->set.unknown_address_tempfail_action);
    case DOMAIN_EXISTS: break;
    }
    return ACCESS_DUNNO;
}

enum access may_wait
restrict_reject_unknown_sender_domain(struct access_check *check, const char *argument)
{
    (void)argument;
    return reject_unknown_domain(check, check->sender, "Sender", "1.8", 550, "7.27");
}

enum access may_wait
restrict_reject_unknown_recipient_domain(struct access_check *check, const char *argument)
{
    (void)argument;
    return reject_unknown_domain(check, check->recipient, "Recipient", "1.2", 556, "1.10");
}

enum access may_wait
restrict_reject_unknown_helo_hostname(struct access_check *check, const char *argument)
{
    struct session *s = check->session;

    (void)argument;
    if (!check->helo || check->helo[0] == '[' || !addr_is_hostname(slice_from(check->helo)))
        return ACCESS_DUNNO;
    enum domain_status status = look_up_domain(check, check->helo);
    if (status == DOMAIN_EXISTS || status == DOMAIN_NULL_MX)
        return ACCESS_DUNNO;
    access_refuse_text(check, status == DOMAIN_MISSING ? s->server->set.unknown_hostname_reject_code : 450, "7.1",
                       "<%s>: Helo command rejected: Host not found", check->helo);
    if (status == DOMAIN_MISSING)
        return ACCESS_REFUSE;
    return access_tempfail(check, s->server->set.unknown_helo_hostname_tempfail_action);
}
