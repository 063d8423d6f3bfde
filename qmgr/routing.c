/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/routing.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/verp.h"
#include "lib/run/loop.h"
#include "qmgr/active.h"

enum { ASKED_AT_ONCE = 500 };
#define ASK_AGAIN SECONDS(2)

/* The recipients to do, and what is known of each. */
struct routing {
    struct message *message;
    uint32_t *recipients;
    const char **addresses;
    struct route_answer *answers;
    bool asking;
    unsigned count, asked; /* asked: up to here it is known or asked */
};

static struct router *router;
static usec_t warned;

void
routing_init(struct router *with)
{
    router = with;
}

/* A service that fails or defers mail for a reason, as its next hop says: "5.1.3 bad address". */
static void
route_to_reason(struct sched_target *target, const char *transport, const char *nexthop)
{
    target->transport = transport;
    target->nexthop = nexthop;
}

static bool
is_deferred_transport(const char *transport)
{
    struct slice rest = slice_from(active_settings()->defer_transports), word;

    while (slice_word(&rest, " ,\t\r\n", &word))
        if (slice_equal_text(word, transport))
            return true;
    return false;
}

/* "transport:nexthop"; without a next hop it is default_filter_nexthop, or the recipient's domain. */
static void
apply_filter(struct message *message, struct sched_target *target)
{
    const char *filter = message->envelope->content_filter, *colon = strchr(filter, ':');
    const char *at = strrchr(target->address, '@');

    target->transport = colon ? arena_strndup(message->pass_arena, filter, (size_t)(colon - filter)) : filter;
    target->nexthop = colon ? colon + 1 : "";
    if (!*target->nexthop)
        target->nexthop = active_settings()->default_filter_nexthop;
    if (!*target->nexthop)
        target->nexthop = at ? at + 1 : active_settings()->myhostname;
}

static void
make_target(struct routing *routing, unsigned i, struct sched_target *target)
{
    struct message *message = routing->message;
    const struct route_answer *answer = &routing->answers[i];

    *target = (struct sched_target){answer->transport, answer->nexthop, answer->address, routing->recipients[i]};
    message->recipients[routing->recipients[i]].address = answer->address;
    if (answer->flags & ROUTE_FAIL)
        route_to_reason(target, "retry", arena_printf(message->pass_arena, "4.3.0 %s", answer->reason));
    else if (answer->flags & ROUTE_ERROR)
        route_to_reason(target, active_settings()->error_service_name,
                        *answer->nexthop ? answer->nexthop : answer->reason);
    else if (*message->envelope->content_filter)
        apply_filter(message, target);
    else if (is_deferred_transport(answer->transport))
        route_to_reason(target, "retry", "4.3.2 deferred transport");
}

static void
schedule(struct routing *routing)
{
    struct message *message = routing->message;
    struct sched_target one, *targets = &one;

    message->routing = false;
    if (message->going_out || message->removed) {
        active_progress(message);
        return;
    }
    if (routing->count > 1)
        targets = arena_array(message->pass_arena, routing->count, sizeof(*targets));
    for (unsigned i = 0; i < routing->count; i++)
        make_target(routing, i, &targets[i]);
    message->sched.one_each = verp_is_wanted(message->envelope);
    sched_add(active_scheduler(), &message->sched, message->pass_arena, targets, routing->count, loop_now());
    active_want_turn();
}

static void ask(struct routing *);

static void
ask_again(void *arg)
{
    struct routing *routing = arg;

    ask(routing);
}

static void
no_answer(struct routing *routing, const char *why)
{
    if (loop_now() >= warned) {
        log_warning("problem talking to service %s: %s", active_settings()->rewrite_service_name, why);
        warned = loop_now() + SECONDS(10);
    }
    if (routing->message->going_out || active_is_stopping()) {
        routing->message->routing = false;
        active_progress(routing->message);
        return;
    }
    loop_timer_set(&routing->message->again, loop_now() + ASK_AGAIN, ask_again, routing);
}

static void
on_answers(void *ctx, const struct err *err)
{
    struct routing *routing = ctx;

    routing->asking = false;
    if (err) {
        no_answer(routing, err->text);
        return;
    }
    routing->asked += routing->count - routing->asked < ASKED_AT_ONCE ? routing->count - routing->asked : ASKED_AT_ONCE;
    if (routing->asked < routing->count)
        ask(routing);
    else
        schedule(routing);
}

static void
ask(struct routing *routing)
{
    unsigned count = routing->count - routing->asked;
    struct err err;

    if (count > ASKED_AT_ONCE)
        count = ASKED_AT_ONCE;
    if (router_resolve_async(router, routing->message->pass_arena, routing->message->envelope->sender,
                             &routing->addresses[routing->asked], count, &routing->answers[routing->asked], on_answers,
                             routing, &err) < 0)
        no_answer(routing, err.text);
    else
        routing->asking = true;
}

bool
routing_is_asking(const struct message *message)
{
    return message->routing && message->route->asking;
}

/* REDIRECT: all recipients become this one; it gets one copy. */
static void
apply_redirect(struct message *message)
{
    bool first = true;

    for (size_t i = 0; i < message->envelope->recipient_count; i++) {
        if (message->recipients[i].state != RECIPIENT_TODO)
            continue;
        if (first)
            message->recipients[i].address = message->envelope->redirect;
        else
            message->recipients[i].state = RECIPIENT_DONE;
        first = false;
    }
}

void
routing_start(struct message *message)
{
    struct arena *arena = message->pass_arena;
    struct routing *routing = ARENA_NEW(arena, struct routing);
    size_t total = message->envelope->recipient_count;
    bool all_known = true;

    if (*message->envelope->redirect) {
        apply_redirect(message);
        message->rest.more = false;
    }
    routing->message = message;
    routing->recipients = arena_array(arena, total, sizeof(uint32_t));
    routing->addresses = arena_array(arena, total, sizeof(const char *));
    routing->answers = arena_array(arena, total, sizeof(struct route_answer));
    for (size_t i = 0; i < total; i++) {
        const char *address = message->recipients[i].address;
        if (message->recipients[i].state != RECIPIENT_TODO)
            continue;
        if (!*address)
            address = active_settings()->empty_address_recipient;
        routing->recipients[routing->count] = (uint32_t)i;
        routing->addresses[routing->count] = address;
        if (all_known &&
            !router_cached(router, arena, message->envelope->sender, address, &routing->answers[routing->count]))
            all_known = false;
        routing->count++;
    }
    message->routing = true;
    message->route = routing;
    if (all_known)
        schedule(routing);
    else
        ask(routing);
}
