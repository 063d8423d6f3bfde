/* SPDX-License-Identifier: Apache-2.0 */
/* Restrictions that look something up in an access table. */
#include <string.h>

#include "lib/mail/addr.h"
#include "smtpd/access_map.h"

static struct access_query
make_query(struct access_check *check, const char *table, const char *subject, const char *kind)
{
    return (struct access_query){.check = check, .table = table, .subject = subject, .kind = kind};
}

/* A host by its name, be it "unknown", and by its address. */
static enum access may_wait
check_host(const struct access_query *query, const char *name)
{
    bool found = false;
    enum access result = access_map_domain(query, name, &found);

    return found ? result : access_map_host_address(query, query->check->session->peer.address, &found);
}

enum access may_wait
restrict_check_client_access(struct access_check *check, const char *argument)
{
    struct session *s = check->session;
    struct access_query query = make_query(check, argument, s->client, "Client host");

    return check_host(&query, s->peer.name);
}

enum access may_wait
restrict_check_reverse_client_hostname_access(struct access_check *check, const char *argument)
{
    struct session *s = check->session;
    struct access_query query =
        make_query(check, argument, arena_printf(s->cmd, "%s[%s]", s->peer.reverse_name, s->peer.address),
                   "Unverified Client host");

    return access_map_no_permit(&query, check_host(&query, s->peer.reverse_name));
}

enum access may_wait
restrict_check_helo_access(struct access_check *check, const char *argument)
{
    struct access_query query = make_query(check, argument, check->helo, "Helo command");
    bool found;

    return check->helo ? access_map_domain(&query, check->helo, &found) : ACCESS_DUNNO;
}

enum access may_wait
restrict_check_etrn_access(struct access_check *check, const char *argument)
{
    struct access_query query = make_query(check, argument, check->etrn, "Etrn command");
    bool found;

    return check->etrn ? access_map_domain(&query, check->etrn, &found) : ACCESS_DUNNO;
}

static enum access may_wait
check_address(struct access_check *check, const char *table, const char *address, const char *kind)
{
    struct session *s = check->session;
    bool found;

    if (!address)
        return ACCESS_DUNNO;
    struct access_query query = make_query(check, table, addr_quote(s->cmd, address), kind);
    if (!address[0])
        return access_map_text(&query, s->server->set.smtpd_null_access_lookup_key, &found);
    return access_map_mail_address(&query, address, &found);
}

enum access may_wait
restrict_check_sender_access(struct access_check *check, const char *argument)
{
    return check_address(check, argument, check->sender, "Sender address");
}

enum access may_wait
restrict_check_recipient_access(struct access_check *check, const char *argument)
{
    return check_address(check, argument, check->recipient, "Recipient address");
}

/* ---- of those who have shown who they are ---- */

enum access may_wait
restrict_check_sasl_access(struct access_check *check, const char *argument)
{
    const char *user = check->session->sasl_username;
    struct access_query query = make_query(check, argument, user, "SASL login name");
    bool found;

    return user ? access_map_text(&query, user, &found) : ACCESS_DUNNO;
}

/* Fingerprints of the certificate, and of the key in it. */
enum access may_wait
restrict_check_ccert_access(struct access_check *check, const char *argument)
{
    struct session *s = check->session;
    struct access_query query = make_query(check, argument, s->client, "Client certificate");
    enum access result = ACCESS_DUNNO;
    bool found = false;

    if (!stream_is_tls(s->stream))
        return ACCESS_DUNNO;
    for (unsigned of_key = 0; of_key < 2 && !found; of_key++) {
        const char *print = session_fingerprint(s, of_key);
        if (print[0])
            result = access_map_text(&query, print, &found);
    }
    return found ? result : ACCESS_DUNNO;
}
