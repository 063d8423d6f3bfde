/* SPDX-License-Identifier: Apache-2.0 */
/* What a session says of itself in the log; the form is known to many programs that read logs. */
#include "smtpd/session.h"

#include "lib/mail/log_events.h"
#include "lib/mail/log_form.h"

void
session_log_connect(struct session *s)
{
    log_connect(s->client);
}

static void
append_count(struct buf *line, const char *name, struct command_count count)
{
    if (count.all == 0)
        return;
    buf_printf(line, " %s=%u", name, count.ok);
    if (count.ok != count.all)
        buf_printf(line, "/%u", count.all);
}

void
session_log_end(struct session *s)
{
    struct command_count sum = {0};
    struct buf line = {0};

    if (s->end_reason)
        log_ended_early(s->end_reason, s->where, s->client);
    for (unsigned i = 0; i <= COMMAND_COUNT; i++) {
        append_count(&line, i < COMMAND_COUNT ? commands[i].counter : "unknown", s->counts[i]);
        sum.ok += s->counts[i].ok;
        sum.all += s->counts[i].all;
    }
    buf_printf(&line, " commands=%u", sum.ok);
    if (sum.ok != sum.all)
        buf_printf(&line, "/%u", sum.all);
    log_disconnect(s->client, buf_text(&line));
    buf_release(&line);
}

const char *
session_queue_id(const struct session *s)
{
    return s->transaction && s->transaction->queue_id[0] ? s->transaction->queue_id : "NOQUEUE";
}

const char *
session_whatsup(struct session *s, const char *sender, const char *recipient)
{
    struct buf text = {0};

    if (!sender && s->transaction)
        sender = s->transaction->sender;
    if (sender)
        buf_printf(&text, " from=<%s>", log_form_address(s->cmd, sender));
    if (recipient)
        buf_printf(&text, " to=<%s>", log_form_address(s->cmd, recipient));
    buf_printf(&text, " proto=%s", s->protocol);
    if (s->helo)
        buf_printf(&text, " helo=<%s>", s->helo);
    const char *result = arena_strdup(s->cmd, buf_text(&text));
    buf_release(&text);
    return result;
}
