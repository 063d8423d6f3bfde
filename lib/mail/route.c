/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/route.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

/* Answers are kept for a short time: long enough for a burst of mail to one place, short enough that a changed table
 * shows at once to people. A full cache is emptied whole. Failures are never kept. */
enum { CACHE_ENTRIES = 1000 };
#define CACHE_TIME SECONDS(10)
#define ROUTE_TIME SECONDS(60)

struct router {
    struct link *link;
    struct map *cache;  /* sender NUL address -> struct entry */
    struct arena *kept; /* what the entries are made of */
};

struct entry {
    struct route_answer answer;
    usec_t until;
};

struct router *
router_new(const char *path)
{
    struct router *router = calloc(1, sizeof *router);

    if (!router)
        fatal("out of memory");
    router->link = link_connect(path, NULL, 0, NULL, NULL);
    router->cache = map_new();
    router->kept = arena_new();
    return router;
}

void
router_free(struct router **router)
{
    if (!*router)
        return;
    link_free(&(*router)->link);
    map_free(&(*router)->cache, NULL);
    arena_free(&(*router)->kept);
    free(*router);
    *router = NULL;
}

/* ---- the cache ---- */

static struct slice
cache_key(struct buf *key, const char *sender, const char *address)
{
    buf_clear(key);
    buf_append(key, sender, strlen(sender) + 1);
    buf_append_text(key, address);
    return buf_slice(key);
}

static void
copy_answer(struct arena *arena, const struct route_answer *from, struct route_answer *to)
{
    to->transport = arena_strdup(arena, from->transport);
    to->nexthop = arena_strdup(arena, from->nexthop);
    to->address = arena_strdup(arena, from->address);
    to->flags = from->flags;
    to->reason = arena_strdup(arena, from->reason);
}

bool
router_cached(struct router *router, struct arena *arena, const char *sender, const char *address,
              struct route_answer *answer)
{
    struct buf key = {0};
    struct entry *entry = map_get(router->cache, cache_key(&key, sender, address));

    buf_release(&key);
    if (!entry || entry->until < loop_now())
        return false;
    copy_answer(arena, &entry->answer, answer);
    return true;
}

static void
cache_put(struct router *router, const char *sender, const char *address, const struct route_answer *answer)
{
    struct buf key = {0};

    if (answer->flags & ROUTE_FAIL)
        return;
    if (map_count(router->cache) >= CACHE_ENTRIES) {
        map_free(&router->cache, NULL);
        router->cache = map_new();
        arena_reset(router->kept);
    }
    struct entry *entry = map_get(router->cache, cache_key(&key, sender, address));
    if (!entry) {
        entry = ARENA_NEW(router->kept, struct entry);
        map_put(router->cache, cache_key(&key, sender, address), entry);
    }
    copy_answer(router->kept, answer, &entry->answer);
    entry->until = loop_now() + CACHE_TIME;
    buf_release(&key);
}

/* ---- asking ---- */

/* What one call asks: the addresses that the cache does not know. */
struct asking {
    struct router *router;
    struct arena *arena;
    const char *sender;
    struct route_answer *answers;
    unsigned *places; /* which answer each query is for */
    struct msg_resolve request;
    void (*done)(void *ctx, const struct err *);
    void *ctx;
    struct loop_hook hook; /* tells of an answer that was all in the cache */
};

static struct asking *
asking_new(struct router *router, struct arena *arena, const char *sender, const char *const *addresses, unsigned count,
           struct route_answer *answers)
{
    struct asking *asking = ARENA_NEW(arena, struct asking);

    *asking = (struct asking){.router = router, .arena = arena, .sender = sender, .answers = answers};
    for (unsigned i = 0; i < count; i++) {
        if (router_cached(router, arena, sender, addresses[i], &answers[i]))
            continue;
        if (!asking->places) {
            asking->places = arena_array(arena, count, sizeof *asking->places);
            asking->request.queries = arena_array(arena, count, sizeof *asking->request.queries);
            asking->request.sender = sender;
        }
        asking->places[asking->request.query_count] = i;
        asking->request.queries[asking->request.query_count++].address = addresses[i];
    }
    return asking;
}

static int
take_answers(struct asking *asking, const struct link_message *reply, struct err *err)
{
    const struct msg_resolved *resolved = reply->message;

    if (resolved->answer_count != asking->request.query_count)
        return err_set(err, ERR_TEMP, "rewrite service: %zu answers to %zu questions", resolved->answer_count,
                       asking->request.query_count);
    for (size_t i = 0; i < resolved->answer_count; i++) {
        cache_put(asking->router, asking->sender, asking->request.queries[i].address, &resolved->answers[i]);
        copy_answer(asking->arena, &resolved->answers[i], &asking->answers[asking->places[i]]);
    }
    return 0;
}

int may_wait
router_resolve(struct router *router, struct arena *arena, const char *sender, const char *const *addresses,
               unsigned count, struct route_answer *answers, struct err *err)
{
    struct asking *asking = asking_new(router, arena, sender, addresses, count, answers);
    struct link_message reply;

    if (asking->request.query_count == 0)
        return 0;
    if (link_call(router->link, arena, &type_resolve, &asking->request, slice_make(NULL, 0), NULL, 0, &type_resolved,
                  &reply, loop_now() + ROUTE_TIME, err) < 0)
        return err_context(err, "rewrite service");
    return take_answers(asking, &reply, err);
}

static void
all_cached(void *arg)
{
    struct asking *asking = arg;
    asking->done(asking->ctx, NULL);
}

static void
resolved(void *ctx, struct link_message *reply, const struct err *why)
{
    struct asking *asking = ctx;
    struct err err;

    if (reply && take_answers(asking, reply, &err) < 0)
        why = &err;
    asking->done(asking->ctx, why);
}

int
router_resolve_async(struct router *router, struct arena *arena, const char *sender, const char *const *addresses,
                     unsigned count, struct route_answer *answers, void (*done)(void *ctx, const struct err *),
                     void *ctx, struct err *err)
{
    struct asking *asking = asking_new(router, arena, sender, addresses, count, answers);

    asking->done = done;
    asking->ctx = ctx;
    if (asking->request.query_count == 0) {
        asking->hook = (struct loop_hook){.fn = all_cached, .arg = asking};
        loop_want_turn_end(&asking->hook);
        return 0;
    }
    return link_call_async(router->link, &type_resolve, &asking->request, slice_make(NULL, 0), NULL, 0, &type_resolved,
                           resolved, asking, err);
}

int may_wait
router_rewrite(struct router *router, struct arena *arena, const char *context, const char *address,
               const char **result, struct err *err)
{
    struct route_query query = {.address = address};
    struct msg_rewrite request = {.context = context, .queries = &query, .query_count = 1};
    struct link_message reply;

    if (link_call(router->link, arena, &type_rewrite, &request, slice_make(NULL, 0), NULL, 0, &type_rewritten, &reply,
                  loop_now() + ROUTE_TIME, err) < 0)
        return err_context(err, "rewrite service");
    const struct msg_rewritten *rewritten = reply.message;
    if (rewritten->answer_count != 1)
        return err_set(err, ERR_TEMP, "rewrite service: %zu answers to one question", rewritten->answer_count);
    *result = arena_strdup(arena, rewritten->answers[0].address);
    return 0;
}
