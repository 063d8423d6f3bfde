/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "qmgr/sched.h"

/* The world outside: collects what the scheduler gives out. */
enum { MOST = 4000 };

struct world {
    struct sched *sched;
    struct arena *arena;
    struct sched_limits limits;
    struct sched_entry *given[MOST];
    unsigned count;
    unsigned put_off;
    const char *put_off_reason;
    usec_t now;
};

static void
give_limits(void *ctx, const char *transport, struct sched_limits *limits)
{
    (void)transport;
    *limits = ((struct world *)ctx)->limits;
}

static void
deliver(void *ctx, struct sched_entry *entry)
{
    struct world *world = ctx;

    assert_true(world->count < MOST);
    world->given[world->count++] = entry;
}

static void
put_off(void *ctx, struct sched_entry *entry, const char *status, const char *reason)
{
    struct world *world = ctx;

    assert_string_equal(status, "4.4.1");
    world->put_off++;
    world->put_off_reason = reason;
    sched_finish_put_off(world->sched, entry);
}

static const struct sched_hooks hooks = {.limits = give_limits, .deliver = deliver, .put_off = put_off};

static struct world *
world_new(void)
{
    struct world *world = test_calloc(1, sizeof(*world));

    world->arena = arena_new();
    world->now = SECONDS(1000);
    world->limits = (struct sched_limits){.window = {.initial = 5,
                                                     .limit = 20,
                                                     .positive = {1, FEEDBACK_FIXED},
                                                     .negative = {1, FEEDBACK_FIXED},
                                                     .failed_cohort_limit = 1},
                                          .recipient_limit = 50,
                                          .slot_cost = 5,
                                          .slot_loan = 3,
                                          .slot_discount = 50,
                                          .minimum_slots = 3,
                                          .dead_time = SECONDS(300)};
    world->sched = sched_new(&hooks, world);
    return world;
}

static void
world_free(struct world *world)
{
    sched_free(&world->sched);
    arena_free(&world->arena);
    test_free(world);
}

static void
add_recipients(struct world *world, struct sched_message *message, const char *transport, const char *domain,
               unsigned count, bool same)
{
    struct sched_target *targets = arena_array(world->arena, count, sizeof(*targets));

    for (unsigned i = 0; i < count; i++)
        targets[i] = (struct sched_target){transport, same ? domain : arena_printf(world->arena, "%04u.%s", i, domain),
                                           arena_printf(world->arena, "user%u@%s", i, domain), i};
    sched_add(world->sched, message, world->arena, targets, count, world->now);
    sched_run(world->sched, world->now);
}

/* A message of `count` recipients, each at a destination of its own (or all at the same). */
static struct sched_message *
add(struct world *world, const char *transport, const char *domain, unsigned count, bool same)
{
    struct sched_message *message = ARENA_NEW(world->arena, struct sched_message);

    add_recipients(world, message, transport, domain, count, same);
    return message;
}

static void
finish(struct world *world, unsigned i, enum sched_outcome outcome)
{
    sched_finish(world->sched, world->given[i], outcome, "4.4.1", "connect to it: Connection refused", world->now);
    sched_run(world->sched, world->now);
}

static void
test_window_opens_with_success(void **state)
{
    struct world *world = world_new();

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        add(world, "smtp", "a.example", 1, true);
    assert_int_equal(world->count, 5);
    for (unsigned i = 0; i < 100; i++)
        finish(world, i, SCHED_OK);
    assert_int_equal(world->count, 100);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 20);
    world_free(world);
}

static void
test_window_feedback_by_concurrency_grows_once_a_window(void **state)
{
    struct world *world = world_new();

    (void)state;
    world->limits.window.positive.scale = FEEDBACK_BY_CONCURRENCY;
    for (unsigned i = 0; i < 100; i++)
        add(world, "smtp", "a.example", 1, true);
    for (unsigned i = 0; i < 5; i++)
        finish(world, i, SCHED_OK);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 6);
    for (unsigned i = 5; i < 11; i++)
        finish(world, i, SCHED_OK);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 7);
    world_free(world);
}

