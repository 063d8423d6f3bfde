/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "resolver/hosts_file.h"
#include "resolver/packet.h"

/* A message with the question "a.test" and what stands in the rest. */
#define HEADER(rcode, answers)              "\0\1\x81" rcode "\0\1\0" answers "\0\0\0\0\1a\4test\0\0\1\0\1"
#define RECORD(owner, type, ttl, len, data) owner "\0" type "\0\1\0\0\0" ttl "\0" len data
#define MESSAGE(text)          \
    {                          \
        text, sizeof(text) - 1 \
    }

static const struct {
    const char *name;
    struct slice packet;
    const char *type;
    int status; /* -1: malformed */
    const char *records;
} cases[] = {
    {"address", MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\1", "\x3c", "\4", "\x7f\0\0\2")), "A", DNS_FOUND,
     "a.test 127.0.0.2 0"},
    {"MX, compressed", MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\x0f", "\x3c", "\7", "\0\x0a\2mx\xc0\x0c")),
     "MX", DNS_FOUND, "a.test mx.a.test 10"},
    {"null MX", MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\x0f", "\x3c", "\3", "\0\0\0")), "MX", DNS_FOUND,
     "a.test . 0"},
    {"alias and address",
     MESSAGE(HEADER("\x80", "\2") RECORD("\xc0\x0c", "\5", "\x3c", "\4", "\1b\xc0\x0e")
                 RECORD("\1b\xc0\x0e", "\1", "\x0a", "\4", "\x7f\0\0\3")),
     "A", DNS_FOUND, "b.test 127.0.0.3 0"},
    {"no such name", MESSAGE(HEADER("\x83", "\0")), "A", DNS_NXDOMAIN, ""},
    {"no such record", MESSAGE(HEADER("\x80", "\0")), "A", DNS_NODATA, ""},
    {"server failure", MESSAGE(HEADER("\x82", "\0")), "A", DNS_FAIL, ""},
    {"address of 3 bytes is left out", MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\1", "\x3c", "\3", "\x7f\0\0")),
     "A", DNS_NODATA, ""},
    {"name with a blank is left out",
     MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\x0f", "\x3c", "\7", "\0\x0a\3m x\0")), "MX", DNS_NODATA, ""},
    {"name with a dot in a label is left out",
     MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\x0f", "\x3c", "\7", "\0\x0a\3m.x\0")), "MX", DNS_NODATA, ""},
    {"bytes behind the name", MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\x0f", "\x3c", "\6", "\0\x0a\1m\0x")),
     "MX", DNS_NODATA, ""},
    {"name that runs out of its record",
     MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\x0f", "\x3c", "\4", "\0\x0a\2m")), "MX", DNS_NODATA, ""},
    {"pointer to itself", MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x18", "\1", "\x3c", "\4", "\x7f\0\0\2")), "A", -1,
     ""},
    {"record longer than the message",
     MESSAGE(HEADER("\x80", "\1") RECORD("\xc0\x0c", "\1", "\x3c", "\5", "\x7f\0\0\2")), "A", -1, ""},
    {"fewer records than announced", MESSAGE(HEADER("\x80", "\2") RECORD("\xc0\x0c", "\1", "\x3c", "\4", "\x7f\0\0\2")),
     "A", -1, ""},
    {"cut in the header", MESSAGE("\0\1\x81\x80"), "A", -1, ""},
};

static void
test_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct arena *arena = arena_new();
        struct msg_dns_answer answer = {.status = 0};
        char got[400] = "";
        print_message("%s\n", cases[i].name);
        int result = packet_read(arena, cases[i].packet, packet_type(cases[i].type), &answer, NULL);
        assert_int_equal(result < 0 ? -1 : (int)answer.status, cases[i].status);
        for (size_t n = 0; n < answer.record_count; n++)
            snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s %s %d", n ? ", " : "", answer.records[n].name,
                     answer.records[n].data, (int)answer.records[n].preference);
        assert_string_equal(got, cases[i].records);
        arena_free(&arena);
    }
}

static void
test_names(void **state)
{
    static const char *const good[] = {"a",    "a.test", "a.test.", "_25._tcp.mx.test", "0/25.2.0.192.in-addr.arpa",
                                       "A-b.c"};
    static const char *const bad[] = {"",
                                      ".",
                                      "a..b",
                                      ".a",
                                      "a b",
                                      "a\tb",
                                      "\xc3\xa4.test",
                                      "a@b",
                                      "a..",
                                      "1234567890123456789012345678901234567890123456789012345678901234.test"};
    (void)state;

    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_true(packet_is_name(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(packet_is_name(bad[i]));
}

static void
test_hosts(void **state)
{
    static const struct {
        const char *name, *found;
    } rows[] = {
        {"localhost", "127.0.0.1 ::1"},
        {"LOCALHOST.", "127.0.0.1 ::1"},
        {"b", "192.0.2.1"},
        {"c", ""},
        {"commented", ""},
        {"x", "192.0.2.2"},
    };
    static const char text[] =
        "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n#192.0.2.9 commented\n192.0.2.1 a.test b # c\n"
        "nonsense d\n\n   \n192.0.2.2 bad@name x";
    struct arena *arena = arena_new();
    struct hosts_file *hosts = hosts_file_parse(arena, slice_from(text));
    (void)state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct msg_dns_answer answer = {.status = 0};
        char got[200] = "";
        assert_int_equal(hosts_file_addresses(hosts, arena, rows[i].name, &answer), *rows[i].found != '\0');
        for (size_t n = 0; n < answer.record_count; n++)
            snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", n ? " " : "", answer.records[n].data);
        assert_string_equal(got, rows[i].found);
    }
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
