/* SPDX-License-Identifier: Apache-2.0 */
/* The envelope's addresses: canonical form and tables, virtual aliases, copies, duplicates. */
#include <string.h>

#include "cleanup/message.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/mail/addr_form.h"
#include "lib/mail/queue_file.h"

/* Recipients as they are to be, in the making. */
struct gathering {
    struct message *m;
    struct envelope_recipient *list;
    size_t count, room;
    struct map *seen; /* NULL: there can be no duplicates */
};

static bool
maps_addresses(const struct message *m)
{
    return !(m->envelope->submit_flags & SUBMIT_NO_ADDRESS_MAPPINGS);
}

/* Copies go out for new mail only. */
static bool
makes_copies(const struct message *m)
{
    return maps_addresses(m) && !(m->envelope->submit_flags & SUBMIT_INTERNAL);
}

/* Tells why an address could not be dealt with. */
static int
not_mapped(struct message *m, const char *address, const struct err *err)
{
    const char *id = m->envelope->queue_id;
    struct slice rest = slice_from(err->text), parameter;

    if (err->kind == ERR_PERM) {
        log_warning("%s: %s -- message not accepted, try again later", id, err->text);
        return message_refuse(m, 451, "4.6.0", "Alias expansion error");
    }
    log_warning("%s", err->text);
    slice_cut(&rest, ':', &parameter);
    log_warning("%s: %.*s map lookup problem for %s -- message not accepted, try again later", id, SLICE_ARG(parameter),
                address);
    return message_refuse(m, 451, "4.3.0", "Error: look-up failed");
}

int may_wait
message_map_address(struct message *m, const char *address, enum addr_role role, const char **result)
{
    const char *warned = NULL;
    struct err err;

    *result = address;
    if (!maps_addresses(m))
        return 0;
    if (addr_rewriter_map(m->arena, server.rewriter, address, role, result, &warned, &err) < 0)
        return not_mapped(m, address, &err);
    if (warned)
        log_warning("%s: %s", m->envelope->queue_id, warned);
    return 0;
}

/* What tables make of addresses may be too long for a queue file, which every message may become. */
static int
check_length(struct message *m, const char *address)
{
    if (strlen(address) <= QUEUE_ADDRESS_LIMIT)
        return 0;
    log_warning("%s: address too long -- message not accepted: %.100s...", m->envelope->queue_id, address);
    return message_refuse(m, 501, "5.1.3", "Error: address too long");
}

static int may_wait
clean_address(struct message *m, const char **address, enum addr_role role)
{
    if (**address)
        *address = address_canonical(m->arena, addr_rewriter_rules(server.rewriter)->form, *address, true);
    return message_map_address(m, *address, role, address) < 0 ? -1 : check_length(m, *address);
}

/* ---- duplicates ---- */

/* Two recipients are the same if all that is known of them is, but for case. */
static bool
is_duplicate(struct gathering *g, const struct envelope_recipient *r)
{
    struct buf key = {0};
    bool found;

    if (server.settings.enable_original_recipient)
        buf_printf(&key, "%s\n%d\n%s\n%s", r->dsn_original, (int)r->notify, r->original, r->address);
    else
        buf_append_text(&key, r->address);
    text_lower_all(key.ptr, key.len);
    found = map_get(g->seen, buf_slice(&key)) != NULL;
    if (!found && (server.settings.duplicate_filter_limit == 0 ||
                   map_count(g->seen) < (size_t)server.settings.duplicate_filter_limit))
        map_put(g->seen, buf_slice(&key), g->seen);
    buf_release(&key);
    return found;
}

static void
put(struct gathering *g, const struct envelope_recipient *r)
{
    if (g->seen && is_duplicate(g, r))
        return;
    if (g->count == g->room) {
        g->room = g->room ? g->room * 2 : 16;
        struct envelope_recipient *larger = arena_array(g->m->arena, g->room, sizeof *larger);
        if (g->count)
            memcpy(larger, g->list, g->count * sizeof *larger);
        g->list = larger;
    }
    g->list[g->count++] = *r;
}

/* ---- one recipient ---- */