static void
test_busy_shrinks_the_window_but_never_kills(void **state)
{
    struct world *world = world_new();

    (void)state;
    for (unsigned i = 0; i < 30; i++)
        add(world, "smtp", "a.example", 1, true);
    for (unsigned i = 0; i < 20; i++)
        finish(world, i, SCHED_BUSY);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 1);
    assert_int_equal(world->put_off, 0);
    assert_int_equal(world->count, 21);
    world_free(world);
}

static void
test_dead_destinations_get_another_chance(void **state)
{
    struct world *world = world_new();
    struct sched_message one = {.tries_dead = true}, another = {.tries_dead = true};

    (void)state;
    add(world, "smtp", "a.example", 1, true);
    add(world, "smtp", "b.example", 1, true);
    sched_fail_transport(world->sched, "smtp", "4.4.1", "mail transport unavailable", world->now, SECONDS(60));
    assert_int_equal(add(world, "smtp", "a.example", 1, true)->open, 0);
    add_recipients(world, &one, "smtp", "a.example", 1, true);
    add_recipients(world, &another, "smtp", "new.example", 1, true);
    assert_int_equal(one.open, 1);
    assert_int_equal(another.open, 1);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 5);
    assert_int_equal(sched_window(world->sched, "smtp", "b.example"), 0);
    assert_int_equal(add(world, "smtp", "c.example", 1, true)->open, 0);
    sched_revive(world->sched);
    assert_int_equal(sched_window(world->sched, "smtp", "b.example"), 5);
    assert_int_equal(add(world, "smtp", "d.example", 1, true)->open, 1);
    world_free(world);
}

static void
test_dead_destination_puts_all_off_until_its_time_is_over(void **state)
{
    struct world *world = world_new();
    struct sched_message *late;

    (void)state;
    for (unsigned i = 0; i < 30; i++)
        add(world, "smtp", "a.example", 1, true);
    add(world, "smtp", "b.example", 1, true);
    assert_int_equal(world->count, 6);
    finish(world, 0, SCHED_DEAD);
    for (unsigned i = 1; i < 5; i++)
        finish(world, i, SCHED_DEAD);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 0);
    assert_int_equal(world->put_off + world->count, 31);
    assert_string_equal(world->put_off_reason, "connect to it: Connection refused");
    late = add(world, "smtp", "a.example", 1, true);
    assert_int_equal(late->open, 0);
    assert_int_equal(world->put_off + world->count, 32);
    world->now += SECONDS(301);
    late = add(world, "smtp", "a.example", 1, true);
    assert_int_equal(late->open, 1);
    assert_int_equal(sched_window(world->sched, "smtp", "a.example"), 5);
    world_free(world);
}

static void
test_success_between_failures_keeps_it_alive(void **state)
{
    struct world *world = world_new();

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        add(world, "smtp", "a.example", 1, true);
    for (unsigned i = 0; i + 1 < world->count && i < 90; i++)
        finish(world, i, i % 2 ? SCHED_DEAD : SCHED_OK);
    assert_true(sched_window(world->sched, "smtp", "a.example") > 0);
    assert_int_equal(world->put_off, 0);
    world_free(world);
}

static void
test_recipients_of_a_destination_share_requests(void **state)
{
    struct world *world = world_new();
    unsigned seen[120] = {0};

    (void)state;
    add(world, "smtp", "a.example", 120, true);
    assert_int_equal(world->count, 3);
    assert_int_equal(world->given[0]->count, 50);
    assert_int_equal(world->given[2]->count, 20);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < world->given[i]->count; j++)
            seen[world->given[i]->recipients[j]]++;
    for (unsigned i = 0; i < 120; i++)
        assert_int_equal(seen[i], 1);
    world_free(world);
}

