/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/session.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/smtp/client_reply.h"
#include "smtp/features.h"
#include "smtp/pix.h"
#include "smtp/sasl.h"

/* ---- failures ---- */

int
session_lost(struct session *s, struct arena *arena, const char *doing, const struct err *err, struct failure *failure)
{
    s->broken = true;
    if (err->kind == ERR_TIMEOUT)
        failure_set(failure, arena, "4.4.2", "conversation with %s timed out while %s", s->label, doing);
    else if (err->kind == ERR_TEMP)
        failure_set(failure, arena, "4.3.0", "%s (while %s with %s)", err->text, doing, s->label);
    else if (err->kind == ERR_SYNTAX)
        failure_set(failure, arena, "4.5.0", "host %s broke the protocol: %s (while %s)", s->label, err->text, doing);
    else
        failure_set(failure, arena, "4.4.2", "lost connection with %s while %s", s->label, doing);
    failure->is_of_host = true;
    failure->mta_name = arena_strdup(arena, s->name);
    return -1;
}

int
session_refused(struct session *s, struct arena *arena, const struct client_reply *reply, const char *command,
                struct failure *failure)
{
    failure_reply(failure, arena, s->label, reply, command);
    failure->mta_name = arena_strdup(arena, s->name);
    return -1;
}

/* The server does not want to talk to us. Of a host that says 5xx another may think better. */
static int
refused_to_talk(struct session *s, struct arena *arena, const struct client_reply *reply, struct failure *failure)
{
    const char *said = client_reply_joined(reply, arena);
    char *dsn = arena_strdup(arena, reply->dsn);

    if (s->client->set.smtp_skip_5xx_greeting || dsn[0] != '5')
        dsn[0] = '4';
    failure_set(failure, arena, dsn, "host %s refused to talk to me: %s", s->label, said);
    failure->is_of_host = true;
    failure->diag_text = said;
    failure->mta_name = arena_strdup(arena, s->name);
    return -1;
}

int may_wait
session_reply(struct session *s, struct arena *arena, usec_t limit, const char *doing, struct client_reply *reply,
              struct failure *failure)
{
    struct err err;

    stream_set_deadline(s->stream, loop_now() + limit);
    if (client_reply_read(reply, arena, s->stream, s->client->reply_filter, &err) < 0)
        return session_lost(s, arena, doing, &err, failure);
    if (reply->code == 421)
        s->closing = true;
    return 0;
}

static bool
is_success(const struct client_reply *reply)
{
    return reply->code / 100 == 2;
}

/* ---- connecting ---- */

static const struct net_addr *
bind_address(const struct client *client, const struct net_addr *to)
{
    if (to->any.sa_family == AF_INET && client->has_bind4)
        return &client->bind4;
    return to->any.sa_family == AF_INET6 && client->has_bind6 ? &client->bind6 : NULL;
}

static int may_wait
connect_host(const struct client *client, const struct host *host, struct err *err)
{
    usec_t limit = client->set.smtp_connect_timeout;
    usec_t deadline = limit > 0 ? loop_now() + limit : NO_DEADLINE;
    const struct net_addr *from = bind_address(client, &host->addr);
    int fd = net_connect(&host->addr, from, deadline, err);

    if (fd < 0 && from && err->kind == ERR_IO && !client->set.smtp_bind_address_enforce)
        return net_connect(&host->addr, NULL, deadline, err);
    return fd;
}

static int
connect_failed(struct arena *arena, const struct host *host, const struct err *err, struct failure *failure)
{
    char numeric[INET6_ADDRSTRLEN];

    if (host->addr.any.sa_family == AF_UNIX)
        failure_set(failure, arena, "4.4.1", "connect to %s[%s]: %s", "localhost", host->name, err->text);
    else {
        net_addr_format(&host->addr, numeric, sizeof(numeric));
        failure_set(failure, arena, "4.4.1", "connect to %s[%s]:%u: %s", host->name, numeric,
                    net_addr_port(&host->addr), err->text);
    }
    failure->is_of_host = true;
    log_connect_failed(failure->reason);
    return -1;
}

