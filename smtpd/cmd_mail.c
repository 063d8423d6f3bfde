/* SPDX-License-Identifier: Apache-2.0 */
/* MAIL FROM: RFC 5321 section 4.1.1.2, SIZE: RFC 1870. */
#include "lib/mail/log_events.h"
#include "lib/mail/verp.h"
#include "smtpd/client_limits.h"
#include "smtpd/login.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"
#include "smtpd/xforward.h"

static int
check_size(struct session *s, const struct smtp_mail *mail, struct smtp_reply *refusal)
{
    int64_t limit = s->server->set.message_size_limit;

    if (limit == 0 || mail->size <= limit)
        return 0;
    *refusal = smtp_reply(s->cmd, 552, "5.3.4", "Message size exceeds fixed limit");
    log_reply("NOQUEUE", "reject", "MAIL", s->client, smtp_reply_line(s->cmd, *refusal),
              session_whatsup(s, NULL, NULL));
    return -1;
}

/* XVERP without a value: with the usual delimiters. */
static int
check_verp(struct session *s, struct smtp_mail *mail, struct smtp_reply *refusal)
{
    const struct smtpd_settings *set = &s->server->set;

    if (!mail->xverp)
        return 0;
    if (!*mail->xverp)
        mail->xverp = set->default_verp_delimiters;
    if (!verp_delimiters_are_good(slice_from(mail->xverp), set->verp_delimiter_filter))
        *refusal =
            smtp_reply(s->cmd, 501, "5.5.4", "Error: XVERP needs two characters from %s", set->verp_delimiter_filter);
    else if (!*mail->sender)
        *refusal = smtp_reply(s->cmd, 503, "5.5.4", "Error: XVERP requires non-null sender");
    else
        return 0;
    return -1;
}

struct smtp_reply may_wait
cmd_mail(struct session *s, struct slice args)
{
    unsigned allow = (s->server->set.strict_rfc821_envelopes ? SMTP_STRICT : 0U) | (s->server->auth ? SMTP_AUTH : 0U) |
                     (s->server->set.allow_min_user ? SMTP_DASH : 0U) | (verp_is_allowed(s) ? SMTP_XVERP : 0U) |
                     SMTP_DSN;
    struct smtp_reply refusal;
    struct smtp_mail mail;

    if (!s->helo && s->server->set.smtpd_helo_required)
        return smtp_reply(s->cmd, 503, "5.5.1", "Error: send HELO/EHLO first");
    if (smtp_parse_mail(s->cmd, args, allow, &mail, &refusal) < 0 || limits_message(s, &refusal) < 0 ||
        login_limit_message(s, &refusal) < 0 || check_size(s, &mail, &refusal) < 0 ||
        check_verp(s, &mail, &refusal) < 0 || access_check_sender(s, mail.sender, &refusal) < 0)
        return refusal;
    s->transaction = transaction_new(s, &mail);
    return smtp_reply(s->cmd, 250, "2.1.0", "Ok");
}
