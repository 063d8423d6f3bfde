/* SPDX-License-Identifier: Apache-2.0 */
/* HELO and EHLO: RFC 5321 section 4.1.1.1. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "smtpd/login.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

/* What is announced, and what this client does not get (smtpd_discard_ehlo_keywords). */
struct announcement {
    struct session *s;
    struct buf text, withheld;
    const char *discarded;
};

static bool
list_has(const char *list, const char *keyword)
{
    struct slice rest = slice_from(list), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, keyword))
            return true;
    return false;
}

/* -1: the table that might withhold something can't be asked. */
static int may_wait
find_discarded(struct session *s, const char **discarded, struct err *err)
{
    const struct maps *maps = s->server->ehlo_discards;
    const char *value = NULL;

    *discarded = s->server->set.smtpd_discard_ehlo_keywords;
    if (maps && !maps_is_empty(maps) && maps_find(maps, s->cmd, slice_from(s->peer.address), &value, err) < 0)
        return -1;
    if (value)
        *discarded = value;
    return 0;
}

static void
announce(struct announcement *a, const char *keyword, const char *arguments)
{
    if (list_has(a->discarded, keyword))
        buf_printf(&a->withheld, " %s", keyword);
    else
        buf_printf(&a->text, "\n%s%s", keyword, arguments);
}

/* Old clients read "AUTH=..." only. */
static void may_wait
announce_login(struct announcement *a)
{
    struct session *s = a->s;
    const char *mechanisms = login_is_offered(s) ? login_mechanisms(s) : "";

    if (!mechanisms[0])
        return;
    announce(a, "AUTH", arena_printf(s->cmd, " %s", mechanisms));
    if (s->server->set.broken_sasl_auth_clients)
        announce(a, "AUTH", arena_printf(s->cmd, "=%s", mechanisms));
}

static const char *may_wait
ehlo_text(struct session *s, const char *discarded)
{
    const struct smtpd_settings *set = &s->server->set;
    struct announcement a = {.s = s, .discarded = discarded};

    buf_append_text(&a.text, set->myhostname);
    announce(&a, "PIPELINING", "");
    announce(&a, "SIZE",
             set->message_size_limit ? arena_printf(s->cmd, " %lld", (long long)set->message_size_limit) : "");
    if (!set->disable_vrfy_command)
        announce(&a, "VRFY", "");
    announce(&a, "ETRN", "");
    if (s->server->tls && !stream_is_tls(s->stream))
        announce(&a, "STARTTLS", "");
    announce_login(&a);
    announce(&a, "ENHANCEDSTATUSCODES", "");
    announce(&a, "8BITMIME", "");
    announce(&a, "DSN", "");
    if (set->smtputf8_enable)
        announce(&a, "SMTPUTF8", "");
    announce(&a, "CHUNKING", "");
    if (xclient_is_allowed(s))
        announce(&a, "XCLIENT", " NAME ADDR PORT PROTO HELO REVERSE_NAME LOGIN DESTADDR DESTPORT");
    if (verp_is_allowed(s))
        announce(&a, "XVERP", "");
    if (xforward_is_allowed(s))
        announce(&a, "XFORWARD", " NAME ADDR PROTO HELO SOURCE PORT IDENT");
    const char *text = arena_strdup(s->cmd, buf_text(&a.text));
    if (a.withheld.len > 0 && !list_has(discarded, "silent-discard"))
        log_ehlo_discarded(buf_text(&a.withheld));
    buf_release(&a.text);
    buf_release(&a.withheld);
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
    const char *discarded;

    if (greet_back(s, args, "ESMTP", &refusal) < 0)
        return refusal;
    if (find_discarded(s, &discarded, &s->err) == 0)
        return smtp_reply(s->cmd, 250, NULL, "%s", ehlo_text(s, discarded));
    log_warning("%s: %s", s->client, s->err.text);
    return smtp_reply_close(s->cmd, 421, "4.3.0", "%s Server local data error", s->server->set.myhostname);
}
