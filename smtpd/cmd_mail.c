/* SPDX-License-Identifier: Apache-2.0 */
/* MAIL FROM: RFC 5321 section 4.1.1.2, SIZE: RFC 1870. */
#include "lib/base/log.h"
#include "smtpd/client_limits.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

static int
check_size(struct session *s, const struct smtp_mail *mail, struct smtp_reply *refusal)
{
    int64_t limit = s->server->set.message_size_limit;

    if (limit == 0 || mail->size <= limit)
        return 0;
    *refusal = smtp_reply(s->cmd, 552, "5.3.4", "Message size exceeds fixed limit");
    log_info("NOQUEUE: reject: MAIL from %s: %s;%s", s->client, smtp_reply_line(s->cmd, *refusal),
             session_whatsup(s, NULL, NULL));
    return -1;
}

struct smtp_reply may_wait
cmd_mail(struct session *s, struct slice args)
{
    unsigned allow = s->server->set.strict_rfc821_envelopes ? SMTP_STRICT : 0;
    struct smtp_reply refusal;
    struct smtp_mail mail;

    if (!s->helo && s->server->set.smtpd_helo_required)
        return smtp_reply(s->cmd, 503, "5.5.1", "Error: send HELO/EHLO first");
    if (smtp_parse_mail(s->cmd, args, allow, &mail, &refusal) < 0 || limits_message(s, &refusal) < 0 ||
        check_size(s, &mail, &refusal) < 0 || access_check_sender(s, mail.sender, &refusal) < 0)
        return refusal;
    s->transaction = transaction_new(&mail);
    return smtp_reply(s->cmd, 250, "2.1.0", "Ok");
}
