/* SPDX-License-Identifier: Apache-2.0 */
/* MAIL FROM: RFC 5321 section 4.1.1.2, SIZE: RFC 1870, SMTPUTF8: RFC 6531. */
#include <sys/statfs.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"
#include "lib/mail/verp.h"
#include "smtpd/client_limits.h"
#include "smtpd/login.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"
#include "smtpd/xforward.h"

/* Filters before the queue can't be asked yet, and nothing passes unfiltered. */
static int
check_filter(struct session *s, struct smtp_reply *refusal)
{
    const char *filter = s->server->set.smtpd_proxy_filter;

    if (!*filter)
        return 0;
    log_warning("%s: MAIL is refused: smtpd_proxy_filter = %s, and there are no content filters before the queue yet",
                s->client, filter);
    *refusal = smtp_reply(s->cmd, 451, "4.3.0", "Error: content filter is not available");
    return -1;
}

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

/* Is there room for queue_minfree, and for half as much again as the largest message? */
static int
check_space(struct session *s, struct smtp_reply *refusal)
{
    const struct smtpd_settings *set = &s->server->set;
    struct statfs fs;

    if (s->server->queue_fd < 0 || fstatfs(s->server->queue_fd, &fs) < 0)
        return 0;
    int64_t available = (int64_t)fs.f_bavail * (int64_t)fs.f_bsize;
    int64_t needed = set->message_size_limit + set->message_size_limit / 2;
    if (available >= set->queue_minfree && available >= needed)
        return 0;
    *refusal = smtp_reply(s->cmd, 452, "4.3.1", "Insufficient system storage");
    log_warning("not enough free space in mail queue: %lld bytes < %s", (long long)available,
                available < set->queue_minfree ? "queue_minfree" : "1.5*message size limit");
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

int
mail_check_utf8(struct session *s, const char *what, const char *address, bool declared, struct smtp_reply *refusal)
{
    const struct smtpd_settings *set = &s->server->set;

    struct slice local, domain;

    addr_split(address, &local, &domain);
    if (!declared && text_has_8bit(domain)) {
        *refusal = *what == 's' ? smtp_reply(s->cmd, 501, "5.1.7", "Bad sender address syntax")
                                : smtp_reply(s->cmd, 501, "5.1.3", "Bad recipient address syntax");
        return -1;
    }
    if (!text_has_8bit(local))
        return 0;
    if (set->smtputf8_enable && set->strict_smtputf8 && !declared) {
        *refusal = smtp_reply(s->cmd, 553, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
        return -1;
    }
    if (!set->smtputf8_enable && access_by_old_default(s, "smtputf8_enable"))
        log_old_smtputf8(what, address, s->client);
    return 0;
}

struct smtp_reply may_wait
cmd_mail(struct session *s, struct slice args)
{
    unsigned allow = (s->server->set.strict_rfc821_envelopes ? SMTP_STRICT : 0U) | (s->server->auth ? SMTP_AUTH : 0U) |
                     (s->server->set.allow_min_user ? SMTP_DASH : 0U) | (verp_is_allowed(s) ? SMTP_XVERP : 0U) |
                     (s->server->set.smtputf8_enable ? SMTP_SMTPUTF8 : 0U) | SMTP_UTF8 | SMTP_DSN;
    struct smtp_reply refusal;
    struct smtp_mail mail;

    if (!s->helo && s->server->set.smtpd_helo_required)
        return smtp_reply(s->cmd, 503, "5.5.1", "Error: send HELO/EHLO first");
    if (check_filter(s, &refusal) < 0 || smtp_parse_mail(s->cmd, args, allow, &mail, &refusal) < 0 ||
        mail_check_utf8(s, "sender", mail.sender, mail.smtputf8, &refusal) < 0 || limits_message(s, &refusal) < 0 ||
        login_limit_message(s, &refusal) < 0 || check_size(s, &mail, &refusal) < 0 || check_space(s, &refusal) < 0 ||
        check_verp(s, &mail, &refusal) < 0 || access_check_sender(s, mail.sender, &refusal) < 0)
        return refusal;
    s->transaction = transaction_new(s, &mail);
    return smtp_reply(s->cmd, 250, "2.1.0", "Ok");
}