/* Without a connection yet. */
static struct session *
session_new(const struct client *client, const struct host *host)
{
    struct arena *arena = arena_new();
    struct session *s = ARENA_NEW(arena, struct session);
    char numeric[INET6_ADDRSTRLEN];

    *s = (struct session){
        .arena = arena, .client = client, .addr = host->addr, .opened = loop_now(), .auth_offered = ""};
    if (host->addr.any.sa_family == AF_UNIX) {
        s->name = client->set.myhostname;
        s->label = s->relay = arena_printf(arena, "%s[%s]", s->name, host->name);
        return s;
    }
    net_addr_format(&host->addr, numeric, sizeof(numeric));
    s->name = arena_strdup(arena, host->name);
    s->label = arena_printf(arena, "%s[%s]", s->name, numeric);
    s->relay = arena_printf(arena, "%s:%u", s->label, net_addr_port(&host->addr));
    return s;
}

static void
session_free(struct session **session)
{
    struct arena *arena = (*session)->arena;

    if ((*session)->stream)
        stream_free(&(*session)->stream);
    arena_free(&arena);
    *session = NULL;
}

void may_wait
session_close(struct session **session)
{
    struct session *s = *session;

    if (!s)
        return;
    if (!s->broken && !s->closing) {
        stream_set_deadline(s->stream, loop_now() + s->client->set.smtp_quit_timeout);
        stream_write_text(s->stream, "QUIT\r\n");
        struct client_reply reply;
        if (stream_flush(s->stream, NULL) == 0 && !s->client->set.smtp_skip_quit_response &&
            client_reply_read(&reply, s->arena, s->stream, NULL, NULL) < 0)
            s->broken = true; /* nobody cares any more */
    }
    session_free(session);
}

/* ---- hello ---- */

/* Where we may be talking to ourselves: the server calls itself by our name. */
static int
check_not_myself(struct session *s, struct arena *arena, const struct client_reply *reply, const char *next_hop,
                 struct failure *failure)
{
    const char *rest = reply->text;
    struct slice line, name;

    if (s->client->lmtp || net_addr_port(&s->addr) != s->client->port || !client_reply_next_line(&rest, &line) ||
        !slice_word(&line, " ", &name) || !slice_equal_text_fold(name, s->client->set.myhostname))
        return 0;
    log_warning("host %s replied to HELO/EHLO with my own hostname %s", s->label, s->client->set.myhostname);
    failure_set(failure, arena, "5.4.6", "mail for %s loops back to myself", next_hop);
    failure->is_of_host = true;
    return -1;
}

static int may_wait
say_hello(struct session *s, struct arena *arena, const char *verb, const char *doing, struct client_reply *reply,
          struct failure *failure)
{
    stream_printf(s->stream, "%s %s\r\n", verb, s->client->hello_name);
    return session_reply(s, arena, s->client->hello_timeout, doing, reply, failure);
}

/* smtp_discard_ehlo_keyword_address_maps, else smtp_discard_ehlo_keywords. *has_auth: AUTH is not among them. */
static int may_wait
find_ignored(struct session *s, struct arena *arena, unsigned *ignored, bool *has_auth, struct failure *failure)
{
    const struct client *client = s->client;
    const char *list = client->ignored, *value = NULL;
    char address[INET6_ADDRSTRLEN] = "";
    struct err err;

    if (s->addr.any.sa_family != AF_UNIX && !maps_is_empty(client->ignored_maps)) {
        net_addr_format(&s->addr, address, sizeof address);
        if (maps_find(client->ignored_maps, arena, slice_from(address), &value, &err) < 0) {
            log_warning("%s", err.text);
            failure_set(failure, arena, "4.3.0", "what host %s can't be asked to do is not known", s->label);
            failure->is_of_host = true;
            return -1;
        }
    }
    if (value)
        list = value;
    *ignored = features_from_list(slice_from(list));
    *has_auth = !features_list_has(slice_from(list), "AUTH");
    return 0;
}

/* Tells who we are, and learns what the server can. Nothing learnt before stays. */
static int may_wait
hello(struct session *s, struct arena *arena, const char *next_hop, struct failure *failure)
{
    const struct smtp_settings *set = &s->client->set;
    struct client_reply reply = {.code = 0};
    unsigned ignored;
    bool has_auth;

    s->features = 0;
    s->size_limit = 0;
    s->auth_offered = "";
    if (find_ignored(s, arena, &ignored, &has_auth, failure) < 0)
        return -1;
    bool extended = !set->smtp_never_send_ehlo && (set->smtp_always_send_ehlo || s->is_extended);
    if (s->client->lmtp || (extended && !(s->workarounds & PIX_DISABLE_ESMTP))) {
        const char *verb = s->client->lmtp ? "LHLO" : "EHLO";
        if (say_hello(s, arena, verb,
                      s->client->lmtp ? "performing the LHLO handshake" : "performing the EHLO handshake", &reply,
                      failure) < 0)
            return -1;
        if (is_success(&reply)) {
            s->features = features_parse(reply.text, &s->size_limit) & ~ignored;
            if (has_auth)
                s->auth_offered = sasl_offered(s->arena, reply.text);
        } else if (s->closing || s->client->lmtp)
            return refused_to_talk(s, arena, &reply, failure);
    }
    if (!is_success(&reply) && say_hello(s, arena, "HELO", "performing the HELO handshake", &reply, failure) < 0)
        return -1;
    if (!is_success(&reply))
        return refused_to_talk(s, arena, &reply, failure);
    return check_not_myself(s, arena, &reply, next_hop, failure);
}

