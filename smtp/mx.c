/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/hosts.h"

static bool
is_wanted(const struct host *host, enum host_family family)
{
    return (family == HOST_IPV4 && host->addr.any.sa_family == AF_INET) ||
           (family == HOST_IPV6 && host->addr.any.sa_family == AF_INET6);
}

static bool
comes_before(const struct host *a, const struct host *b, enum host_family first)
{
    if (a->preference != b->preference)
        return a->preference < b->preference;
    return is_wanted(a, first) && !is_wanted(b, first);
}

void
hosts_order(struct host_list *list, bool shuffle, enum host_family first, uint32_t (*below)(uint32_t n))
{
    for (size_t i = list->count; shuffle && i > 1; i--) {
        size_t other = below((uint32_t)i);
        struct host swapped = list->hosts[i - 1];
        list->hosts[i - 1] = list->hosts[other];
        list->hosts[other] = swapped;
    }
    /* By insertion, which leaves equal ones as they are; lists are short. */
    for (size_t i = 1; i < list->count; i++) {
        struct host moved = list->hosts[i];
        size_t to = i;
        for (; to > 0 && comes_before(&moved, &list->hosts[to - 1], first); to--)
            list->hosts[to] = list->hosts[to - 1];
        list->hosts[to] = moved;
    }
}

bool
hosts_drop_from_self(struct host_list *list, bool (*is_self)(const void *ctx, const struct net_addr *), const void *ctx)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!is_self(ctx, &list->hosts[i].addr))
            continue;
        while (i > 0 && list->hosts[i - 1].preference == list->hosts[i].preference)
            i--;
        list->count = i;
        return true;
    }
    return false;
}
