/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/client_limits.h"

#include "lib/base/log.h"
#include "lib/run/loop.h"

#define ANVIL_TIME SECONDS(10)

/* Clients are counted by network: smtpd_client_ipv4_prefix_length and its sister. */
static const char *
network_of(struct session *s)
{
    char text[NET_NETWORK_SIZE];

    net_addr_network(&s->addr, (unsigned)s->server->set.smtpd_client_ipv4_prefix_length,
                     (unsigned)s->server->set.smtpd_client_ipv6_prefix_length, text, sizeof text);
    return arena_strdup(s->cmd, text);
}

static struct msg_anvil
make_event(struct session *s, const char *event)
{
    return (struct msg_anvil){.event = event, .service = s->server->service, .client = network_of(s), .amount = 1};
}

static void
tell(struct session *s, const char *event)
{
    struct msg_anvil message = make_event(s, event);

    (void)!link_send(s->server->anvil, &type_anvil, &message, slice_make(NULL, 0), NULL, 0, &s->err);
}

/* False: not known, so nothing is limited. */
static bool may_wait
ask(struct session *s, const char *event, struct msg_anvil_count *count)
{
    struct msg_anvil message = make_event(s, event);
    struct link_message reply;

    if (link_call(s->server->anvil, s->cmd, &type_anvil, &message, slice_make(NULL, 0), NULL, 0, &type_anvil_count,
                  &reply, loop_now() + ANVIL_TIME, &s->err) < 0) {
        log_warning("anvil service: %s", s->err.text);
        return false;
    }
    *count = *(const struct msg_anvil_count *)reply.message;
    return true;
}

static bool may_wait
is_exempt(struct session *s)
{
    bool found = false;

    if (match_list_host(s->server->limits_exempt, slice_from(s->peer.name), &s->addr, &found, &s->err) < 0)
        log_warning("%s", s->err.text);
    return found;
}

int may_wait
limits_connect(struct session *s, struct smtp_reply *refusal)
{
    const struct smtpd_settings *set = &s->server->set;
    int64_t most = set->smtpd_client_connection_count_limit, often = set->smtpd_client_connection_rate_limit;
    struct msg_anvil_count count = {0};

    if (!s->server->anvil || is_exempt(s))
        return 0;
    s->counted = true;
    if (most == 0 && often == 0) {
        tell(s, "connect");
        return 0;
    }
    if (!ask(s, "connect", &count))
        return 0;
    if (most > 0 && count.count > most)
        log_warning("Connection concurrency limit exceeded: %lld from %s for service %s", (long long)count.count,
                    s->client, s->server->service);
    else if (often > 0 && count.rate > often)
        log_warning("Connection rate limit exceeded: %lld from %s for service %s", (long long)count.rate, s->client,
                    s->server->service);
    else
        return 0;
    *refusal = smtp_reply_close(s->cmd, 421, "4.7.0", "%s Error: too many connections from %s", set->myhostname,
                                s->peer.address);
    return -1;
}

void
limits_disconnect(struct session *s)
{
    if (s->counted)
        tell(s, "disconnect");
}

/* true: the limit (0: none) is passed. */
static bool may_wait
is_over(struct session *s, const char *event, int64_t limit, const char *what)
{
    struct msg_anvil_count count;

    if (!s->counted)
        return false;
    if (limit == 0) {
        tell(s, event);
        return false;
    }
    if (!ask(s, event, &count) || count.rate <= limit)
        return false;
    log_warning("%s limit exceeded: %lld from %s for service %s", what, (long long)count.rate, s->client,
                s->server->service);
    return true;
}

int may_wait
limits_message(struct session *s, struct smtp_reply *refusal)
{
    if (!is_over(s, "message", s->server->set.smtpd_client_message_rate_limit, "Message delivery request rate"))
        return 0;
    *refusal = smtp_reply(s->cmd, 450, "4.7.1", "Error: too much mail from %s", s->peer.address);
    return -1;
}

int may_wait
limits_recipient(struct session *s, struct smtp_reply *refusal)
{
    if (!is_over(s, "recipient", s->server->set.smtpd_client_recipient_rate_limit, "Recipient address rate"))
        return 0;
    *refusal = smtp_reply(s->cmd, 450, "4.7.1", "Error: too many recipients from %s", s->peer.address);
    return -1;
}

int may_wait
limits_new_tls(struct session *s, struct smtp_reply *refusal)
{
    if (!is_over(s, "newtls", s->server->set.smtpd_client_new_tls_session_rate_limit, "New TLS session rate"))
        return 0;
    *refusal = smtp_reply_close(s->cmd, 421, "4.7.0", "%s Error: too many new TLS sessions from %s",
                                s->server->set.myhostname, s->peer.address);
    return -1;
}

int may_wait
limits_auth(struct session *s, struct smtp_reply *refusal)
{
    if (!is_over(s, "auth", s->server->set.smtpd_client_auth_rate_limit, "AUTH command rate"))
        return 0;
    *refusal = smtp_reply(s->cmd, 450, "4.7.1", "Error: too many AUTH commands from %s", s->peer.address);
    return -1;
}

bool may_wait
limits_count(struct session *s, const char *event, const char *who, int64_t *rate)
{
    struct msg_anvil message = {.event = event, .service = s->server->service, .client = who, .amount = 1};
    struct link_message reply;

    if (!s->server->anvil)
        return false;
    if (link_call(s->server->anvil, s->cmd, &type_anvil, &message, slice_make(NULL, 0), NULL, 0, &type_anvil_count,
                  &reply, loop_now() + ANVIL_TIME, &s->err) < 0) {
        log_warning("anvil service: %s", s->err.text);
        return false;
    }
    *rate = ((const struct msg_anvil_count *)reply.message)->rate;
    return true;
}
