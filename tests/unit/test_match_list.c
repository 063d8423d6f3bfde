/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table: lists of domains and networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/table/match_list.h"
#include "lib/table/table.h"
#include "tests/unit/with_tables.h"

static struct match_list *
make(const char *text, unsigned flags)
{
    struct err err;
    struct match_list *list = match_list_new(arena, conf, "mynetworks", text, flags, &err);

    if (!list)
        print_error("%s\n", err.text);
    assert_non_null(list);
    return list;
}

static void
test_domains(void **state)
{
    static const struct {
        const char *list, *domain;
        unsigned flags;
        bool found;
    } rows[] = {
        {"", "a.test", 0, false},
        {"a.test", "a.test", 0, true},
        {"a.test", "A.Test", 0, true},
        {"a.test", "b.a.test", 0, false},
        {"a.test", "b.a.test", MATCH_SUBDOMAINS, true},
        {"a.test", "ba.test", MATCH_SUBDOMAINS, false},
        {".a.test", "a.test", 0, false},
        {".a.test", "b.a.test", 0, true},
        {"b.test, a.test", "a.test", 0, true},
        {"!a.test a.test", "a.test", 0, false},
        {"!b.a.test a.test", "c.a.test", MATCH_SUBDOMAINS, true},
        {"!b.a.test a.test", "b.a.test", MATCH_SUBDOMAINS, false},
        {"192.0.2.1", "192.0.2.1", 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        bool found;
        assert_int_equal(match_list_domain(make(rows[i].list, rows[i].flags), slice_from(rows[i].domain), &found, &err),
                         0);
        if (found != rows[i].found)
            print_error("row %zu\n", i);
        assert_int_equal(found, rows[i].found);
    }
}

static void
test_hosts(void **state)
{
    static const struct {
        const char *list, *name, *address;
        bool found;
    } rows[] = {
        {"127.0.0.0/8 [::1]/128", "", "127.0.0.1", true},
        {"127.0.0.0/8 [::1]/128", "", "126.255.255.255", false},
        {"127.0.0.0/8 [::1]/128", "", "::1", true},
        {"127.0.0.0/8 [::1]/128", "", "::2", false},
        {"127.0.0.0/8", "", "::ffff:127.0.0.5", true},
        {"192.0.2.128/25", "", "192.0.2.127", false},
        {"192.0.2.128/25", "", "192.0.2.128", true},
        {"0.0.0.0/0", "", "203.0.113.9", true},
        {"0.0.0.0/0", "", "2001:db8::1", false},
        {"[2001:db8::]/33", "", "2001:db8:7fff::1", true},
        {"[2001:db8::]/33", "", "2001:db8:8000::1", false},
        {"!192.0.2.1, 192.0.2.0/24", "", "192.0.2.1", false},
        {"!192.0.2.1, 192.0.2.0/24", "", "192.0.2.2", true},
        {"host.test", "host.test", "192.0.2.1", true},
        {"host.test", "unknown", "192.0.2.1", false},
        {"unknown", "unknown", "192.0.2.1", false},
        {"[192.0.2.1]", "", "192.0.2.1", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net_addr addr;
        struct err err;
        bool found;
        assert_int_equal(net_addr_parse(rows[i].address, 25, &addr, &err), 0);
        assert_int_equal(match_list_host(make(rows[i].list, 0), slice_from(rows[i].name), &addr, &found, &err), 0);
        if (found != rows[i].found)
            print_error("row %zu\n", i);
        assert_int_equal(found, rows[i].found);
    }
}

static void
test_malformed_lists_are_refused(void **state)
{
    static const char *const rows[] = {"192.0.2.1/24",
                                       "192.0.2.0/33",
                                       "[2001:db8::1]/32",
                                       "[nonsense]",
                                       "192.0.2/24",
                                       "192.0.2.0/x",
                                       "!",
                                       "/no/such/file",
                                       "192.0.2.0/",
                                       "[::1",
                                       "192.0.2.0/-1"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        struct match_list *list = match_list_new(arena, conf, "mynetworks", rows[i], 0, &err);
        if (list)
            print_error("%s\n", rows[i]);
        assert_null(list);
        assert_non_null(strstr(err.text, "mynetworks"));
    }
}

static void
test_a_table_is_an_error_not_a_no(void **state)
{
    struct match_list *list = make("a.test, hash:/etc/postfix/x, b.test", 0);
    struct err err;
    bool found;
    (void)state;
    assert_int_equal(match_list_domain(list, slice_from("a.test"), &found, &err), 0);
    assert_true(found);
    assert_int_equal(match_list_domain(list, slice_from("b.test"), &found, &err), -1);
    assert_int_equal(err.kind, ERR_TEMP);
}

static void
test_tables(void **state)
{
    static const struct {
        const char *list, *domain;
        unsigned flags;
        bool found;
    } rows[] = {
        {"inline:{a.test=x}", "A.Test", 0, true},
        {"inline:{a.test=x}", "b.a.test", 0, false},
        {"inline:{a.test=x}", "b.a.test", MATCH_SUBDOMAINS, true},
        {"inline:{.a.test=x}", "b.a.test", 0, true},
        {"inline:{.a.test=x}", "c.b.a.test", 0, true},
        {"inline:{.a.test=x}", "a.test", 0, false},
        {"!inline:{a.test=x}, a.test, b.test", "a.test", 0, false},
        {"!inline:{a.test=x}, a.test, b.test", "b.test", 0, true},
        {"inline:{ {a.test = x y}, {b.test = z} }", "b.test", 0, true},
        {"static:all", "anything.test", 0, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        bool found;
        assert_int_equal(match_list_domain(make(rows[i].list, rows[i].flags), slice_from(rows[i].domain), &found, &err),
                         0);
        if (found != rows[i].found)
            fail_msg("%s in %s", rows[i].domain, rows[i].list);
    }
}

static void
test_file(void **state)
{
    char path[] = "/tmp/match_list.XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "# a comment\na.test b.test\n\n!c.d.test # another\n.d.test\n";
    struct err err;
    bool found;
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    struct match_list *list = make(path, 0);
    static const struct {
        const char *domain;
        bool found;
    } rows[] = {{"a.test", true}, {"b.test", true}, {"c.d.test", false}, {"x.d.test", true}, {"comment", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(match_list_domain(list, slice_from(rows[i].domain), &found, &err), 0);
        assert_int_equal(found, rows[i].found);
    }
    list = make(arena_printf(arena, "!%s", path), 0);
    assert_int_equal(match_list_domain(list, slice_from("c.d.test"), &found, &err), 0);
    assert_true(found);
    assert_int_equal(match_list_domain(list, slice_from("a.test"), &found, &err), 0);
    assert_false(found);
    unlink(path);
}

static void
test_flags(void **state)
{
    (void)state;
    assert_int_equal(match_list_flags("debug_peer_list,relay_domains, mynetworks", "relay_domains"), MATCH_SUBDOMAINS);
    assert_int_equal(match_list_flags("debug_peer_list,relay_domains", "mynetworks"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_malformed_lists_are_refused),
        cmocka_unit_test(test_a_table_is_an_error_not_a_no),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_flags),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
