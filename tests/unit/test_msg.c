/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it */
#include <cmocka.h>
#include <string.h>

#include "lib/run/msg.h"
#include "tests/unit/with_arena.h"

struct item {
    const char *address;
    int64_t status;
    const char *text;
};

struct letter {
    const char *sender;
    int64_t size;
    const char *note;
    int64_t must;
    struct item *items;
    size_t count;
};

static const struct msg_field item_fields[] = {
    {"address", MSG_TEXT, offsetof(struct item, address), 0, 10},
    {"status", MSG_INT, offsetof(struct item, status), -5, 5},
    {"text", MSG_TEXT, offsetof(struct item, text), 0, 10},
};

static const struct msg_field letter_fields[] = {
    {"sender", MSG_TEXT, offsetof(struct letter, sender), 0, 10},
    {"size", MSG_INT, offsetof(struct letter, size), INT64_MIN, INT64_MAX},
    {"note", MSG_TEXT, offsetof(struct letter, note), 0, 300},
    {"must", MSG_INT, offsetof(struct letter, must), 1, 3},
};

static const struct msg_type letter_type = {
    .name = "letter",
    .code = 16,
    .size = sizeof(struct letter),
    .fields = letter_fields,
    .field_count = ARRAY_LEN(letter_fields),
    .item_size = sizeof(struct item),
    .items_offset = offsetof(struct letter, items),
    .count_offset = offsetof(struct letter, count),
    .item_fields = item_fields,
    .item_field_count = ARRAY_LEN(item_fields),
    .item_max = 6,
};

#define BYTES(text) ((struct slice){text, sizeof(text) - 1})

static void
test_encodes_in_table_order_and_leaves_out_what_is_empty(void **state)
{
    struct item items[] = {{"a@b", 0, ""}, {"", -3, "x"}};
    struct letter letter = {"me", 0, NULL, 2, items, 2};
    struct buf out = {0};

    (void)state;
    msg_encode(&letter_type, &letter, &out);
    assert_true(
        slice_equal(buf_slice(&out), BYTES("sender\0me\0must\0002\0address\0a@b\0address\0\0status\0-3\0text\0x\0\0")));
    buf_release(&out);
}

static void
test_decodes_what_it_encodes(void **state)
{
    struct item items[6] = {{"1", 1, ""}, {"", 0, "t"}, {"3", -5, "u"}, {"4", 5, ""}, {"5", 0, ""}, {"6", 2, "z"}};
    struct letter letter = {"", INT64_MIN, "note", 3, items, 6}, *got;
    struct buf out = {0};
    struct slice rest;
    struct err err;

    (void)state;
    msg_encode(&letter_type, &letter, &out);
    buf_append_text(&out, "payload");
    got = msg_decode(arena, &letter_type, buf_slice(&out), &rest, &err);
    assert_non_null(got);
    assert_string_equal(got->sender, "");
    assert_true(got->size == INT64_MIN);
    assert_string_equal(got->note, "note");
    assert_int_equal(got->must, 3);
    assert_int_equal(got->count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(got->items[i].address, items[i].address);
        assert_int_equal(got->items[i].status, items[i].status);
        assert_string_equal(got->items[i].text, items[i].text);
    }
    assert_true(slice_equal_text(rest, "payload"));
    buf_release(&out);
}

static void
test_refuses_what_is_malformed(void **state)
{
    static const struct {
        const char *name;
        struct slice in;
    } rows[] = {
        {"nothing", BYTES("")},
        {"no end", BYTES("must\0001\0")},
        {"name cut", BYTES("must\0001\0send")},
        {"value cut", BYTES("must\0001\0sender\0m")},
        {"unknown name", BYTES("nosuch\0001\0must\0001\0\0")},
        {"wrong order", BYTES("must\0001\0sender\0me\0\0")},
        {"twice", BYTES("sender\0me\0sender\0me\0must\0001\0\0")},
        {"empty text that is sent", BYTES("sender\0\0must\0001\0\0")},
        {"zero that is sent", BYTES("size\0000\0must\0001\0\0")},
        {"text over its limit", BYTES("sender\000elevenbytes\0must\0001\0\0")},
        {"number over its range", BYTES("must\0004\0\0")},
        {"number missing", BYTES("sender\0me\0\0")},
        {"no number", BYTES("must\0x\0\0")},
        {"empty number", BYTES("must\0\0\0")},
        {"plus", BYTES("must\0+1\0\0")},
        {"leading zero", BYTES("must\00001\0\0")},
        {"minus zero", BYTES("size\0-0\0must\0001\0\0")},
        {"number over 64 bits", BYTES("size\09223372036854775808\0must\0001\0\0")},
        {"number under 64 bits", BYTES("size\0-9223372036854775809\0must\0001\0\0")},
        {"item without its first field", BYTES("must\0001\0status\0001\0\0")},
        {"item field twice", BYTES("must\0001\0address\0a\0status\0001\0status\0001\0\0")},
        {"item fields out of order", BYTES("must\0001\0address\0a\0text\0a\0status\0001\0\0")},
        {"field after the list", BYTES("address\0a\0must\0001\0\0")},
        {"too many items",
         BYTES("must\0001\0address\0a\0address\0a\0address\0a\0address\0a\0address\0a\0address\0a\0address\0a\0\0")},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice rest;
        struct err err = {0};

        if (msg_decode(arena, &letter_type, rows[i].in, &rest, &err))
            fail_msg("%s: was decoded", rows[i].name);
        if (err.kind != ERR_SYNTAX)
            fail_msg("%s: %s", rows[i].name, err.text);
    }
}

static void
test_dump_is_one_printable_line(void **state)
{
    struct item items[] = {{"a\nb", 1, ""}};
    struct letter letter = {"me", 7, "", 1, items, 1};
    struct buf out = {0};

    (void)state;
    msg_dump(&letter_type, &letter, &out);
    assert_string_equal(buf_text(&out), "letter sender=me size=7 must=1 { address=a?b status=1 }");
    buf_release(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_encodes_in_table_order_and_leaves_out_what_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decodes_what_it_encodes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses_what_is_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dump_is_one_printable_line, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
