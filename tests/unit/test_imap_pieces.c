/* SPDX-License-Identifier: Apache-2.0 */
/* Small pieces of the IMAP session: PARTIAL ranges, threads that were made to be slow, dates that don't exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "imap/partial.h"
#include "imap/thread.h"
#include "lib/base/check.h"
#include "lib/imap/output.h"
#include "tests/unit/with_arena.h"

static void
test_partial_ranges(void **state)
{
    static const struct {
        const char *in;
        bool good;
        size_t count, skip, left;
    } cases[] = {{"1:10", true, 100, 0, 10},       {"10:1", true, 100, 0, 10},    {"91:200", true, 100, 90, 10},
                 {"101:200", true, 100, 0, 0},     {"-1:-10", true, 100, 90, 10}, {"-10:-1", true, 100, 90, 10},
                 {"-95:-200", true, 100, 0, 6},    {"1:1", true, 0, 0, 0},        {"0:1", false, 0, 0, 0},
                 {"1:-1", false, 0, 0, 0},         {"1", false, 0, 0, 0},         {"x", false, 0, 0, 0},
                 {"1:99999999999", false, 0, 0, 0}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct imap_input in = {.rest = slice_from(cases[i].in), .arena = arena};
        struct partial partial = {0};
        bool good = partial_take(&in, &partial) == 0;
        if (good != cases[i].good)
            fail_msg("%s", cases[i].in);
        size_t left = cases[i].count;
        if (good && (partial_cut(&partial, &left) != cases[i].skip && left > 0))
            fail_msg("%s: skips another number", cases[i].in);
        if (good && left != cases[i].left)
            fail_msg("%s: leaves %zu", cases[i].in, left);
    }
}

static void
test_dates_that_do_not_exist(void **state)
{
    static const int64_t times[] = {INT64_MAX, INT64_MIN, 253402300800, -99999999999999, 0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        struct buf out = {0};
        imap_put_date_time(&out, times[i]);
        assert_int_equal(out.len, strlen("\"17-Jul-1996 02:44:25 -0700\""));
        buf_release(&out);
    }
}

static size_t
count_nodes(const struct thread_node *node, size_t *depth)
{
    size_t count = 0, deep = 1;
    while (node) {
        count++;
        if (node->child) {
            node = node->child;
            deep++;
        } else {
            while (node && !node->next) {
                node = node->parent;
                deep--;
            }
            node = node ? node->next : NULL;
        }
        *depth = deep > *depth ? deep : *depth;
    }
    return count;
}

static struct slice
id(const char *what, size_t number)
{
    return slice_from(arena_printf(arena, "%s%zu@x", what, number));
}

/* A chain, and many small threads that are hung below its end one after the other. */
static void
test_threads_made_to_be_slow(void **state)
{
    enum { CHAIN = 40000, SMALL = 40000 };
    struct thread_message *messages = arena_array(arena, CHAIN + 2 * SMALL, sizeof(*messages));
    size_t count = 0, depth = 0;
    (void)state;
    for (size_t i = 0; i < CHAIN + 2 * (size_t)SMALL; i++) {
        size_t k = i < CHAIN ? i : (i - CHAIN) % SMALL;
        struct slice *references = arena_array(arena, 1, sizeof(*references));
        bool is_leaf = i >= CHAIN && i < CHAIN + SMALL;
        references[0] = i < CHAIN ? id("c", k ? k - 1 : CHAIN + 7) : is_leaf ? id("s", k) : id("c", CHAIN - 1);
        messages[count++] = (struct thread_message){.uid = (uint32_t)i + 1,
                                                    .sent = (int64_t)i,
                                                    .subject = slice_from("x"),
                                                    .id = i < CHAIN ? id("c", k)
                                                          : is_leaf ? id("l", k)
                                                                    : id("s", k),
                                                    .references = references,
                                                    .reference_count = 1};
    }
    assert_true(count_nodes(thread_by_references(arena, messages, count), &depth) >= count);
    assert_true(depth >= CHAIN);
}

static void
test_siblings_stay_in_order(void **state)
{
    struct thread_message messages[6] = {{0}};
    struct slice root = slice_from("r@x"), wrong = slice_from("w@x");
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        messages[i] = (struct thread_message){
            .uid = i + 1, .sent = 10 - (int)i, .subject = slice_from("x"), .id = i ? id("m", i) : root};
    struct slice chain[2] = {wrong, id("m", 3)}; /* says first that 3 hangs below another */
    messages[1].references = chain;
    messages[1].reference_count = 2;
    for (unsigned i = 2; i < 6; i++) {
        messages[i].references = &root;
        messages[i].reference_count = 1;
    }
    const struct thread_node *node = thread_by_references(arena, messages, 6);
    assert_null(node->next);
    assert_int_equal(node->message->uid, 1);
    static const unsigned order[] = {6, 5, 4, 3};
    unsigned i = 0;
    for (const struct thread_node *child = node->child; child; child = child->next)
        assert_int_equal(child->message->uid, order[i++]);
    assert_int_equal(i, 4);
    assert_int_equal(node->child->next->next->child->message->uid, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_partial_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dates_that_do_not_exist, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_made_to_be_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_siblings_stay_in_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
