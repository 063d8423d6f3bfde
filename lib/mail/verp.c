/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/verp.h"

#include <string.h>

bool
verp_delimiters_are_good(struct slice delimiters, const char *filter)
{
    return delimiters.len == 2 && delimiters.ptr[0] && delimiters.ptr[1] && strchr(filter, delimiters.ptr[0]) &&
           strchr(filter, delimiters.ptr[1]);
}

bool
verp_is_wanted(const struct envelope *e)
{
    return *e->verp && *e->sender;
}

/* Up to the last "@"; what follows it, or nothing. */
static struct slice
cut(const char *address, const char **domain)
{
    const char *at = strrchr(address, '@');
    size_t len = at ? (size_t)(at - address) : strlen(address);

    *domain = at ? at + 1 : "";
    return slice_make(address, len);
}

const char *
verp_sender(struct arena *arena, const struct envelope *e, const struct envelope_recipient *recipient)
{
    const char *sender_domain, *recipient_domain;
    struct slice sender = cut(e->sender, &sender_domain);
    struct slice user = cut(*recipient->original ? recipient->original : recipient->address, &recipient_domain);

    return arena_printf(arena, "%.*s%c%.*s%c%s%s%s", SLICE_ARG(sender), e->verp[0], SLICE_ARG(user), e->verp[1],
                        recipient_domain, *sender_domain ? "@" : "", sender_domain);
}
