/* SPDX-License-Identifier: Apache-2.0 */
/* RCPT TO: RFC 5321 section 4.1.1.3. */
#include "lib/base/log.h"
#include "smtpd/client_limits.h"
#include "smtpd/login.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

/* Above the limit, but only a little: the client sends the rest later, which is no error of its. */
static struct smtp_reply
too_many(struct session *s, struct transaction *t)
{
    struct smtp_reply reply = smtp_reply(s->cmd, 452, "4.5.3", "Error: too many recipients");

    reply.forgiven = t->overshoot++ < (unsigned)s->server->set.smtpd_recipient_overshoot_limit;
    return reply;
}

static int may_wait
check_rcpt(struct session *s, struct slice args, struct smtp_rcpt *rcpt, struct smtp_reply *refusal)
{
    unsigned allow = (s->server->set.strict_rfc821_envelopes ? SMTP_STRICT : 0U) |
                     (s->server->set.allow_min_user ? SMTP_DASH : 0U) | SMTP_UTF8 | SMTP_DSN;

    if (smtp_parse_rcpt(s->cmd, args, allow, rcpt, refusal) < 0 ||
        mail_check_utf8(s, "recipient", rcpt->address, s->transaction->sendopts & SENDOPT_SMTPUTF8, refusal) < 0 ||
        limits_recipient(s, refusal) < 0 || login_limit_recipient(s, refusal) < 0 ||
        access_check_rcpt(s, rcpt->address, refusal) < 0)
        return -1;
    if (transaction_open(s, s->transaction, &s->err) < 0) {
        log_warning("no queue id: %s", s->err.text);
        *refusal = smtp_reply(s->cmd, 451, "4.3.0", "Error: queue file write error");
        return -1;
    }
    return 0;
}

struct smtp_reply may_wait
cmd_rcpt(struct session *s, struct slice args)
{
    struct transaction *t = s->transaction;
    struct smtp_reply refusal;
    struct smtp_rcpt rcpt;

    if (t->recipient_count >= s->server->set.smtpd_recipient_limit || transaction_is_full(t))
        return too_many(s, t);
    if (check_rcpt(s, args, &rcpt, &refusal) < 0) {
        t->refused++;
        return refusal;
    }
    transaction_add_rcpt(t, &rcpt);
    return smtp_reply(s->cmd, 250, "2.1.5", "Ok");
}