static bool
has_word(const char *text, const char *wanted)
{
    struct slice rest = slice_from(text), word;

    while (slice_word(&rest, " \t\n", &word))
        if (slice_equal_text_fold(word, wanted))
            return true;
    return false;
}

static int may_wait
greeting(struct session *s, struct arena *arena, const struct session_target *target, struct failure *failure)
{
    struct client_reply reply;
    struct err err;

    if (session_reply(s, arena, s->client->hello_timeout, "receiving the initial server greeting", &reply, failure) < 0)
        return -1;
    if (!is_success(&reply))
        return refused_to_talk(s, arena, &reply, failure);
    s->is_extended = has_word(reply.text, "ESMTP");
    if (pix_find(s, arena, &reply, target, &err) == 0)
        return 0;
    log_warning("%s", err.text);
    failure_set(failure, arena, "4.3.0", "workarounds for host %s can't be determined", s->label);
    return -1;
}

/* ---- TLS ---- */

static void
tell_tls(const struct session *s)
{
    struct tls_info info;

    if (s->client->tls_loglevel < 1)
        return;
    stream_tls_info(s->stream, &info);
    const char *trust = !info.peer_has_certificate           ? "Anonymous"
                        : s->policy.level == TLS_FINGERPRINT ? "Verified"
                        : s->policy.level == TLS_DANE        ? (s->dane.is_of_insecure_mx ? "Trusted" : "Verified")
                        : !info.peer_is_trusted              ? "Untrusted"
                        : s->policy.level >= TLS_VERIFY      ? "Verified"
                                                             : "Trusted";
    log_tls(trust, "established to", s->relay, &info);
}

static int
tls_failed(struct session *s, struct arena *arena, const char *why, struct failure *failure)
{
    s->broken = true;
    failure_set(failure, arena, "4.7.5", "%s", why);
    failure->is_of_host = true;
    failure->mta_name = arena_strdup(arena, s->name);
    return -1;
}

/* Level fingerprint: the certificate, or the key in it, must be one of those that are known. */
static bool
has_known_fingerprint(const struct session *s)
{
    char text[200];

    for (unsigned of_key = 0; of_key < 2; of_key++)
        if (stream_tls_fingerprint(s->stream, s->client->set.smtp_tls_fingerprint_digest, of_key, text, sizeof text) ==
                0 &&
            tls_policy_has_fingerprint(&s->policy, text))
            return true;
    return false;
}

static int may_wait
handshake(struct session *s, struct arena *arena, const struct session_target *target, struct failure *failure)
{
    const struct client *client = s->client;
    const struct tls_policy *policy = &s->policy;
    bool names = policy->level >= TLS_VERIFY, is_dane = policy->level == TLS_DANE;
    const char *const dane_names[] = {target->domain, s->name, NULL};
    struct tls_peer peer = {.server_name = *policy->server_name ? policy->server_name : s->name,
                            .names = names     ? tls_policy_names(policy, arena, s->name, target->domain)
                                     : is_dane ? dane_names
                                               : NULL,
                            .protocols = policy->protocols,
                            .ciphers = policy->ciphers,
                            .dane = is_dane ? &s->dane.records : NULL};
    struct tls_context *context = names ? client->tls_trusted : is_dane ? client->tls_dane : client->tls;
    struct err err;

    if (is_dane) /* RFC 7672, section 3.2.2 */
        peer.server_name = s->dane.records.base;

    stream_set_deadline(s->stream, loop_now() + client->set.smtp_starttls_timeout);
    if (names && !peer.names[0])
        return tls_failed(s, arena, "Server certificate not verified: no name that it may have is configured", failure);
    if (stream_start_tls_peer(s->stream, context, &peer, &err) < 0) {
        log_tls_connect_error(s->relay, err.text);
        tls_failed(s, arena,
                   names || is_dane ? "Server certificate not verified" : "Cannot start TLS: handshake failure",
                   failure);
        failure->without_tls = policy->level == TLS_MAY;
        return -1;
    }
    if (policy->level == TLS_FINGERPRINT && !has_known_fingerprint(s)) {
        log_tls_fingerprint(s->relay);
        return tls_failed(s, arena, "Server certificate not verified", failure);
    }
    tell_tls(s);
    return 0;
}

