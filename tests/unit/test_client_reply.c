/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/smtp/client_reply.h"
#include "smtp/features.h"

/* Feeds lines split by '\n' until the reply is complete or malformed; returns what the last one gave. */
static int
feed(struct client_reply *reply, struct arena *arena, const char *lines)
{
    struct slice rest = slice_from(lines), line;
    struct err err;
    int result = 0;

    *reply = (struct client_reply){.code = 0};
    while (result == 0 && slice_cut(&rest, '\n', &line))
        result = client_reply_line(reply, arena, line, &err);
    return result;
}

static void
test_replies(void **state)
{
    static const struct {
        const char *lines;
        int result, code;
        const char *dsn, *joined;
    } cases[] = {
        {"250 2.1.0 Ok", 1, 250, "2.1.0", "250 2.1.0 Ok"},
        {"250 Ok", 1, 250, "2.0.0", "250 Ok"},
        {"354", 1, 354, "3.0.0", "354"},
        {"550-5.7.1 one\n550 5.7.1 two", 1, 550, "5.7.1", "550-5.7.1 one 550 5.7.1 two"},
        {"553-\n553", 1, 553, "5.0.0", "553- 553"},
        {"550-no\n550 5.1.1 user", 1, 550, "5.1.1", "550-no 550 5.1.1 user"},
        {"550 4.1.1 wrong class", 1, 550, "5.0.0", "550 4.1.1 wrong class"},
        {"550 5.1.1", 1, 550, "5.1.1", "550 5.1.1"},
        {"550 5.1.1x", 1, 550, "5.0.0", "550 5.1.1x"},
        {"550 5.1234.1 x", 1, 550, "5.0.0", "550 5.1234.1 x"},
        {"550 5.123.999 x", 1, 550, "5.123.999", "550 5.123.999 x"},
        {"450-a\n550 5.2.2 b", 1, 550, "5.2.2", "450-a 550 5.2.2 b"},
        {"250 a\tb\001c", 1, 250, "2.0.0", "250 a?b?c"},
        {"250-a", 0, 250, "2.0.0", "250-a"},
        {"\n", -1, 0, NULL, NULL},
        {"25", -1, 0, NULL, NULL},
        {"150 no", -1, 0, NULL, NULL},
        {"600 no", -1, 0, NULL, NULL},
        {"250x", -1, 0, NULL, NULL},
        {"hello", -1, 0, NULL, NULL},
        {"250-a\nnonsense", -1, 0, NULL, NULL},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct arena *arena = arena_new();
        struct client_reply reply;
        print_message("%s\n", cases[i].lines);
        assert_int_equal(feed(&reply, arena, cases[i].lines), cases[i].result);
        if (cases[i].result >= 0) {
            assert_int_equal(reply.code, cases[i].code);
            assert_string_equal(reply.dsn, cases[i].dsn);
            assert_string_equal(client_reply_joined(&reply, arena), cases[i].joined);
        }
        arena_free(&arena);
    }
}

static void
test_endless_replies_are_bounded(void **state)
{
    struct arena *arena = arena_new();
    struct client_reply reply = {.code = 0};
    char line[1000];
    int result = 0;
    unsigned lines = 0;
    (void)state;

    memset(line, 'x', sizeof(line));
    memcpy(line, "250-", 4);
    while (result == 0) {
        result = client_reply_line(&reply, arena, slice_make(line, sizeof(line)), NULL);
        assert_true(++lines < 100000);
    }
    assert_int_equal(result, -1);
    assert_int_equal(strlen(reply.text), CLIENT_REPLY_TEXT);
    assert_true(arena_size(arena) < 4 * CLIENT_REPLY_TEXT);
    arena_free(&arena);
}

static void
test_a_nul_is_no_end(void **state)
{
    struct arena *arena = arena_new();
    struct client_reply reply = {.code = 0};
    (void)state;

    assert_int_equal(client_reply_line(&reply, arena, slice_make("550 a\0b", 7), NULL), 1);
    assert_string_equal(reply.text, "550 a?b");
    arena_free(&arena);
}

static void
test_features(void **state)
{
    static const struct {
        const char *text;
        unsigned features;
        int64_t size;
    } cases[] = {
        {"250 mx.test", 0, 0},
        {"250-mx.test\n250 PIPELINING", FEATURE_PIPELINING, 0},
        {"250-PIPELINING\n250-size 1000\n250 8bitmime", FEATURE_SIZE | FEATURE_8BITMIME, 1000},
        {"250-mx.test\n250-SIZE\n250-DSN\n250-STARTTLS\n250 SMTPUTF8",
         FEATURE_SIZE | FEATURE_DSN | FEATURE_STARTTLS | FEATURE_SMTPUTF8, 0},
        {"250-mx.test\n250-SIZE 99999999999999999999999\n250 PIPELININGS", FEATURE_SIZE, 0},
        {"250-mx.test\n250-SIZE -1\n250", FEATURE_SIZE, 0},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int64_t size;
        assert_int_equal(features_parse(cases[i].text, &size), cases[i].features);
        assert_int_equal(size, cases[i].size);
    }
    assert_int_equal(features_from_list(slice_from("pipelining, chunking,dsn")), FEATURE_PIPELINING | FEATURE_DSN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_endless_replies_are_bounded),
        cmocka_unit_test(test_a_nul_is_no_end),
        cmocka_unit_test(test_features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
