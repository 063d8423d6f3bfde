/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/addr_map.h"

#include <string.h>

#include "lib/conf/interfaces.h"
#include "lib/mail/addr.h"
#include "lib/mail/addr_form.h"
#include "lib/mail/header_addr.h"

int
addr_map_rules_load(struct arena *arena, const struct conf *conf, struct addr_map_rules *rules, struct err *err)
{
    struct rewrite_settings *settings = ARENA_NEW(arena, struct rewrite_settings);
    struct interfaces *own = ARENA_NEW(arena, struct interfaces), *proxy = ARENA_NEW(arena, struct interfaces);

    if (rewrite_settings_load(settings, conf, arena, err) < 0 || interfaces_load(conf, arena, own, err) < 0 ||
        interfaces_parse(conf, arena, settings->proxy_interfaces, proxy, err) < 0)
        return -1;
    rules->form = settings;
    rules->classes = classes_new(arena, conf, settings, own, proxy, err);
    return rules->classes ? 0 : -1;
}

bool
addr_map_propagates(const char *propagate_unmatched_extensions, const char *word)
{
    struct slice rest = slice_from(propagate_unmatched_extensions), piece;

    while (slice_word(&rest, ", \t\r\n", &piece))
        if (slice_equal_text_fold(piece, word))
            return true;
    return false;
}

const char *
addr_map_complete(struct arena *arena, const struct rewrite_settings *form, const struct header_addr *addr)
{
    /* A quoted '@' must not be taken for the one in front of a domain. */
    if (!addr->has_domain && strchr(addr->raw, '@'))
        return arena_printf(arena, "%s@%s", addr->raw, form->myorigin);
    return address_canonical(arena, form, addr->raw, true);
}

unsigned
addr_map_parse(struct arena *arena, const struct addr_map_rules *rules, const char *text, const char *const **results)
{
    struct header_addr_scan scan = {.text = slice_from(text)};
    const char **list = NULL;
    unsigned count = 0, room = 0;
    struct header_addr addr;

    while (header_addr_next(arena, &scan, &addr)) {
        if (count == room) {
            room = room ? room * 2 : 4;
            const char **larger = arena_array(arena, room, sizeof *larger);
            if (count)
                memcpy(larger, list, count * sizeof *larger);
            list = larger;
        }
        if (*addr.raw)
            list[count++] = *addr.raw == '@' ? addr.raw : addr_map_complete(arena, rules->form, &addr);
    }
    *results = list;
    return count;
}

/* "@otherdomain": the same user there. Else the extension that the table did not ask for goes behind the user. */
static const char *
apply(struct arena *arena, const struct addr_map_rules *rules, const char *address, const char *extension,
      const char *result)
{
    struct slice local, domain;

    if (*result == '@') {
        addr_split(address, &local, &domain);
        return address_canonical(arena, rules->form, arena_printf(arena, "%.*s%s", SLICE_ARG(local), result), true);
    }
    if (!*extension)
        return result;
    addr_split(result, &local, &domain);
    return arena_printf(arena, "%.*s%s%s", SLICE_ARG(local), extension, result + local.len);
}

static int
is_ours(void *ctx, struct slice domain, bool *result, struct err *err)
{
    return classes_is_ours(ctx, domain, result, err);
}

int may_wait
addr_map_find(struct arena *arena, const struct addr_map_rules *rules, const struct maps *maps, const char *address,
              bool propagate, const char *const **results, unsigned *count, struct err *err)
{
    const struct maps_ours ours = {is_ours, (void *)(uintptr_t)rules->classes};
    const char *value, *extension;

    *count = 0;
    if (!*address || maps_is_empty(maps))
        return 0;
    if (maps_find_address(maps, arena, slice_from(address), rules->form->recipient_delimiter,
                          MAPS_FULL | MAPS_LOCAL | MAPS_DOMAIN, &ours, &value, &extension, err) < 0)
        return -1;
    if (!value)
        return 0;
    *count = addr_map_parse(arena, rules, value, results);
    const char **list = (const char **)(uintptr_t)*results;
    for (unsigned i = 0; i < *count; i++)
        list[i] = apply(arena, rules, address, propagate ? extension : "", list[i]);
    return 0;
}
