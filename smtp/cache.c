/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/cache.h"

#include <stdlib.h>
#include <strings.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"

/* Sessions of one destination. */
struct group {
    struct list sessions; /* by session.same; the last used at the end */
};

struct cache {
    const struct client *client;
    struct list sessions; /* all, by session.link, the oldest first: they expire in this order */
    struct map *groups;
    struct loop_timer timer;
};

struct cache *
cache_new(const struct client *client)
{
    struct cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        fatal("out of memory");
    cache->client = client;
    list_init(&cache->sessions);
    cache->groups = map_new();
    return cache;
}

/* Not waiting any more. */
static void
take_out(struct cache *cache, struct session *s)
{
    struct group *group = map_get_text(cache->groups, s->destination);

    check(group);
    list_remove(&s->link);
    list_remove(&s->same);
    if (!list_is_empty(&group->sessions))
        return;
    map_remove_text(cache->groups, s->destination);
    free(group);
}

static usec_t
time_limit(const struct cache *cache)
{
    const struct smtp_settings *set = &cache->client->set;

    return set->smtp_connection_cache_time_limit < set->connection_cache_ttl_limit
               ? set->smtp_connection_cache_time_limit
               : set->connection_cache_ttl_limit;
}

/* ---- goodbye ---- */

/* Says goodbye to sessions of one moment; a task, because a server may not take even that at once. */
static void
close_list(void *arg)
{
    struct list *expired = arg;

    for (struct list *link; (link = list_pop(expired));) {
        struct session *s = LIST_ENTRY(link, struct session, link);
        session_close(&s);
    }
    free(expired);
}

static void expire(void *arg);

static void
set_timer(struct cache *cache)
{
    if (list_is_empty(&cache->sessions))
        return;
    const struct session *oldest = LIST_ENTRY(cache->sessions.next, struct session, link);
    loop_timer_set(&cache->timer, oldest->idle_since + time_limit(cache), expire, cache);
}

static struct list *
new_list(void)
{
    struct list *list = malloc(sizeof(*list));

    if (!list)
        fatal("out of memory");
    list_init(list);
    return list;
}

static void
expire(void *arg)
{
    struct cache *cache = arg;
    struct list *expired = new_list();

    LIST_EACH(link, &cache->sessions)
    {
        struct session *s = LIST_ENTRY(link, struct session, link);
        if (s->idle_since + time_limit(cache) > loop_now())
            break;
        take_out(cache, s);
        list_append(expired, &s->link);
    }
    task_spawn(service_tasks(), "say goodbye", close_list, expired);
    set_timer(cache);
}

void may_wait
cache_drain(struct cache *cache)
{
    struct list *all = new_list();

    LIST_EACH(link, &cache->sessions)
    {
        struct session *s = LIST_ENTRY(link, struct session, link);
        take_out(cache, s);
        list_append(all, &s->link);
    }
    loop_timer_clear(&cache->timer);
    close_list(all);
}

/* ---- in and out ---- */

static bool
may_be_used_again(const struct cache *cache, const struct session *s)
{
    const struct smtp_settings *set = &cache->client->set;

    return s->destination && !s->broken && !s->closing && time_limit(cache) > 0 && !service_is_ending() &&
           (set->smtp_connection_reuse_count_limit == 0 || (int64_t)s->uses < set->smtp_connection_reuse_count_limit) &&
           loop_now() - s->opened < set->smtp_connection_reuse_time_limit;
}

void may_wait
cache_put(struct cache *cache, struct session **session)
{
    struct session *s = *session;

    if (!may_be_used_again(cache, s)) {
        session_close(session);
        return;
    }
    struct group *group = map_get_text(cache->groups, s->destination);
    if (!group) {
        group = malloc(sizeof(*group));
        if (!group)
            fatal("out of memory");
        list_init(&group->sessions);
        map_put_text(cache->groups, s->destination, group);
    }
    s->idle_since = loop_now();
    list_append(&cache->sessions, &s->link);
    list_append(&group->sessions, &s->same);
    if (cache->timer.due == 0)
        set_timer(cache);
    *session = NULL;
}

/* Out of the cache, if it still stands. */
static struct session *
use(struct cache *cache, struct session *s)
{
    take_out(cache, s);
    if (stream_is_idle_alive(s->stream)) {
        s->uses++;
        return s;
    }
    s->broken = true;
    session_close(&s);
    return NULL;
}

struct session *
cache_take(struct cache *cache, const char *destination)
{
    struct group *group;

    while ((group = map_get_text(cache->groups, destination))) {
        struct session *s = use(cache, LIST_ENTRY(group->sessions.prev, struct session, same));
        if (s)
            return s;
    }
    return NULL;
}

static bool
is_to(const struct session *s, const struct host *host)
{
    return net_addr_equal_host(&s->addr, &host->addr) && net_addr_port(&s->addr) == net_addr_port(&host->addr) &&
           strcasecmp(s->name, host->name) == 0;
}

struct session *
cache_take_host(struct cache *cache, const struct host *host)
{
    for (struct list *link = cache->sessions.prev; link != &cache->sessions; link = link->prev) {
        struct session *s = LIST_ENTRY(link, struct session, link);
        if (is_to(s, host))
            return use(cache, s); /* one dead connection is reason enough for a new one */
    }
    return NULL;
}