/* Who says nothing of the original recipient means the one that was given (RFC 3461 section 4.2). */
static void
fill_in(struct message *m, struct envelope_recipient *r)
{
    bool keeps = server.settings.enable_original_recipient;

    if (!*r->address)
        r->address = server.settings.empty_address_recipient;
    if (!*r->original)
        r->original = r->address;
    if (!*r->dsn_original && keeps) {
        bool utf8 = (m->envelope->sendopts & SENDOPT_SMTPUTF8) && text_has_8bit(slice_from(r->original));
        r->dsn_original = arena_printf(m->arena, "%s;%s", utf8 ? "utf-8" : "rfc822", r->original);
    }
    if (!keeps)
        r->original = "";
}

static int may_wait
expand(struct gathering *g, struct envelope_recipient r)
{
    const char *const *results;
    unsigned count;
    struct err err;

    if (!maps_addresses(g->m) || !addr_rewriter_has_aliases(server.rewriter)) {
        put(g, &r);
        return 0;
    }
    if (addr_rewriter_expand(g->m->arena, server.rewriter, r.address, &results, &count, &err) < 0)
        return not_mapped(g->m, r.address, &err);
    for (unsigned i = 0; i < count; i++) {
        r.address = results[i];
        if (check_length(g->m, r.address) < 0)
            return -1;
        put(g, &r);
    }
    return 0;
}

/* Nobody is told when a copy can't be delivered. */
static int may_wait
add_copy(struct gathering *g, const char *address)
{
    struct envelope_recipient r = {.address = address, .original = "", .dsn_original = "", .notify = NOTIFY_NEVER};

    fill_in(g->m, &r);
    r.dsn_original = "";
    if (clean_address(g->m, &r.address, ADDR_ENVELOPE_RECIPIENT) < 0)
        return -1;
    return expand(g, r);
}

static int may_wait
add_copy_for(struct gathering *g, const char *address, enum addr_role role)
{
    const char *copy_to;
    struct err err;

    if (!makes_copies(g->m))
        return 0;
    if (addr_rewriter_bcc(g->m->arena, server.rewriter, address, role, &copy_to, &err) < 0)
        return not_mapped(g->m, address, &err);
    return copy_to ? add_copy(g, copy_to) : 0;
}

static int may_wait
add_recipient(struct gathering *g, struct envelope_recipient r)
{
    fill_in(g->m, &r);
    if (clean_address(g->m, &r.address, ADDR_ENVELOPE_RECIPIENT) < 0 || expand(g, r) < 0)
        return -1;
    g->m->last_recipient = r.address;
    return add_copy_for(g, r.address, ADDR_ENVELOPE_RECIPIENT);
}

/* ---- all ---- */

static int may_wait
gather(struct gathering *g)
{
    struct envelope *e = g->m->envelope;

    for (size_t i = 0; i < e->recipient_count; i++)
        if (add_recipient(g, e->recipients[i]) < 0)
            return -1;
    if (add_copy_for(g, e->sender, ADDR_ENVELOPE_SENDER) < 0)
        return -1;
    return makes_copies(g->m) && *server.settings.always_bcc ? add_copy(g, server.settings.always_bcc) : 0;
}

int may_wait
addresses_clean(struct message *m)
{
    struct envelope *e = m->envelope;
    struct gathering g = {.m = m};
    int result;

    if (clean_address(m, &e->sender, ADDR_ENVELOPE_SENDER) < 0)
        return -1;
    g.seen =
        e->recipient_count > 1 || addr_rewriter_has_aliases(server.rewriter) || server.has_copies ? map_new() : NULL;
    result = gather(&g);
    if (g.seen)
        map_free(&g.seen, NULL);
    e->recipients = g.list;
    e->recipient_count = g.count;
    return result;
}

int may_wait
recipients_add_copy(struct message *m, const char *address)
{
    struct envelope *e = m->envelope;
    struct gathering g = {.m = m};
    int result;

    if (!makes_copies(m))
        return 0;
    g.seen = map_new();
    for (size_t i = 0; i < e->recipient_count; i++)
        put(&g, &e->recipients[i]);
    result = add_copy(&g, address);
    map_free(&g.seen, NULL);
    e->recipients = g.list;
    e->recipient_count = g.count;
    return result;
}
