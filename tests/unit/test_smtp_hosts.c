/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "smtp/content.h"
#include "smtp/dane.h"
#include "smtp/destination.h"
#include "smtp/hosts.h"

/* ---- destinations ---- */

static void
test_destinations(void **state)
{
    static const struct {
        const char *text;
        bool lmtp;
        int kind; /* -1: refused */
        const char *name;
        unsigned port;
    } cases[] = {
        {"example.com", false, DESTINATION_DOMAIN, "example.com", 25},
        {"example.com:2525", false, DESTINATION_DOMAIN, "example.com", 2525},
        {"example.com:submission", false, DESTINATION_DOMAIN, "example.com", 587},
        {"[mx.example.com]", false, DESTINATION_HOST, "mx.example.com", 25},
        {"[mx.example.com]:587", false, DESTINATION_HOST, "mx.example.com", 587},
        {"[192.0.2.1]", false, DESTINATION_ADDRESS, "192.0.2.1", 25},
        {"[192.0.2.1]:26", false, DESTINATION_ADDRESS, "192.0.2.1", 26},
        {"192.0.2.1", false, DESTINATION_ADDRESS, "192.0.2.1", 25},
        {"192.0.2.1:26", false, DESTINATION_ADDRESS, "192.0.2.1", 26},
        {"[IPv6:2001:db8::1]", false, DESTINATION_ADDRESS, "2001:db8::1", 25},
        {"[2001:db8::1]:26", false, DESTINATION_ADDRESS, "2001:db8::1", 26},
        {"2001:db8::1", false, DESTINATION_ADDRESS, "2001:db8::1", 25},
        {"inet:[127.0.0.1]:24", true, DESTINATION_ADDRESS, "127.0.0.1", 24},
        {"inet:host:24", true, DESTINATION_HOST, "host", 24},
        {"host", true, DESTINATION_HOST, "host", 25},
        {"unix:private/lmtp", true, DESTINATION_UNIX, "private/lmtp", 25},
        {"unix:private", false, -1, NULL, 0},
        {"unix:", true, -1, NULL, 0},
        {"", false, -1, NULL, 0},
        {"[", false, -1, NULL, 0},
        {"[]", false, -1, NULL, 0},
        {"[mx", false, -1, NULL, 0},
        {"[mx]x", false, -1, NULL, 0},
        {"[mx]:", false, -1, NULL, 0},
        {"mx:0", false, -1, NULL, 0},
        {"mx:65536", false, -1, NULL, 0},
        {"mx:nosuchport", false, -1, NULL, 0},
        {":25", false, -1, NULL, 0},
        {"inet:", false, -1, NULL, 0},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct arena *arena = arena_new();
        struct destination to;
        print_message("%s\n", cases[i].text);
        int result = destination_parse(arena, slice_from(cases[i].text), 25, cases[i].lmtp, &to, NULL);
        assert_int_equal(result, cases[i].kind < 0 ? -1 : 0);
        if (result == 0) {
            assert_int_equal(to.kind, cases[i].kind);
            assert_string_equal(to.name, cases[i].name);
            assert_int_equal(to.port, cases[i].port);
        }
        arena_free(&arena);
    }
}

/* ---- the order of hosts ---- */

static struct host
make_host(const char *address, unsigned preference)
{
    struct host host = {.name = address, .preference = preference};

    assert_int_equal(net_addr_parse(address, 25, &host.addr, NULL), 0);
    return host;
}

static uint32_t
first(uint32_t n)
{
    (void)n;
    return 0;
}

static uint32_t
middle(uint32_t n)
{
    return n / 2;
}

static uint32_t
last(uint32_t n)
{
    return n - 1;
}

static const char *
names(const struct host_list *list, char *text, size_t size)
{
    *text = '\0';
    for (size_t i = 0; i < list->count; i++)
        snprintf(text + strlen(text), size - strlen(text), "%s%s", i ? " " : "", list->hosts[i].name);
    return text;
}

