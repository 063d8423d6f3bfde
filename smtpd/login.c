/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/login.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "smtpd/client_limits.h"

#define MECHANISMS_TIME SECONDS(10)

bool
login_is_offered(struct session *s)
{
    const struct smtpd_settings *set = &s->server->set;
    bool excepted = false;

    if (!s->server->auth || (set->smtpd_tls_auth_only && !stream_is_tls(s->stream)))
        return false;
    if (match_list_host(s->server->auth_exceptions, slice_from(s->peer.name), &s->addr, &excepted, &s->err) < 0) {
        log_warning("smtpd_sasl_exceptions_networks: %s", s->err.text);
        return true;
    }
    return !excepted;
}

/* ---- which mechanisms ---- */

static bool
has_option(const char *options, const char *word)
{
    struct slice rest = slice_from(options), item;

    while (slice_word(&rest, ", \t\r\n", &item))
        if (slice_equal_text_fold(item, word))
            return true;
    return false;
}

static bool
is_allowed(struct session *s, const struct auth_mechanism *mechanism, const struct tls_info *tls)
{
    const struct smtpd_settings *set = &s->server->set;
    bool is_tls = stream_is_tls(s->stream), listed = true;
    const char *options = is_tls ? set->smtpd_sasl_tls_security_options : set->smtpd_sasl_security_options;
    static const struct {
        const char *option;
        unsigned flag;
        bool wanted; /* the option demands the property */
    } rules[] = {{"noplaintext", AUTH_MECH_PLAINTEXT, false},          {"noanonymous", AUTH_MECH_ANONYMOUS, false},
                 {"nodictionary", AUTH_MECH_DICTIONARY, false},        {"noactive", AUTH_MECH_ACTIVE, false},
                 {"forward_secrecy", AUTH_MECH_FORWARD_SECRECY, true}, {"mutual_auth", AUTH_MECH_MUTUAL, true}};

    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (has_option(options, rules[i].option) && ((mechanism->flags & rules[i].flag) != 0) != rules[i].wanted)
            return false;
    if ((mechanism->flags & AUTH_MECH_PRIVATE) || ((mechanism->flags & AUTH_MECH_NEEDS_BINDING) && !is_tls))
        return false;
    if (strcmp(mechanism->name, "EXTERNAL") == 0 && !tls->peer_is_trusted)
        return false;
    if (match_list_text(s->server->auth_filter, slice_from(mechanism->name), &listed, &s->err) < 0) {
        log_warning("smtpd_sasl_mechanism_filter: %s", s->err.text);
        return false;
    }
    return listed;
}

const char *may_wait
login_mechanisms(struct session *s)
{
    const struct auth_mechanism *all;
    struct tls_info tls = {0};
    struct buf out = {0};
    unsigned count;

    if (auth_client_mechanisms(s->server->auth, s->cmd, loop_now() + MECHANISMS_TIME, &all, &count, &s->err) < 0) {
        log_warning("%s", s->err.text);
        return "";
    }
    if (stream_is_tls(s->stream))
        stream_tls_info(s->stream, &tls);
    for (unsigned i = 0; i < count; i++)
        if (is_allowed(s, &all[i], &tls))
            buf_printf(&out, "%s%s", out.len ? " " : "", all[i].name);
    const char *text = arena_strdup(s->cmd, buf_text(&out));
    buf_release(&out);
    return text;
}

const char *
login_log_text(struct session *s)
{
    const char *sender = s->transaction ? s->transaction->sasl_sender : "";

    if (!s->sasl_method)
        return "";
    return arena_printf(s->cmd, ", sasl_method=%s, sasl_username=%s%s%s", s->sasl_method, s->sasl_username,
                        sender[0] ? ", sasl_sender=" : "", sender);
}

/* ---- limits ---- */

/* More than the limit in a time unit: whoever uses this login may not be its owner. */
static int may_wait
limit(struct session *s, const char *event, int64_t most, const char *what, struct smtp_reply *refusal)
{
    int64_t rate;

    if (!s->sasl_username || most <= 0)
        return 0;
    if (!limits_count(s, event, arena_printf(s->cmd, "login:%s", s->sasl_username), &rate) || rate <= most)
        return 0;
    log_warning("%s rate limit exceeded: %lld from login %s, client %s, for service %s", what, (long long)rate,
                s->sasl_username, s->client, s->server->service);
    if (strcmp(s->server->set.smtpd_login_limit_action, "hold") == 0) {
        s->hold_mail = true;
        if (s->transaction)
            s->transaction->effects.hold = true;
        return 0;
    }
    *refusal = smtp_reply(s->cmd, 450, "4.7.1", "Error: too much mail from login %s", s->sasl_username);
    return -1;
}

int may_wait
login_limit_message(struct session *s, struct smtp_reply *refusal)
{
    return limit(s, "message", s->server->set.smtpd_login_message_rate_limit, "Login message", refusal);
}

int may_wait
login_limit_recipient(struct session *s, struct smtp_reply *refusal)
{
    return limit(s, "recipient", s->server->set.smtpd_login_recipient_rate_limit, "Login recipient", refusal);
}