static int
no_tls(struct session *s, struct arena *arena, struct failure *failure)
{
    failure_set(failure, arena, "4.7.4", "TLS is required, but was not offered by host %s", s->label);
    failure->is_of_host = true;
    failure->mta_name = arena_strdup(arena, s->name);
    return -1;
}

static int may_wait
start_tls(struct session *s, struct arena *arena, const struct session_target *target, struct failure *failure)
{
    struct client_reply reply;

    if (!(s->features & FEATURE_STARTTLS))
        return s->policy.level >= TLS_ENCRYPT ? no_tls(s, arena, failure) : 0;
    stream_write_text(s->stream, "STARTTLS\r\n");
    if (session_reply(s, arena, s->client->set.smtp_starttls_timeout, "receiving the STARTTLS response", &reply,
                      failure) < 0)
        return -1;
    if (!is_success(&reply)) {
        if (s->policy.level == TLS_MAY && !s->closing)
            return 0;
        failure_set(failure, arena, "4.7.5", "TLS is required, but host %s refused to start TLS: %s", s->label,
                    client_reply_joined(&reply, arena));
        failure->is_of_host = true;
        return -1;
    }
    if (handshake(s, arena, target, failure) < 0)
        return -1;
    return hello(s, arena, target->domain, failure);
}

/* ---- the whole ---- */

static int may_wait
find_policy(struct session *s, struct arena *arena, const struct host *host, const struct session_target *target,
            bool without_tls, struct failure *failure)
{
    struct err err;

    if (s->addr.any.sa_family == AF_UNIX || !s->client->tls) {
        s->policy = (struct tls_policy){.level = TLS_NONE};
        return 0;
    }
    if (tls_policy_find(s->client, s->arena, target->next_hop, target->domain, &s->policy, &err) < 0) {
        log_warning("%s", err.text);
        return tls_failed(s, arena, "TLS policy can't be determined", failure);
    }
    if (s->policy.level == TLS_DANE || s->policy.level == TLS_DANE_ONLY) {
        if (dane_find(s->client, arena, host, s->policy.level, &s->dane, failure) < 0)
            return -1;
        tls_policy_become(s->client, s->arena, &s->policy, s->dane.level);
    }
    if (without_tls && s->policy.level == TLS_MAY)
        s->policy.level = TLS_NONE;
    return 0;
}

static int may_wait
introduce(struct session *s, struct arena *arena, const struct session_target *target, struct failure *failure)
{
    bool with_tls = s->policy.level != TLS_NONE;
    bool wrapped = with_tls && s->client->set.smtp_tls_wrappermode;
    if (wrapped && handshake(s, arena, target, failure) < 0)
        return -1;
    if (greeting(s, arena, target, failure) < 0 || hello(s, arena, target->domain, failure) < 0 ||
        (with_tls && !wrapped && start_tls(s, arena, target, failure) < 0))
        return -1;
    if (!with_tls && (s->features & FEATURE_STARTTLS) && s->client->set.smtp_tls_note_starttls_offer)
        log_starttls_offer(s->name);
    return sasl_log_in(s, arena, target->next_hop, target->sender, failure);
}

struct session *may_wait
session_open(const struct client *client, struct arena *arena, const struct host *host,
             const struct session_target *target, bool without_tls, struct failure *failure)
{
    struct session *s = session_new(client, host);
    struct err err;
    int fd;

    if (find_policy(s, arena, host, target, without_tls, failure) < 0) {
        session_free(&s);
        return NULL;
    }
    fd = connect_host(client, host, &err);
    if (fd < 0) {
        connect_failed(arena, host, &err, failure);
        session_free(&s);
        return NULL;
    }
    s->stream = stream_new(fd);
    s->opened = loop_now();
    if (introduce(s, arena, target, failure) < 0) {
        session_close(&s);
        return NULL;
    }
    s->dane.records = (struct tls_dane){0};
    return s;
}