static void
test_one_recipient_limit_makes_a_queue_for_each_mailbox(void **state)
{
    struct world *world = world_new();

    (void)state;
    world->limits.recipient_limit = 1;
    world->limits.window.initial = world->limits.window.limit = 1;
    add(world, "local", "a.example", 3, true);
    add(world, "local", "a.example", 3, true);
    assert_int_equal(world->count, 3);
    assert_int_equal(sched_window(world->sched, "local", "user1@a.example"), 1);
    assert_string_equal(sched_entry_nexthop(world->given[1]), "a.example");
    finish(world, 1, SCHED_OK);
    assert_int_equal(world->count, 4);
    assert_int_equal(world->given[3]->recipients[0], 1);
    world_free(world);
}

static void
test_request_limit_of_a_transport(void **state)
{
    struct world *world = world_new();

    (void)state;
    world->limits.request_limit = 7;
    add(world, "smtp", "a.example", 20, false);
    assert_int_equal(world->count, 7);
    add(world, "local", "a.example", 3, false);
    assert_int_equal(world->count, 10);
    finish(world, 3, SCHED_OK);
    assert_int_equal(world->count, 11);
    world_free(world);
}

static void
test_destinations_take_turns_within_a_message(void **state)
{
    struct world *world = world_new();

    (void)state;
    world->limits.recipient_limit = 2;
    world->limits.request_limit = 1;
    world->limits.slot_cost = 0;
    struct sched_message *message = ARENA_NEW(world->arena, struct sched_message);
    struct sched_target targets[8];
    for (unsigned i = 0; i < 8; i++)
        targets[i] = (struct sched_target){"smtp", i < 4 ? "a.example" : "b.example", "u@x.example", i};
    sched_add(world->sched, message, world->arena, targets, 8, world->now);
    sched_run(world->sched, world->now);
    for (unsigned i = 0; i < 3; i++)
        finish(world, i, SCHED_OK);
    assert_int_equal(world->count, 4);
    assert_string_not_equal(sched_entry_nexthop(world->given[0]), sched_entry_nexthop(world->given[1]));
    assert_string_equal(sched_entry_nexthop(world->given[0]), sched_entry_nexthop(world->given[2]));
    assert_int_equal(message->open, 1);
    world_free(world);
}

static void
test_small_message_passes_a_large_one(void **state)
{
    struct world *world = world_new();
    struct sched_message *large, *small;
    unsigned i = 0;

    (void)state;
    world->limits.request_limit = 2;
    large = add(world, "smtp", "list.example", 400, false);
    assert_int_equal(large->open, 400);
    small = add(world, "smtp", "one.example", 1, true);
    for (; i < 2; i++)
        finish(world, i, SCHED_OK);
    assert_ptr_equal(world->given[2]->message, small);
    /* With the loan spent, more must be earned first: 1 of 6 at the most goes to others. */
    for (unsigned n = 0; n < 100; n++)
        add(world, "smtp", "one.example", 1, true);
    for (; i < 240; i++)
        finish(world, i, SCHED_OK);
    unsigned others = 0;
    for (unsigned n = 0; n < 240; n++)
        if (world->given[n]->message != large)
            others++;
    assert_true(others > 20);
    assert_true(others <= 240 / 6 + 6 + 1);
    world_free(world);
}

static void
test_without_preemption_first_come_first_served(void **state)
{
    struct world *world = world_new();
    struct sched_message *large;
    unsigned i;

    (void)state;
    world->limits.slot_cost = 0;
    world->limits.request_limit = 2;
    large = add(world, "smtp", "list.example", 100, false);
    add(world, "smtp", "one.example", 1, true);
    for (i = 0; i < 100; i++) {
        assert_ptr_equal(world->given[i]->message, large);
        finish(world, i, SCHED_OK);
    }
    assert_ptr_not_equal(world->given[100]->message, large);
    world_free(world);
}

