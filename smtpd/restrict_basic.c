/* SPDX-License-Identifier: Apache-2.0 */
/* Restrictions that need to ask nobody. */
#include <arpa/inet.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "lib/run/task.h"
#include "smtpd/restrict.h"

#define SET(check) ((check)->session->server->set)

enum access may_wait
restrict_permit(struct access_check *check, const char *argument)
{
    (void)check;
    (void)argument;
    return ACCESS_PERMIT;
}

enum access may_wait
restrict_reject(struct access_check *check, const char *argument)
{
    (void)argument;
    return access_refuse(check, SET(check).reject_code, "7.1", "Access denied");
}

enum access may_wait
restrict_defer(struct access_check *check, const char *argument)
{
    (void)argument;
    return access_refuse(check, SET(check).defer_code, "3.2", "Try again later");
}

enum access may_wait
restrict_defer_if_permit(struct access_check *check, const char *argument)
{
    (void)argument;
    access_refuse(check, 450, "3.2", "Try again later");
    return access_defer_if_permit(check);
}

enum access may_wait
restrict_defer_if_reject(struct access_check *check, const char *argument)
{
    (void)argument;
    check->defer_if_reject = true;
    return ACCESS_DUNNO;
}

enum access may_wait
restrict_sleep(struct access_check *check, const char *argument)
{
    unsigned long long seconds;

    if (slice_to_u64(slice_from(argument), 3600, &seconds) < 0)
        return access_refuse_text(check, 451, "3.5", "Server configuration error");
    (void)!task_sleep(SECONDS(seconds), &check->session->err); /* cancelled: the next read of input tells */
    return ACCESS_DUNNO;
}

/* relay_clientcerts: fingerprints of certificates, or of the keys in them. */
enum access may_wait
restrict_permit_tls_clientcerts(struct access_check *check, const char *argument)
{
    struct session *s = check->session;

    (void)argument;
    if (!stream_is_tls(s->stream) || maps_is_empty(s->server->relay_certificates))
        return ACCESS_DUNNO;
    for (unsigned of_key = 0; of_key < 2; of_key++) {
        const char *print = session_fingerprint(s, of_key), *value = NULL;
        if (!print[0])
            continue;
        if (maps_find(s->server->relay_certificates, s->cmd, slice_from(print), &value, &s->err) < 0)
            return access_fail(check, &s->err);
        if (value)
            return ACCESS_PERMIT;
    }
    return ACCESS_DUNNO;
}

enum access may_wait
restrict_permit_tls_all_clientcerts(struct access_check *check, const char *argument)
{
    struct tls_info tls;

    (void)argument;
    stream_tls_info(check->session->stream, &tls);
    return tls.peer_is_trusted ? ACCESS_PERMIT : ACCESS_DUNNO;
}

enum access may_wait
restrict_reject_unauth_pipelining(struct access_check *check, const char *argument)
{
    const struct session *s = check->session;
    bool early = stream_buffered(s->stream) > 0 && (strcmp(s->protocol, "ESMTP") != 0 || strcmp(s->where, "DATA") == 0);

    (void)argument;
    if (!early && !s->bad_pipelining)
        return ACCESS_DUNNO;
    return access_refuse(check, 503, "5.0", "Improper use of SMTP command pipelining");
}

enum access may_wait
restrict_reject_plaintext_session(struct access_check *check, const char *argument)
{
    (void)argument;
    if (stream_is_tls(check->session->stream))
        return ACCESS_DUNNO;
    return access_refuse_text(check, SET(check).plaintext_reject_code, "7.1", "Session encryption is required");
}

enum access may_wait
restrict_reject_unknown_client_hostname(struct access_check *check, const char *argument)
{
    const struct peer *peer = &check->session->peer;

    (void)argument;
    if (peer->name_status == NAME_FOUND)
        return ACCESS_DUNNO;
    return access_refuse_text(check, peer->name_status == NAME_PERM ? SET(check).unknown_client_reject_code : 450,
                              "7.25", "Client host rejected: cannot find your hostname, [%s]", peer->address);
}

enum access may_wait
restrict_reject_unknown_reverse_client_hostname(struct access_check *check, const char *argument)
{
    const struct peer *peer = &check->session->peer;

    (void)argument;
    if (peer->reverse_status == NAME_FOUND)
        return ACCESS_DUNNO;
    return access_refuse_text(check, peer->reverse_status == NAME_PERM ? SET(check).unknown_client_reject_code : 450,
                              "7.25", "Client host rejected: cannot find your reverse hostname, [%s]", peer->address);
}

