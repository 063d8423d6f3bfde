/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/deliver.h"

#include <string.h>

#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "smtp/cache.h"
#include "smtp/destination.h"
#include "smtp/hosts.h"
#include "smtp/session.h"
#include "smtp/transaction.h"

struct attempt {
    const struct client *client;
    struct delivery *delivery;
    struct progress progress;
    struct failure last;     /* what is to be told where nothing better is known */
    bool has_failed;         /* last is filled */
    struct net_addr refused; /* the host of a kept connection that did not do; len 0: none */
    const char *destination; /* the next hop that is being tried, as it was given */
    const char *domain;      /* the same without brackets and port */
};

/* ---- bookkeeping ---- */

static bool
is_finished(const struct attempt *a)
{
    for (size_t i = 0; i < a->delivery->request->recipient_count; i++)
        if (!a->delivery->is_done[i])
            return false;
    return true;
}

/* All that are not done may be tried at the next host. */
static void
take_up_all(struct attempt *a)
{
    memset(a->progress.states, RCPT_LEFT, a->delivery->request->recipient_count);
}

static void
fail_rest(struct attempt *a, const struct session *s, const struct failure *failure)
{
    for (unsigned i = 0; i < a->delivery->request->recipient_count; i++)
        if (!a->delivery->is_done[i] && a->progress.states[i] != RCPT_LATER)
            progress_fail(&a->progress, i, s, failure);
}

/* What is to become of the recipients that are left: it is over for them, or the next host is tried. */
static void
on_failure(struct attempt *a, const struct session *s, const struct failure *failure, bool is_last)
{
    a->last = *failure;
    a->has_failed = true;
    if (failure->is_permanent || is_last) {
        fail_rest(a, s, failure);
        if (failure->is_of_host && !failure->is_permanent)
            delivery_hop(a->delivery, HOP_DEAD, failure->dsn, failure->reason);
    } else {
        log_host_failed(a->delivery->request->queue_id, failure->reason);
    }
}

/* ---- one session ---- */

/* The message over an open session, which then goes to the cache. -1: the session had gone stale; nothing has happened. */
static int may_wait
run_session(struct attempt *a, struct session *s, bool is_last)
{
    struct failure failure;
    bool is_stale = false;

    a->delivery->connected = loop_now_wall();
    a->progress.is_last = is_last;
    take_up_all(a);
    if (transaction_run(s, &a->progress, &failure) < 0) {
        is_stale = failure.is_stale;
        if (!is_stale)
            on_failure(a, s, &failure, is_last);
    }
    cache_put(a->client->cache, &s);
    return is_stale ? -1 : 0;
}

/* Over connections that are kept for the next hop, if there are any. */
static void may_wait
try_kept(struct attempt *a)
{
    struct session *s;

    while (!task_is_cancelled() && (s = cache_take(a->client->cache, a->destination))) {
        struct net_addr addr = s->addr;
        if (run_session(a, s, s->is_last) < 0)
            continue;
        a->refused = addr;
        return;
    }
}

static bool
keeps_connections(const struct attempt *a)
{
    struct slice list = slice_from(a->client->set.smtp_connection_cache_destinations), word;

    if (a->client->set.smtp_sender_dependent_authentication && a->client->set.smtp_sasl_auth_enable)
        return false; /* the next message may have another login */
    if (a->client->set.smtp_connection_cache_on_demand)
        return true;
    while (slice_word(&list, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, a->destination))
            return true;
    return false;
}

/* A connection to the host: one that is kept, or a new one. */
static struct session *may_wait
open_session(struct attempt *a, const struct host *host, struct failure *failure)
{
    struct arena *arena = a->delivery->arena;
    const struct client *client = a->client;
    struct session_target target = {
        .next_hop = a->destination, .domain = a->domain, .sender = a->delivery->request->sender,
        .age = loop_now_wall() - a->delivery->request->arrival_usec};
    /* Where certificate, TLS policy or login are the next hop's, a connection is for that next hop alone. */
    bool shared = client->tls_level < TLS_FINGERPRINT && maps_is_empty(client->tls_policies) &&
                  !client->set.smtp_sasl_auth_enable;
    struct session *s = shared ? cache_take_host(a->client->cache, host) : NULL;

    if (!s) {
        s = session_open(client, arena, host, &target, false, failure);
        if (!s && failure->without_tls) /* opportunistic: better in clear than not at all */
            s = session_open(client, arena, host, &target, true, failure);
        if (s)
            s->uses = 1;
    }
    return s;
}

/* ---- the hosts of a next hop ---- */

struct round {
    unsigned addresses, sessions; /* tried */
};