static void
test_retry_puts_it_in_front_after_a_pause(void **state)
{
    struct world *world = world_new();

    (void)state;
    world->limits.window.initial = world->limits.window.limit = 1;
    add(world, "smtp", "a.example", 1, true);
    add(world, "smtp", "a.example", 1, true);
    struct sched_entry *entry = world->given[0];
    sched_retry(world->sched, entry, SECONDS(2), world->now);
    sched_run(world->sched, world->now);
    assert_int_equal(world->count, 1);
    assert_int_equal(sched_next_wakeup(world->sched), world->now + SECONDS(2));
    world->now += SECONDS(2);
    sched_run(world->sched, world->now);
    assert_int_equal(world->count, 2);
    assert_ptr_equal(world->given[1], entry);
    assert_int_equal(entry->attempts, 1);
    assert_int_equal(sched_next_wakeup(world->sched), 0);
    world_free(world);
}

static void
test_rate_delay_sends_one_at_a_time(void **state)
{
    struct world *world = world_new();

    (void)state;
    world->limits.rate_delay = SECONDS(1);
    world->limits.window.initial = world->limits.window.limit = 1;
    add(world, "smtp", "a.example", 1, true);
    add(world, "smtp", "a.example", 1, true);
    finish(world, 0, SCHED_OK);
    assert_int_equal(world->count, 1);
    world->now = sched_next_wakeup(world->sched);
    sched_run(world->sched, world->now);
    assert_int_equal(world->count, 2);
    world_free(world);
}

static void
test_withdraw_ends_what_waits(void **state)
{
    struct world *world = world_new();
    struct sched_message *message;

    (void)state;
    world->limits.request_limit = 4;
    message = add(world, "smtp", "a.example", 20, false);
    add(world, "smtp", "b.example", 1, false);
    sched_withdraw(world->sched, message);
    assert_int_equal(message->open, 4);
    for (unsigned i = 0; i < 4; i++)
        finish(world, i, SCHED_OK);
    assert_int_equal(message->open, 0);
    assert_int_equal(world->count, 5);
    world_free(world);
}

/* More recipients of a message, added when the first were all given out, go before messages that came later. */
static void
test_further_recipients_keep_the_place_of_their_message(void **state)
{
    struct world *world = world_new();
    struct sched_target targets[2] = {{"smtp", "list.example", "c@list.example", 2},
                                      {"smtp", "list.example", "d@list.example", 3}};
    struct arena *pass = arena_new();
    struct sched_message *first;

    (void)state;
    world->limits.window.initial = 1;
    world->limits.request_limit = 1;
    world->limits.memory_limit = 5;
    world->limits.recipient_limit = 2;
    first = add(world, "smtp", "list.example", 2, true);
    add(world, "smtp", "list.example", 1, true);
    add(world, "smtp", "other.example", 1, true);
    assert_int_equal(world->count, 1);
    assert_int_equal(sched_room(first), 1);
    sched_add(world->sched, first, pass, targets, 2, world->now);
    assert_int_equal(sched_room(first), 0);
    finish(world, 0, SCHED_OK);
    assert_ptr_equal(world->given[1]->message, first);
    assert_int_equal(world->given[1]->recipients[0], 2);
    finish(world, 1, SCHED_OK);
    assert_int_equal(first->open, 0);
    arena_free(&pass);
    assert_int_equal(sched_room(first), 3);
    for (unsigned i = 2; i < 4; i++)
        finish(world, i, SCHED_OK);
    assert_int_equal(world->count, 4);
    assert_int_equal(sched_room(first), 5);
    world_free(world);
}

static void
test_failed_transport_puts_all_off(void **state)
{
    struct world *world = world_new();
    struct sched_message *other;

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        add(world, "smtp", "a.example", 3, false);
    add(world, "local", "a.example", 1, true);
    for (unsigned i = 0; i < world->count; i++)
        if (strcmp(sched_entry_transport(world->given[i]), "smtp") == 0)
            sched_retry(world->sched, world->given[i], 0, world->now);
    sched_fail_transport(world->sched, "smtp", "4.4.1", "mail transport unavailable", world->now, SECONDS(60));
    sched_run(world->sched, world->now);
    assert_int_equal(world->put_off, 30);
    other = add(world, "smtp", "new.example", 1, true);
    assert_int_equal(other->open, 0);
    world->now += SECONDS(61);
    other = add(world, "smtp", "new.example", 1, true);
    assert_int_equal(other->open, 1);
    other = add(world, "smtp", "0001.a.example", 1, true);
    assert_int_equal(other->open, 1);
    world_free(world);
}

