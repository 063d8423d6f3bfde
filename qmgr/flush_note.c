/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/flush_note.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/mail/messages.h"
#include "lib/run/link.h"
#include "lib/service/service.h"
#include "qmgr/active.h"

static struct link *flush;

/* Its domain in lower case. NULL: there is none that could be asked for. */
static const char *
domain_of(struct arena *arena, const char *address)
{
    const char *at = strrchr(address, '@');
    char *domain;

    if (!at || !at[1] || strlen(at + 1) > 255)
        return NULL;
    domain = arena_strdup(arena, at + 1);
    text_lower_all(domain, strlen(domain));
    return domain;
}

/* Each domain once. */
static void
collect(struct arena *arena, const struct message *message, struct msg_flush_note *note)
{
    static char something;
    size_t most = message->envelope->recipient_count;
    struct map *seen = map_new();

    if (most > type_flush_note.item_max)
        most = type_flush_note.item_max;
    note->domains = arena_array(arena, most, sizeof *note->domains);
    for (size_t i = 0; i < message->envelope->recipient_count && note->domain_count < most; i++) {
        const char *domain = NULL;

        if (message->recipients[i].state == RECIPIENT_DEFERRED)
            domain = domain_of(arena, message->envelope->recipients[i].address);
        if (!domain || map_get_text(seen, domain))
            continue;
        map_put_text(seen, domain, &something);
        note->domains[note->domain_count++].domain = domain;
    }
    map_free(&seen, NULL);
}

static void
send_note(const struct message *message)
{
    struct arena *arena = arena_new();
    struct msg_flush_note note = {.queue_id = message->id};
    struct err err;

    collect(arena, message, &note);
    if (note.domain_count > 0 && link_send(flush, &type_flush_note, &note, slice_make(NULL, 0), NULL, 0, &err) < 0)
        log_debug("%s: %s", message->id, err.text);
    arena_free(&arena);
}

void
flush_note(const struct message *message)
{
    const struct qmgr_settings *settings = active_settings();

    if (!*settings->fast_flush_domains)
        return;
    if (!flush)
        flush =
            link_connect(service_socket_path(arena_printf(service_arena(), "public/%s", settings->flush_service_name)),
                         NULL, 0, NULL, NULL);
    if (!link_is_full(flush))
        send_note(message);
}
