/* SPDX-License-Identifier: Apache-2.0 */
/* Restrictions that look up the servers of a domain in an access table: its mail servers, its name servers, its own
 * addresses. A server that DNS can't tell of now may be one that the table knows, so what would be permitted waits. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "smtpd/access_map.h"

enum { SERVERS = 100 /* of a domain that are looked at */ };

static enum access
unable(const struct access_query *query, const char *type, const char *domain)
{
    log_warning("Unable to look up %s host for %s: %s", type, domain, query->check->session->err.text);
    access_refuse_text(query->check, 450, "7.1", "<%s>: %s rejected: Unable to look up %s host", query->subject,
                       query->kind, type);
    return access_defer_if_permit(query->check);
}

/* A server by its name, and by each of its addresses. */
static enum access may_wait
check_server(const struct access_query *query, const char *type, const char *server, bool *found)
{
    struct msg_dns_answer answer;
    enum access result = access_map_domain(query, server, found);

    if (*found)
        return result;
    if (access_dns(query->check, server, "ADDR", &answer, &query->check->session->err) < 0)
        return unable(query, type, server);
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.record_count; i++) {
        result = access_map_host_address(query, answer.records[i].data, found);
        if (*found)
            return result;
    }
    return ACCESS_DUNNO;
}

/* The records of that type at the domain; for name servers at the next domain above that has some. */
static int may_wait
find_servers(const struct access_query *query, const char *type, const char *domain, struct msg_dns_answer *answer)
{
    for (;;) {
        if (access_dns(query->check, domain, type, answer, &query->check->session->err) < 0)
            return -1;
        const char *dot = strchr(domain, '.');
        if (answer->status == DNS_FOUND || strcmp(type, "NS") != 0 || !dot || !strchr(dot + 1, '.'))
            return 0;
        domain = dot + 1;
    }
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]" */
static enum access may_wait
check_literal(const struct access_query *query, const char *domain)
{
    struct slice text = slice_make(domain + 1, strlen(domain) - 1);
    bool found;

    if (text.len > 0 && text.ptr[text.len - 1] == ']')
        text.len--;
    if (slice_starts_with_fold(text, "IPv6:"))
        text = slice_make(text.ptr + 5, text.len - 5);
    return access_map_host_address(query, arena_strndup(query->check->session->cmd, text.ptr, text.len), &found);
}

static enum access may_wait
look_at_servers(const struct access_query *query, const char *type, const char *domain)
{
    struct msg_dns_answer answer;
    bool found;

    if (!domain || !domain[0])
        return ACCESS_DUNNO;
    if (domain[0] == '[')
        return check_literal(query, domain);
    if (!addr_is_hostname(slice_from(domain)))
        return ACCESS_DUNNO;
    if (strcmp(type, "A") == 0)
        return check_server(query, type, domain, &found);
    if (find_servers(query, type, domain, &answer) < 0)
        return unable(query, type, domain);
    if (answer.status != DNS_FOUND)
        return strcmp(type, "MX") == 0 ? check_server(query, type, domain, &found) : ACCESS_DUNNO;
    for (size_t i = 0; i < answer.record_count && i < SERVERS; i++) {
        enum access result = check_server(query, type, answer.records[i].data, &found);
        if (found)
            return result;
    }
    return ACCESS_DUNNO;
}

static enum access may_wait
check_servers(const struct access_query *query, const char *type, const char *domain)
{
    return access_map_no_permit(query, look_at_servers(query, type, domain));
}

/* ---- by whose domain ---- */

static enum access may_wait
check_client(struct access_check *check, const char *table, const char *type, const char *name, const char *kind)
{
    struct session *s = check->session;
    const char *subject = arena_printf(s->cmd, "%s[%s]", name, s->peer.address);
    struct access_query query = {.check = check, .table = table, .subject = subject, .kind = kind};

    return strcmp(name, "unknown") == 0 ? ACCESS_DUNNO : check_servers(&query, type, name);
}

static enum access may_wait
check_helo(struct access_check *check, const char *table, const char *type)
{
    struct access_query query = {.check = check, .table = table, .subject = check->helo, .kind = "Helo command"};

    return check_servers(&query, type, check->helo);
}

static enum access may_wait
check_address(struct access_check *check, const char *table, const char *type, const char *address, const char *kind)
{
    struct slice local, domain;

    if (!address || !address[0])
        return ACCESS_DUNNO;
    addr_split(address, &local, &domain);
    struct access_query query = {
        .check = check, .table = table, .subject = addr_quote(check->session->cmd, address), .kind = kind};
    return check_servers(&query, type, domain.len ? domain.ptr : "");
}

/* Each restriction for each kind of server. */
#define FOR_SERVERS(suffix, type)                                                                                \
    enum access may_wait restrict_check_client_##suffix(struct access_check *check, const char *argument)        \
    {                                                                                                            \
        return check_client(check, argument, type, check->session->peer.name, "Client host");                    \
    }                                                                                                            \
    enum access may_wait restrict_check_reverse_client_hostname_##suffix(struct access_check *check,             \
                                                                         const char *argument)                   \
    {                                                                                                            \
        return check_client(check, argument, type, check->session->peer.reverse_name, "Unverified Client host"); \
    }                                                                                                            \
    enum access may_wait restrict_check_helo_##suffix(struct access_check *check, const char *argument)          \
    {                                                                                                            \
        return check_helo(check, argument, type);                                                                \
    }                                                                                                            \
    enum access may_wait restrict_check_sender_##suffix(struct access_check *check, const char *argument)        \
    {                                                                                                            \
        return check_address(check, argument, type, check->sender, "Sender address");                            \
    }                                                                                                            \
    enum access may_wait restrict_check_recipient_##suffix(struct access_check *check, const char *argument)     \
    {                                                                                                            \
        return check_address(check, argument, type, check->recipient, "Recipient address");                      \
    }

FOR_SERVERS(mx_access, "MX")
FOR_SERVERS(ns_access, "NS")
FOR_SERVERS(a_access, "A")