/* Random work with a model of what must hold: each recipient is given out once, windows and limits are kept. */
static void
test_random_work_loses_and_doubles_nothing(void **state)
{
    struct world *world = world_new();
    unsigned ended = 0, added = 0;
    uint64_t random = 12345;

    (void)state;
    world->limits.request_limit = 9;
    world->limits.recipient_limit = 3;
    while (added < 1500 || ended < world->count) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        unsigned dice = (unsigned)(random >> 33);
        world->now += dice % 1000;
        if (added < 1500 && dice % 3 == 0) {
            char domain[32];
            snprintf(domain, sizeof(domain), "d%u.example", dice % 17);
            add(world, "smtp", domain, 1 + dice % 23, dice % 5 == 0);
            added++;
        } else if (ended < world->count) {
            assert_true(world->count - ended <= 9);
            finish(world, ended++, dice % 11 == 0 ? SCHED_BUSY : SCHED_OK);
        }
        if (world->count + 100 > MOST) {
            memmove(world->given, world->given + ended, (world->count - ended) * sizeof(*world->given));
            world->count -= ended;
            ended = 0;
        }
    }
    assert_int_equal(sched_next_wakeup(world->sched), 0);
    world->now += SECONDS(61);
    sched_sweep(world->sched, world->now);
    assert_int_equal(sched_window(world->sched, "smtp", "d1.example"), -1);
    world_free(world);
}

static void
test_feedback_text(void **state)
{
    static const struct {
        const char *in;
        double factor;
        int scale;
    } good[] = {{"1", 1, FEEDBACK_FIXED},
                {"0.25", 0.25, FEEDBACK_FIXED},
                {"1/concurrency", 1, FEEDBACK_BY_CONCURRENCY},
                {" 0.5 / sqrt_concurrency ", 0.5, FEEDBACK_BY_SQRT_CONCURRENCY}};
    static const char *const bad[] = {"", "x", "-1", "2", "nan", "1/", "1/x", "1 concurrency"};
    struct window_feedback feedback;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(window_feedback_parse(good[i].in, &feedback, &err), 0);
        assert_true(feedback.factor > good[i].factor - 0.001 && feedback.factor < good[i].factor + 0.001);
        assert_int_equal(feedback.scale, good[i].scale);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(window_feedback_parse(bad[i], &feedback, &err), -1);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_opens_with_success),
        cmocka_unit_test(test_window_feedback_by_concurrency_grows_once_a_window),
        cmocka_unit_test(test_busy_shrinks_the_window_but_never_kills),
        cmocka_unit_test(test_dead_destinations_get_another_chance),
        cmocka_unit_test(test_dead_destination_puts_all_off_until_its_time_is_over),
        cmocka_unit_test(test_success_between_failures_keeps_it_alive),
        cmocka_unit_test(test_recipients_of_a_destination_share_requests),
        cmocka_unit_test(test_one_recipient_limit_makes_a_queue_for_each_mailbox),
        cmocka_unit_test(test_request_limit_of_a_transport),
        cmocka_unit_test(test_destinations_take_turns_within_a_message),
        cmocka_unit_test(test_small_message_passes_a_large_one),
        cmocka_unit_test(test_without_preemption_first_come_first_served),
        cmocka_unit_test(test_retry_puts_it_in_front_after_a_pause),
        cmocka_unit_test(test_rate_delay_sends_one_at_a_time),
        cmocka_unit_test(test_withdraw_ends_what_waits),
        cmocka_unit_test(test_further_recipients_keep_the_place_of_their_message),
        cmocka_unit_test(test_failed_transport_puts_all_off),
        cmocka_unit_test(test_random_work_loses_and_doubles_nothing),
        cmocka_unit_test(test_feedback_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
