/* SPDX-License-Identifier: Apache-2.0 */
/* Headers that are added to mail that begins here (RFC 6409 section 8); mail of others is left as it is, unless
 * always_add_missing_headers is set. */
#include <string.h>
#include <time.h>

#include "cleanup/message.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"

static void
add(struct message *m, const char *line)
{
    message_add_piece(m, line, strlen(line));
}

static const char *
prefix(const struct message *m)
{
    return m->headers & HAS_RESENT ? "Resent-" : "";
}

static void
add_message_id(struct message *m)
{
    const char *id = m->envelope->queue_id, *value;
    time_t now = (time_t)(loop_now_wall() / 1000000);
    char stamp[32];
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &tm);
    value = arena_printf(m->arena, "<%s.%s@%s>", stamp, id, server.settings.myhostname);
    add(m, arena_printf(m->arena, "%sMessage-Id: %s\r\n", prefix(m), value));
    log_message_id(id, m->headers & HAS_RESENT ? "resent-" : "", value);
    if (!*m->envelope->message_id)
        m->envelope->message_id = value;
}

static void
add_date(struct message *m)
{
    char text[64];

    clock_format_rfc5322(m->envelope->arrival_sec * 1000000, text, sizeof(text));
    add(m, arena_printf(m->arena, "%sDate: %s\r\n", prefix(m), text));
}

/* RFC 5322 section 3.2.3: an atom or words of atoms need no quotes; but "!" and "%" divide old forms of addresses. */
static bool
is_phrase(const char *text)
{
    for (; *text; text++)
        if (!text_is_alnum(*text) && !strchr("#$&'*+-/=?^_`{|}~ ", *text) && (unsigned char)*text < 128)
            return false;
    return true;
}

static void
put_quoted(struct buf *out, const char *text)
{
    buf_append_byte(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, *text);
    }
    buf_append_byte(out, '"');
}

/* A comment (RFC 5322 section 3.2.2): parentheses in pairs stay. */
static void
put_comment(struct buf *out, const char *text)
{
    unsigned open = 0;

    buf_append_byte(out, '(');
    for (const char *c = text; *c; c++) {
        bool closes = *c == ')' && open > 0, opens = *c == '(' && strchr(c, ')');
        if (*c == '\\' || (*c == '(' && !opens) || (*c == ')' && !closes))
            buf_append_byte(out, '\\');
        open = opens ? open + 1 : closes ? open - 1 : open;
        buf_append_byte(out, *c);
    }
    while (open-- > 0)
        buf_append_byte(out, ')');
    buf_append_byte(out, ')');
}

static void
put_name_and_address(struct buf *out, const char *name, const char *address)
{
    if (strcmp(server.settings.header_from_format, "obsolete") == 0) {
        buf_printf(out, "%s ", address);
        put_comment(out, name);
        return;
    }
    if (is_phrase(name))
        buf_append_text(out, name);
    else
        put_quoted(out, name);
    buf_printf(out, " <%s>", address);
}

static void
add_from(struct message *m)
{
    const struct envelope *e = m->envelope;
    const char *sender = *e->sender ? addr_quote(m->arena, e->sender) : "MAILER-DAEMON";
    struct buf line = {0};

    if (!*e->sender || !strchr(e->sender, '@'))
        sender = arena_printf(m->arena, "%s@%s", sender, server.settings.myorigin);
    buf_printf(&line, "%sFrom: ", prefix(m));
    if (*e->full_name && *e->sender)
        put_name_and_address(&line, e->full_name, sender);
    else
        buf_append_text(&line, sender);
    text_printable(line.ptr, line.len, '?', true);
    buf_append_text(&line, "\r\n");
    add(m, arena_strndup(m->arena, line.ptr, line.len));
    buf_release(&line);
}

void
header_complete(struct message *m)
{
    unsigned has = m->headers;
    bool resent = has & HAS_RESENT;

    if (strcmp(m->envelope->rewrite_context, "remote") != 0 || server.settings.always_add_missing_headers) {
        if (!(has & (resent ? HAS_RESENT_MESSAGE_ID : HAS_MESSAGE_ID)))
            add_message_id(m);
        if (resent && !(has & HAS_MESSAGE_ID))
            log_message_id(m->envelope->queue_id, "", "<>");
        if (!(has & (resent ? HAS_RESENT_DATE : HAS_DATE)))
            add_date(m);
        if (!(has & (resent ? HAS_RESENT_FROM : HAS_FROM)))
            add_from(m);
    } else if (!(has & (resent ? HAS_RESENT_MESSAGE_ID : HAS_MESSAGE_ID))) {
        log_message_id(m->envelope->queue_id, resent ? "resent-" : "", "<>");
    }
    if (*server.settings.undisclosed_recipients_header && !(has & HAS_RECIPIENT) && !resent)
        add(m, arena_printf(m->arena, "%s\r\n", server.settings.undisclosed_recipients_header));
}
