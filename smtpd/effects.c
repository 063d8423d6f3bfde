/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/effects.h"

#include <string.h>

#include "lib/base/log.h"

void
effects_prepend(struct effects *effects, struct arena *arena, const char *header)
{
    struct effects_line *line, **end = &effects->prepend;

    if (effects->prepend_count >= EFFECTS_LINES) {
        log_warning("more than %d headers to prepend: the rest is left out", EFFECTS_LINES);
        return;
    }
    while (*end)
        end = &(*end)->next;
    line = ARENA_NEW(arena, struct effects_line);
    line->text = arena_strdup(arena, header);
    *end = line;
    effects->prepend_count++;
}

static const char *
copy_text(struct arena *arena, const char *text)
{
    return text ? arena_strdup(arena, text) : NULL;
}

void
effects_copy(struct effects *to, struct arena *arena, const struct effects *from)
{
    *to = (struct effects){.hold = from->hold,
                           .discard = from->discard,
                           .filter = copy_text(arena, from->filter),
                           .redirect = copy_text(arena, from->redirect),
                           .bcc = copy_text(arena, from->bcc)};
    for (const struct effects_line *line = from->prepend; line; line = line->next)
        effects_prepend(to, arena, line->text);
}

void
effects_append_headers(const struct effects *effects, struct buf *out)
{
    for (const struct effects_line *line = effects->prepend; line; line = line->next) {
        for (const char *c = line->text; *c; c++)
            if (*c == '\n')
                buf_append_text(out, "\r\n\t");
            else if (*c != '\r')
                buf_append_byte(out, *c);
        buf_append_text(out, "\r\n");
    }
}

static void
add_bcc(const struct effects *effects, struct arena *arena, struct envelope *envelope)
{
    struct envelope_recipient *all = arena_array(arena, envelope->recipient_count + 1, sizeof *all);

    if (envelope->recipient_count)
        memcpy(all, envelope->recipients, envelope->recipient_count * sizeof *all);
    all[envelope->recipient_count++] = (struct envelope_recipient){
        .address = effects->bcc, .original = effects->bcc, .dsn_original = "", .notify = NOTIFY_NEVER};
    envelope->recipients = all;
}

void
effects_apply(const struct effects *effects, struct arena *arena, struct envelope *envelope)
{
    if (effects->hold)
        envelope->submit_flags |= SUBMIT_HOLD;
    if (effects->discard)
        envelope->submit_flags |= SUBMIT_DISCARD;
    if (effects->filter)
        envelope->content_filter = effects->filter;
    if (effects->redirect)
        envelope->redirect = effects->redirect;
    if (effects->bcc)
        add_bcc(effects, arena, envelope);
}