static void
test_order(void **state)
{
    char text[200];
    (void)state;

    struct host hosts[] = {make_host("192.0.2.3", 20), make_host("192.0.2.1", 10), make_host("2001:db8::1", 10),
                           make_host("192.0.2.4", 5), make_host("192.0.2.2", 10)};
    struct host_list list = {hosts, 5};
    hosts_order(&list, false, HOST_ANY, first);
    assert_string_equal(names(&list, text, sizeof(text)), "192.0.2.4 192.0.2.1 2001:db8::1 192.0.2.2 192.0.2.3");
    hosts_order(&list, false, HOST_IPV6, first);
    assert_string_equal(names(&list, text, sizeof(text)), "192.0.2.4 2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3");
    hosts_order(&list, false, HOST_IPV4, first);
    assert_string_equal(names(&list, text, sizeof(text)), "192.0.2.4 192.0.2.1 192.0.2.2 2001:db8::1 192.0.2.3");
    hosts_order(&list, true, HOST_ANY, last); /* a shuffle that leaves all where it is */
    assert_string_equal(names(&list, text, sizeof(text)), "192.0.2.4 192.0.2.1 192.0.2.2 2001:db8::1 192.0.2.3");
    hosts_order(&list, true, HOST_ANY, middle); /* one that moves, but not across preferences */
    assert_string_equal(list.hosts[0].name, "192.0.2.4");
    assert_string_equal(list.hosts[4].name, "192.0.2.3");
    assert_string_not_equal(names(&list, text, sizeof(text)), "192.0.2.4 192.0.2.1 192.0.2.2 2001:db8::1 192.0.2.3");
}

static bool
is_self(const void *ctx, const struct net_addr *addr)
{
    return net_addr_equal_host(ctx, addr);
}

static void
test_self(void **state)
{
    static const struct {
        const char *self, *left;
        bool found;
    } cases[] = {
        {"192.0.2.9", "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4", false},
        {"192.0.2.4", "192.0.2.1 192.0.2.2 192.0.2.3", true},
        {"192.0.2.3", "192.0.2.1", true},
        {"192.0.2.2", "192.0.2.1", true},
        {"192.0.2.1", "", true},
    };
    char text[200];
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct host hosts[] = {make_host("192.0.2.1", 10), make_host("192.0.2.2", 20), make_host("192.0.2.3", 20),
                               make_host("192.0.2.4", 30)};
        struct host_list list = {hosts, 4};
        struct net_addr self = make_host(cases[i].self, 0).addr;
        assert_int_equal(hosts_drop_from_self(&list, is_self, &self), cases[i].found);
        assert_string_equal(names(&list, text, sizeof(text)), cases[i].left);
    }
}

/* ---- long lines ---- */

static void
test_fold(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"12345\r\n", "12345\r\n"},
        {"123456\r\n", "12345\r\n 6\r\n"},
        {"12345678901\r\n.\r\n", "12345\r\n 6789\r\n 01\r\n.\r\n"},
        {"1234.\r\n..\r\n12345.\r\n", "1234.\r\n..\r\n12345\r\n .\r\n"},
        {"no end", "no en\r\n d"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (size_t split = 0; split <= strlen(cases[i].in); split++) {
            struct line_folder folder = {0};
            struct buf out = {0};
            content_fold(&folder, slice_make(cases[i].in, split), 5, &out);
            content_fold(&folder, slice_from(cases[i].in + split), 5, &out);
            assert_string_equal(buf_text(&out), cases[i].out);
            buf_release(&out);
        }
}

static void
test_tlsa_records(void **state)
{
    static const char *const bad[] = {"",         "3 1",        "3 1 1",     "3 1 1 ",      "3 1 1 abc",
                                      "3 1 1 zz", "256 1 1 ab", "-1 1 1 ab", "3 1 1 ab cd", "3 1 x ab"};
    struct arena *arena = arena_new();
    struct tls_dane_record record;

    (void)state;
    assert_true(dane_parse(arena, "3 1 2 00fFa5", &record));
    assert_int_equal(record.usage, 3);
    assert_int_equal(record.selector, 1);
    assert_int_equal(record.matching, 2);
    assert_int_equal(record.data.len, 3);
    assert_memory_equal(record.data.ptr, "\x00\xff\xa5", 3);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(dane_parse(arena, bad[i], &record));
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tlsa_records), cmocka_unit_test(test_destinations), cmocka_unit_test(test_order),
        cmocka_unit_test(test_self),         cmocka_unit_test(test_fold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