static bool
is_last_host(const struct attempt *a, const struct host_list *list, size_t i, const struct round *round)
{
    const struct smtp_settings *set = &a->client->set;

    return i + 1 == list->count ||
           (set->smtp_mx_address_limit > 0 && round->addresses + 1 >= set->smtp_mx_address_limit) ||
           (set->smtp_mx_session_limit > 0 && round->sessions + 1 >= set->smtp_mx_session_limit);
}

static void may_wait
try_host(struct attempt *a, const struct host *host, bool is_best, bool is_last, struct round *round)
{
    struct failure failure;
    struct session *s;

    take_up_all(a);
    do {
        s = open_session(a, host, &failure);
        round->addresses++;
        if (!s) {
            round->sessions += failure.mta_name != NULL; /* it stood, and then failed */
            on_failure(a, NULL, &failure, is_last);
            return;
        }
        /* Only the best host is worth coming back to. */
        if (is_best && keeps_connections(a) && !s->destination)
            s->destination = arena_strdup(s->arena, a->destination);
        s->is_last = is_last;
        round->sessions += s->uses == 1;
    } while (run_session(a, s, is_last) < 0 && !task_is_cancelled());
}

/* One next hop of the list, with more behind it or not. */
static void may_wait
try_destination(struct attempt *a, struct slice text, bool more_follow)
{
    struct arena *arena = a->delivery->arena;
    struct destination to;
    struct host_list list;
    struct failure failure;
    struct round round = {0};
    struct err err;
    char *name = arena_strndup(arena, text.ptr, text.len);

    text_lower_all(name, text.len);
    a->destination = name;
    try_kept(a);
    if (is_finished(a) || task_is_cancelled())
        return;
    if (destination_parse(arena, text, a->client->port, a->client->lmtp, &to, &err) < 0) {
        failure_set(&failure, arena, "4.3.5", "%s", err.text);
        on_failure(a, NULL, &failure, !more_follow);
        return;
    }
    a->domain = to.name;
    if (hosts_find(a->client, arena, &to, &list, &failure) < 0) {
        failure.is_permanent = failure.is_permanent && !more_follow;
        failure.is_of_host = true;
        on_failure(a, NULL, &failure, !more_follow);
        return;
    }
    for (size_t i = 0; i < list.count && !is_finished(a) && !task_is_cancelled(); i++) {
        bool is_last_here = is_last_host(a, &list, i, &round);
        if (a->refused.len == 0 || !net_addr_equal_host(&a->refused, &list.hosts[i].addr))
            try_host(a, &list.hosts[i], list.hosts[i].preference == list.hosts[0].preference,
                     is_last_here && !more_follow, &round);
        if (is_last_here)
            break;
    }
}

/* Next hops and fallback relays are lists; a fallback that is the next hop itself is none. */
static void may_wait
try_all(struct attempt *a)
{
    struct slice hops = slice_from(a->delivery->request->nexthop), hop;
    struct slice fallbacks = slice_from(a->client->set.smtp_fallback_relay), fallback;
    bool has_fallback = false, is_fallback = false;

    for (struct slice rest = fallbacks; slice_word(&rest, ", \t\r\n", &fallback);) {
        has_fallback = true;
        is_fallback |= slice_equal_fold(fallback, hops);
    }
    has_fallback = has_fallback && !is_fallback;
    while (slice_word(&hops, ", \t\r\n", &hop) && !is_finished(a) && !task_is_cancelled())
        try_destination(a, hop, has_fallback || slice_trim(hops).len > 0);
    while (has_fallback && slice_word(&fallbacks, ", \t\r\n", &fallback) && !is_finished(a) && !task_is_cancelled())
        try_destination(a, fallback, slice_trim(fallbacks).len > 0);
}

void may_wait
deliver(const struct client *client, struct delivery *d)
{
    struct attempt a = {.client = client, .delivery = d};

    a.progress.delivery = d;
    a.progress.states = arena_alloc(d->arena, d->request->recipient_count);
    try_all(&a);
    if (is_finished(&a) || task_is_cancelled())
        return;
    /* The hosts that were left did not do; what the last one said holds for all. */
    take_up_all(&a);
    if (!a.has_failed && a.progress.has_later)
        a.last = a.progress.later;
    else if (!a.has_failed)
        failure_set(&a.last, d->arena, "4.3.5", "no host was left to try for %s", d->request->nexthop);
    a.last.is_permanent = false;
    fail_rest(&a, NULL, &a.last);
    if (a.last.is_of_host)
        delivery_hop(d, HOP_DEAD, a.last.dsn, a.last.reason);
}
