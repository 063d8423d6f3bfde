/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/failures.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/run/net.h"

enum { KEPT = 50000 /* names that are counted; above it those that have become old go */ };

struct count {
    unsigned failures;
    usec_t last;
};

struct failures {
    const struct auth_settings *set;
    struct map *clients, *users;
};

struct failures *
failures_new(const struct auth_settings *set)
{
    struct failures *failures = calloc(1, sizeof *failures);

    if (!failures)
        fatal("out of memory");
    failures->set = set;
    failures->clients = map_new();
    failures->users = map_new();
    return failures;
}

void
failures_free(struct failures **at)
{
    if (!*at)
        return;
    map_free(&(*at)->clients, free);
    map_free(&(*at)->users, free);
    free(*at);
    *at = NULL;
}

static void
make_room(struct map *map, usec_t old)
{
    size_t position = 0;
    struct slice key;
    void *value;
    bool all = map_count(map) > 2 * KEPT;

    if (map_count(map) < KEPT)
        return;
    while (map_next(map, &position, &key, &value))
        if (all || ((struct count *)value)->last < old) {
            map_remove(map, key);
            free(value);
        }
}

/* The count as of now: it halves with each time unit. */
static struct count *
find(const struct failures *failures, struct map *map, const char *name, usec_t now)
{
    struct count *count = map_get_text(map, name);
    usec_t unit = failures->set->auth_failure_time_unit;

    while (count && count->failures > 0 && now - count->last >= unit) {
        count->failures /= 2;
        count->last += unit;
    }
    return count;
}

static unsigned
add(struct failures *failures, struct map *map, const char *name, usec_t now)
{
    struct count *count = find(failures, map, name, now);

    if (!name[0])
        return 1;
    if (!count) {
        make_room(map, now - 4 * failures->set->auth_failure_time_unit);
        count = calloc(1, sizeof *count);
        if (!count)
            fatal("out of memory");
        map_put_text(map, name, count);
    }
    count->last = now;
    return ++count->failures;
}

/* A client's network, if it is an address; text holds it. */
static const char *
network_of(const char *client, char *text, size_t size)
{
    struct net_addr addr;
    struct err err;

    if (net_addr_parse(client, 0, &addr, &err) < 0)
        return client;
    net_addr_network(&addr, NET_CLIENT_V4_BITS, NET_CLIENT_V6_BITS, text, size);
    return text;
}

bool
failures_bar(struct failures *failures, const char *client, usec_t now)
{
    char text[NET_NETWORK_SIZE];
    const struct count *count =
        client[0] ? find(failures, failures->clients, network_of(client, text, sizeof text), now) : NULL;
    int64_t limit = failures->set->auth_client_failure_limit;

    return limit > 0 && count && count->failures >= limit;
}

usec_t
failures_note(struct failures *failures, const char *client, const char *user, usec_t now)
{
    char text[NET_NETWORK_SIZE];
    unsigned by_client = add(failures, failures->clients, network_of(client, text, sizeof text), now);
    unsigned by_user = add(failures, failures->users, user, now);
    unsigned most = by_client > by_user ? by_client : by_user;

    return failures->set->auth_failure_delay * (most < 5 ? most : 5);
}

void
failures_forget(struct failures *failures, const char *user)
{
    free(map_remove_text(failures->users, user));
}
