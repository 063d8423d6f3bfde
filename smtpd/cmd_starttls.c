/* SPDX-License-Identifier: Apache-2.0 */
/* STARTTLS: RFC 3207. */
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "smtpd/client_limits.h"
#include "smtpd/session.h"
#include "smtpd/starttls.h"

static void
tell_tls(const struct session *s)
{
    struct tls_info tls;

    if (!s->server->set.smtpd_tls_loglevel[0] || s->server->set.smtpd_tls_loglevel[0] == '0')
        return;
    stream_tls_info(s->stream, &tls);
    log_tls(!tls.peer_has_certificate ? "Anonymous"
            : tls.peer_is_trusted     ? "Trusted"
                                      : "Untrusted",
            tls.resumed ? "reused from" : "established from", s->client, &tls);
}

int may_wait
starttls_now(struct session *s, struct err *err)
{
    stream_set_deadline(s->stream, loop_now() + s->server->set.smtpd_starttls_timeout);
    if (stream_start_tls(s->stream, s->server->tls, NULL, err) < 0) {
        log_tls_accept_error(s->client, err->text);
        s->end_reason = "lost connection";
        return -1;
    }
    tell_tls(s);
    return 0;
}

struct smtp_reply may_wait
cmd_starttls(struct session *s, struct slice args)
{
    struct smtp_reply refusal;

    (void)args;
    if (stream_is_tls(s->stream))
        return smtp_reply(s->cmd, 554, "5.5.1", "Error: TLS already active");
    if (s->server->tls_level == TLS_LEVEL_NONE)
        return smtp_reply(s->cmd, 502, "5.5.1", "Error: command not implemented");
    if (!s->server->tls)
        return smtp_reply(s->cmd, 454, "4.7.0", "TLS not available due to local problem");
    if (limits_new_tls(s, &refusal) < 0)
        return refusal;
    session_send(s, smtp_reply(s->cmd, 220, "2.0.0", "Ready to start TLS"));
    if (starttls_now(s, &s->err) < 0)
        return smtp_reply_close(s->cmd, 421, "4.4.2", "%s Error: TLS failed", s->server->set.myhostname);
    session_reset(s);
    s->sasl_method = s->sasl_username = NULL; /* RFC 3207 section 4.2 */
    s->helo = NULL;
    s->protocol = "SMTP";
    return (struct smtp_reply){.code = 0};
}