enum access may_wait
restrict_reject_invalid_helo_hostname(struct access_check *check, const char *argument)
{
    struct slice helo = slice_from(check->helo);

    (void)argument;
    if (!check->helo || addr_is_hostname(helo) || addr_is_literal(helo))
        return ACCESS_DUNNO;
    return access_refuse_text(check, SET(check).invalid_hostname_reject_code, "5.2",
                              "<%s>: Helo command rejected: Invalid name", check->helo);
}

/* A name with a domain, or an address literal. */
static bool
is_fqdn(struct slice domain)
{
    if (domain.len > 0 && domain.ptr[domain.len - 1] == '.')
        domain.len--;
    return addr_is_literal(domain) || (addr_is_hostname(domain) && slice_has_byte(domain, '.'));
}

enum access may_wait
restrict_reject_non_fqdn_helo_hostname(struct access_check *check, const char *argument)
{
    (void)argument;
    if (!check->helo || is_fqdn(slice_from(check->helo)))
        return ACCESS_DUNNO;
    return access_refuse_text(check, SET(check).non_fqdn_reject_code, "5.2",
                              "<%s>: Helo command rejected: need fully-qualified hostname", check->helo);
}

static enum access
reject_non_fqdn(struct access_check *check, const char *address, const char *kind)
{
    struct slice local, domain;

    if (!address || !address[0])
        return ACCESS_DUNNO;
    addr_split(address, &local, &domain);
    if (is_fqdn(domain))
        return ACCESS_DUNNO;
    return access_refuse_text(check, SET(check).non_fqdn_reject_code, "5.2",
                              "<%s>: %s address rejected: need fully-qualified address",
                              addr_quote(check->session->cmd, address), kind);
}

enum access may_wait
restrict_reject_non_fqdn_sender(struct access_check *check, const char *argument)
{
    (void)argument;
    return reject_non_fqdn(check, check->sender, "Sender");
}

enum access may_wait
restrict_reject_non_fqdn_recipient(struct access_check *check, const char *argument)
{
    (void)argument;
    if (check->recipient && slice_equal_text_fold(slice_from(check->recipient), "postmaster"))
        return ACCESS_DUNNO;
    return reject_non_fqdn(check, check->recipient, "Recipient");
}

enum access may_wait
restrict_reject_multi_recipient_bounce(struct access_check *check, const char *argument)
{
    const struct transaction *t = check->session->transaction;
    unsigned count = (t ? t->recipient_count : 0) + (check->at_rcpt ? 1 : 0);

    (void)argument;
    if (!check->sender || check->sender[0] || count < 2)
        return ACCESS_DUNNO;
    return access_refuse(check, SET(check).multi_recipient_bounce_reject_code, "5.3", "Multi-recipient bounce");
}

/* Anybody can say so: where it would permit relaying it counts for what is ours alone. */
enum access may_wait
restrict_permit_naked_ip_address(struct access_check *check, const char *argument)
{
    struct in_addr addr;

    if (!check->helo || inet_pton(AF_INET, check->helo, &addr) != 1)
        return ACCESS_DUNNO;
    return strcmp(check->kind, "Recipient address") == 0 ? restrict_permit_auth_destination(check, argument)
                                                         : ACCESS_PERMIT;
}

/* There is no verify(8) yet. What nobody else refuses waits for the version that has it. */
static enum access
unverified(struct access_check *check, const char *address, const char *kind, const char *detail)
{
    if (!address || !*address)
        return ACCESS_DUNNO;
    log_warning("reject_unverified_sender and reject_unverified_recipient are not built yet: mail is deferred");
    access_refuse_text(check, 450, detail,
                       "<%s>: %s rejected: unverified address: this system can't probe addresses yet",
                       addr_quote(check->session->cmd, address), kind);
    return access_defer_if_permit(check);
}

enum access may_wait
restrict_reject_unverified_sender(struct access_check *check, const char *argument)
{
    (void)argument;
    return unverified(check, check->sender, "Sender address", "1.7");
}

enum access may_wait
restrict_reject_unverified_recipient(struct access_check *check, const char *argument)
{
    (void)argument;
    return unverified(check, check->recipient, "Recipient address", "1.1");
}
