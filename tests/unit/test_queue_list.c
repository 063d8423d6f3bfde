/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <time.h>

#include "lib/mail/queue_list.h"

static struct queue_list_recipient recipients[] = {
    {"x@far.test", "connect to far.test[192.0.2.1]:25: Connection refused"},
    {"y@far.test", "connect to far.test[192.0.2.1]:25: Connection refused"},
    {"z@far.test", ""}};
static const struct queue_list_message one = {.queue = "deferred",
                                              .id = "4F1A2100001",
                                              .sender = "a@src.test",
                                              .time = 1795503621,
                                              .size = 1234,
                                              .recipients = recipients,
                                              .recipient_count = 3};

static void
test_list_for_people(void **state)
{
    struct queue_list_totals totals = {0};
    struct queue_list_message held = {
        .queue = "hold", .id = "4F1A2100002", .sender = "MAILER-DAEMON", .time = 1795503621, .size = 900};
    struct buf out = {0};

    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    queue_list_print(&one, false, &totals, &out);
    queue_list_print(&held, false, &totals, &out);
    queue_list_print_end(&totals, &out);
    assert_string_equal(buf_text(&out),
                        "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
                        "4F1A2100001     1234 Tue Nov 24 07:00:21  a@src.test\n"
                        "                       (connect to far.test[192.0.2.1]:25: Connection refused)\n"
                        "                                         x@far.test\n"
                        "                                         y@far.test\n"
                        "                                         z@far.test\n"
                        "\n"
                        "4F1A2100002!     900 Tue Nov 24 07:00:21  MAILER-DAEMON\n"
                        "\n"
                        "-- 2 Kbytes in 2 Requests.\n");
    buf_release(&out);
}

static void
test_empty_and_single(void **state)
{
    struct queue_list_totals totals = {0};
    struct buf out = {0};

    (void)state;
    queue_list_print_end(&totals, &out);
    assert_string_equal(buf_text(&out), "Mail queue is empty\n");
    buf_clear(&out);
    totals = (struct queue_list_totals){1, 3000};
    queue_list_print_end(&totals, &out);
    assert_string_equal(buf_text(&out), "\n-- 2 Kbytes in 1 Request.\n");
    buf_release(&out);
}

static void
test_json_escapes(void **state)
{
    struct queue_list_recipient odd = {"\"q\\\"@far.test", "tab\tand\x01"};
    struct queue_list_message message = one;
    struct buf out = {0};

    (void)state;
    message.recipients = &odd;
    message.recipient_count = 1;
    queue_list_print_json(&message, &out);
    assert_string_equal(buf_text(&out),
                        "{\"queue_name\": \"deferred\", \"queue_id\": \"4F1A2100001\", \"arrival_time\": 1795503621, "
                        "\"message_size\": 1234, \"forced_expire\": false, \"sender\": \"a@src.test\", \"recipients\": "
                        "[{\"address\": \"\\\"q\\\\\\\"@far.test\", \"delay_reason\": \"tab\\tand\\u0001\"}]}\n");
    buf_release(&out);
}

/* At every split of the bytes: not there yet, until it is. */
static void
test_what_was_encoded_is_decoded(void **state)
{
    struct arena *arena = arena_new();
    struct queue_list_message message;
    struct buf out = {0};
    struct err err;
    size_t used;

    (void)state;
    queue_list_encode(&one, &out);
    size_t whole = out.len;
    queue_list_encode_end(&out);
    for (size_t n = 0; n < whole; n++)
        assert_int_equal(queue_list_decode(arena, slice_make(out.ptr, n), &used, &message, &err), 0);
    assert_int_equal(queue_list_decode(arena, buf_slice(&out), &used, &message, &err), 1);
    assert_int_equal(used, whole);
    assert_string_equal(message.id, one.id);
    assert_int_equal(message.time, one.time);
    assert_int_equal(message.recipient_count, 3);
    assert_string_equal(message.recipients[1].reason, recipients[1].reason);
    assert_int_equal(queue_list_decode(arena, slice_make(out.ptr + whole, 1), &used, &message, &err), 2);
    assert_int_equal(queue_list_decode(arena, slice_make("x\0y\0\0", 5), &used, &message, &err), -1);
    buf_release(&out);
    arena_free(&arena);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_for_people),
        cmocka_unit_test(test_empty_and_single),
        cmocka_unit_test(test_json_escapes),
        cmocka_unit_test(test_what_was_encoded_is_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
