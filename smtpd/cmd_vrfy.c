/* SPDX-License-Identifier: Apache-2.0 */
/* VRFY: RFC 5321 section 4.1.1.6. Says no more than RCPT would. */
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "smtpd/client_limits.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

/* "address SMTPUTF8": RFC 6531 section 3.7.4.2. */
static bool
cut_smtputf8(struct slice *args)
{
    static const char word[] = " SMTPUTF8";
    size_t len = sizeof word - 1;

    if (args->len <= len || !slice_equal_text_fold(slice_make(args->ptr + args->len - len, len), word))
        return false;
    *args = slice_trim(slice_make(args->ptr, args->len - len));
    return true;
}

struct smtp_reply may_wait
cmd_vrfy(struct session *s, struct slice args)
{
    bool strict = s->server->set.strict_rfc821_envelopes;
    struct smtp_reply refusal;
    const char *address;
    struct slice rest;

    if (s->server->set.disable_vrfy_command)
        return smtp_reply(s->cmd, 502, "5.5.1", "VRFY command is disabled");
    if (!s->helo && s->server->set.smtpd_helo_required)
        return smtp_reply(s->cmd, 503, "5.5.1", "Error: send HELO/EHLO first");
    bool declared = s->server->set.smtputf8_enable && cut_smtputf8(&args);
    if (args.len == 0)
        return smtp_reply(s->cmd, 501, "5.5.4", "Syntax: VRFY address%s",
                          s->server->set.smtputf8_enable ? " [SMTPUTF8]" : "");
    if (addr_parse_path(s->cmd, args, strict && args.ptr[0] == '<', true, &address, &rest, &s->err) < 0 ||
        !address[0] || rest.len > 0)
        return smtp_reply(s->cmd, 501, "5.1.3", "Bad recipient address syntax");
    if (mail_check_utf8(s, "recipient", address, declared, &refusal) < 0 || limits_recipient(s, &refusal) < 0 ||
        access_check_rcpt(s, address, &refusal) < 0)
        return refusal;
    return smtp_reply(s->cmd, 252, "2.0.0", "%.*s", SLICE_ARG(args));
}
