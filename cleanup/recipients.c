/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cleanup/message.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "lib/base/text.h"

/* Two recipients are the same if all that is known of them is, but for case. */
static bool
is_duplicate(struct map *seen, const struct envelope_recipient *r)
{
    struct buf key = {0};
    bool found;

    buf_printf(&key, "%s\n%d\n%s\n%s", r->dsn_original, (int)r->notify, r->original, r->address);
    text_lower_all(key.ptr, key.len);
    found = map_get(seen, buf_slice(&key)) != NULL;
    if (!found && (server.settings.duplicate_filter_limit == 0 ||
                   map_count(seen) < (size_t)server.settings.duplicate_filter_limit))
        map_put(seen, buf_slice(&key), seen);
    buf_release(&key);
    return found;
}

static void
remove_duplicates(struct envelope *e)
{
    struct map *seen;
    size_t kept = 0;

    if (e->recipient_count < 2)
        return;
    seen = map_new();
    for (size_t i = 0; i < e->recipient_count; i++)
        if (!is_duplicate(seen, &e->recipients[i]))
            e->recipients[kept++] = e->recipients[i];
    e->recipient_count = kept;
    map_free(&seen, NULL);
}

/* Who says nothing of the original recipient means the one that was given (RFC 3461 section 4.2). */
static void
fill_in(struct message *m, struct envelope_recipient *r)
{
    bool utf8 = (m->envelope->sendopts & SENDOPT_SMTPUTF8) && text_has_8bit(slice_from(r->original));

    if (!*r->address)
        r->address = server.settings.empty_address_recipient;
    if (!*r->original)
        r->original = r->address;
    if (!*r->dsn_original)
        r->dsn_original = arena_printf(m->arena, "%s;%s", utf8 ? "utf-8" : "rfc822", r->original);
}

void
recipients_clean(struct message *m)
{
    struct envelope *e = m->envelope;

    for (size_t i = 0; i < e->recipient_count; i++)
        fill_in(m, &e->recipients[i]);
    remove_duplicates(e);
}
