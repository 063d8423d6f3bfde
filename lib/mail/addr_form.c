/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/addr_form.h"

#include <string.h>

#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"

static bool dot_by_old_default;

int
address_tell_old_default(const struct conf *conf, struct err *err)
{
    struct arena *arena = arena_new();
    const char *value;
    int result = conf_old_default(conf, arena, "append_dot_mydomain", &value, err);

    dot_by_old_default = result == 0 && value;
    arena_free(&arena);
    return result;
}

static const char *
append_dot(struct arena *arena, const struct rewrite_settings *settings, const char *address, struct slice domain)
{
    if (dot_by_old_default)
        log_old_dot_mydomain(domain, settings->mydomain,
                             slice_equal_text_fold(domain, "localhost")
                                 ? "; please add \"localhost\" to mydestination or other address class"
                                 : "");
    return arena_printf(arena, "%s.%s", address, settings->mydomain);
}

const char *
address_unroute(struct arena *arena, const struct rewrite_settings *settings, struct slice local)
{
    const char *at = memrchr(local.ptr, '@', local.len);
    const char *bang = memchr(local.ptr, '!', local.len);
    const char *percent = memrchr(local.ptr, '%', local.len);

    if (at)
        return arena_strndup(arena, local.ptr, local.len);
    if (settings->swap_bangpath && bang && bang > local.ptr) {
        struct slice site = slice_make(local.ptr, (size_t)(bang - local.ptr));
        struct slice user = slice_make(bang + 1, local.len - site.len - 1);
        return arena_printf(arena, "%.*s@%.*s", SLICE_ARG(user), SLICE_ARG(site));
    }
    if (settings->allow_percent_hack && percent && percent > local.ptr) {
        struct slice user = slice_make(local.ptr, (size_t)(percent - local.ptr));
        struct slice site = slice_make(percent + 1, local.len - user.len - 1);
        return arena_printf(arena, "%.*s@%.*s", SLICE_ARG(user), SLICE_ARG(site));
    }
    return NULL;
}

/* "a@b." -> "a@b": the dot of an absolute domain name. */
static const char *
without_last_dot(struct arena *arena, const char *address)
{
    size_t len = strlen(address);

    if (len < 2 || address[len - 1] != '.' || address[len - 2] == '.' || address[len - 2] == '@')
        return address;
    return arena_strndup(arena, address, len - 1);
}

const char *
address_canonical(struct arena *arena, const struct rewrite_settings *settings, const char *address, bool complete)
{
    struct slice local, domain;

    if (!*address)
        return address;
    addr_split(address, &local, &domain);
    if (local.len == strlen(address)) { /* no '@' at all */
        const char *unrouted = address_unroute(arena, settings, local);
        if (unrouted)
            address = unrouted;
        else if (complete && settings->append_at_myorigin)
            address = arena_printf(arena, "%s@%s", address, settings->myorigin);
        addr_split(address, &local, &domain);
    }
    if (complete && settings->append_dot_mydomain && domain.len > 0 && *domain.ptr != '[' &&
        !slice_has_byte(domain, '.'))
        return append_dot(arena, settings, address, domain);
    return without_last_dot(arena, address);
}
