/* SPDX-License-Identifier: Apache-2.0 */
/* HELO and EHLO: RFC 5321 section 4.1.1.1. */
#include <string.h>

#include "smtpd/login.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

static bool
is_discarded(const struct session *s, const char *keyword)
{
    struct slice rest = slice_from(s->server->set.smtpd_discard_ehlo_keywords), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, keyword))
            return true;
    return false;
}

static void
announce(const struct session *s, struct buf *out, const char *keyword, const char *arguments)
{
    if (!is_discarded(s, keyword))
        buf_printf(out, "\n%s%s", keyword, arguments);
}

/* Old clients read "AUTH=..." only. */
static void may_wait
announce_login(struct session *s, struct buf *out)
{
    const char *mechanisms = login_is_offered(s) ? login_mechanisms(s) : "";

    if (!mechanisms[0])
        return;
    announce(s, out, "AUTH", arena_printf(s->cmd, " %s", mechanisms));
    if (s->server->set.broken_sasl_auth_clients)
        announce(s, out, "AUTH", arena_printf(s->cmd, "=%s", mechanisms));
}

static const char *may_wait
ehlo_text(struct session *s)
{
    const struct smtpd_settings *set = &s->server->set;
    struct buf out = {0};

    buf_append_text(&out, set->myhostname);
    announce(s, &out, "PIPELINING", "");
    announce(s, &out, "SIZE",
             set->message_size_limit ? arena_printf(s->cmd, " %lld", (long long)set->message_size_limit) : "");
    if (!set->disable_vrfy_command)
        announce(s, &out, "VRFY", "");
    announce(s, &out, "ETRN", "");
    if (s->server->tls && !stream_is_tls(s->stream))
        announce(s, &out, "STARTTLS", "");
    announce_login(s, &out);
    announce(s, &out, "ENHANCEDSTATUSCODES", "");
    announce(s, &out, "8BITMIME", "");
    announce(s, &out, "DSN", "");
    if (set->smtputf8_enable)
        announce(s, &out, "SMTPUTF8", "");
    announce(s, &out, "CHUNKING", "");
    if (xclient_is_allowed(s))
        announce(s, &out, "XCLIENT", " NAME ADDR PORT PROTO HELO REVERSE_NAME LOGIN DESTADDR DESTPORT");
    if (verp_is_allowed(s))
        announce(s, &out, "XVERP", "");
    if (xforward_is_allowed(s))
        announce(s, &out, "XFORWARD", " NAME ADDR PROTO HELO SOURCE PORT IDENT");
    const char *text = arena_strdup(s->cmd, buf_text(&out));
    buf_release(&out);
    return text;
}

/* Checks the name and takes it. -1: *refusal. */
static int may_wait
greet_back(struct session *s, struct slice args, const char *protocol, struct smtp_reply *refusal)
{
    if (args.len == 0) {
        *refusal = smtp_reply(s->cmd, 501, NULL, "Syntax: %s hostname", s->where);
        return -1;
    }
    if (args.len >= SESSION_HELO_SIZE) {
        *refusal = smtp_reply(s->cmd, 501, "5.5.4", "Error: hostname too long");
        return -1;
    }
    char *name = arena_strndup(s->cmd, args.ptr, args.len);
    smtp_printable(name, args.len);
    session_reset(s);
    if (access_check_helo(s, name, refusal) < 0)
        return -1;
    memcpy(s->helo_name, name, args.len + 1);
    s->helo = s->helo_name;
    s->protocol = protocol;
    return 0;
}

struct smtp_reply may_wait
cmd_helo(struct session *s, struct slice args)
{
    struct smtp_reply refusal;

    if (greet_back(s, args, "SMTP", &refusal) < 0)
        return refusal;
    return smtp_reply(s->cmd, 250, NULL, "%s", s->server->set.myhostname);
}

struct smtp_reply may_wait
cmd_ehlo(struct session *s, struct slice args)
{
    struct smtp_reply refusal;

    if (greet_back(s, args, "ESMTP", &refusal) < 0)
        return refusal;
    return smtp_reply(s->cmd, 250, NULL, "%s", ehlo_text(s));
}
