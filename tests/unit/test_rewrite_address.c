/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/conf/interfaces.h"
#include "lib/mail/addr_form.h"
#include "lib/mail/messages.h"
#include "lib/mail/resolve.h"
#include "lib/table/table.h"

/* A host "mail.us.test" whose domains are us.test (local), alias.test, virtual.test and relay.test. */
static struct rewrite_settings
settings(const char *relayhost)
{
    return (struct rewrite_settings){
        .allow_percent_hack = true,
        .append_at_myorigin = true,
        .append_dot_mydomain = true,
        .swap_bangpath = true,
        .resolve_dequoted_address = true,
        .show_user_unknown_table_name = true,
        .myorigin = "us.test",
        .mydomain = "us.test",
        .myhostname = "mail.us.test",
        .mydestination = "us.test, mail.us.test",
        .virtual_alias_domains = "alias.test",
        .virtual_mailbox_domains = "virtual.test",
        .relay_domains = "relay.test",
        .parent_domain_matches_subdomains = "relay_domains",
        .relayhost = relayhost,
        .local_transport = "local:mail.us.test",
        .virtual_transport = "virtual",
        .relay_transport = "relay",
        .default_transport = "smtp",
        .empty_address_recipient = "MAILER-DAEMON",
    };
}

static void
free_conf(void *conf)
{
    tables_close_all();
    conf_free((struct conf **)conf);
}

static struct routes *
routes(const struct rewrite_settings *s, struct arena *arena)
{
    struct conf **conf = ARENA_NEW(arena, struct conf *);
    struct interfaces *own = ARENA_NEW(arena, struct interfaces), *proxy = ARENA_NEW(arena, struct interfaces);
    struct err err;

    own->addrs = ARENA_NEW(arena, struct net_addr);
    proxy->addrs = ARENA_NEW(arena, struct net_addr);
    own->count = proxy->count = 1;
    assert_int_equal(net_addr_parse("127.0.0.1", 0, own->addrs, &err), 0);
    assert_int_equal(net_addr_parse("192.0.2.7", 0, proxy->addrs, &err), 0);
    *conf = conf_from_text("/etc/postfix", slice_from(""), &err);
    assert_non_null(*conf);
    arena_defer(arena, free_conf, conf);
    return routes_new(arena, *conf, s, own, proxy, &err);
}

static void
test_canonical_forms(void **state)
{
    (void)state;
    static const struct {
        const char *in, *complete, *as_is;
    } rows[] = {
        {"", "", ""},
        {"user", "user@us.test", "user"},
        {"user@host", "user@host.us.test", "user@host"},
        {"user@a.test", "user@a.test", "user@a.test"},
        {"user@a.test.", "user@a.test", "user@a.test"},
        {"user@[192.0.2.1]", "user@[192.0.2.1]", "user@[192.0.2.1]"},
        {"site!user", "user@site.us.test", "user@site"},
        {"a!b!user@c.test", "a!b!user@c.test", "a!b!user@c.test"},
        {"user%a.test", "user@a.test", "user@a.test"},
        {"user%a.test@b.test", "user%a.test@b.test", "user%a.test@b.test"},
        {"%x", "%x@us.test", "%x"},
        {"!x", "!x@us.test", "!x"},
    };
    struct rewrite_settings s = settings("");
    struct arena *arena = arena_new();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_string_equal(address_canonical(arena, &s, rows[i].in, true), rows[i].complete);
        assert_string_equal(address_canonical(arena, &s, rows[i].in, false), rows[i].as_is);
    }
    arena_free(&arena);
}

static void
test_routes(void **state)
{
    (void)state;
    static const struct {
        const char *in, *relayhost, *transport, *nexthop, *address;
        int flags;
    } rows[] = {
        {"user@us.test", "", "local", "mail.us.test", "user@us.test", ROUTE_LOCAL},
        {"user@[127.0.0.1]", "", "local", "mail.us.test", "user@[127.0.0.1]", ROUTE_LOCAL},
        {"user@[192.0.2.7]", "", "local", "mail.us.test", "user@[192.0.2.7]", ROUTE_LOCAL},
        {"user@[192.0.2.8]", "", "smtp", "[192.0.2.8]", "user@[192.0.2.8]", ROUTE_DEFAULT},
        {"user@virtual.test", "", "virtual", "virtual.test", "user@virtual.test", ROUTE_VIRTUAL},
        {"user@relay.test", "", "relay", "relay.test", "user@relay.test", ROUTE_RELAY},
        {"user@sub.relay.test", "[mx]", "relay", "[mx]", "user@sub.relay.test", ROUTE_RELAY},
        {"user@far.test", "", "smtp", "far.test", "user@far.test", ROUTE_DEFAULT},
        {"user@far.test", "[mx]:26", "smtp", "[mx]:26", "user@far.test", ROUTE_DEFAULT},
        {"user%far.test@us.test", "", "smtp", "far.test", "user@far.test", ROUTE_DEFAULT | ROUTE_ROUTED},
        {"far.test!user@us.test", "", "smtp", "far.test", "user@far.test", ROUTE_DEFAULT | ROUTE_ROUTED},
        {"user@far.test@us.test", "", "smtp", "far.test", "user@far.test", ROUTE_DEFAULT | ROUTE_ROUTED},
        {"a%b.test%far.test@us.test", "", "smtp", "far.test", "a%b.test@far.test", ROUTE_DEFAULT | ROUTE_ROUTED},
        {"a%b.test@far.test", "", "smtp", "far.test", "a%b.test@far.test", ROUTE_DEFAULT | ROUTE_ROUTED},
        {"a%far.test@relay.test", "", "relay", "relay.test", "a%far.test@relay.test", ROUTE_RELAY | ROUTE_ROUTED},
        {"user", "", "local", "mail.us.test", "user@us.test", ROUTE_LOCAL},
        {"", "", "local", "mail.us.test", "MAILER-DAEMON@us.test", ROUTE_LOCAL},
    };
    struct arena *arena = arena_new();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rewrite_settings s = settings(rows[i].relayhost);
        struct route_answer answer;
        resolve_address(arena, routes(&s, arena), "", rows[i].in, &answer);
        assert_string_equal(answer.transport, rows[i].transport);
        assert_string_equal(answer.nexthop, rows[i].nexthop);
        assert_string_equal(answer.address, rows[i].address);
        assert_int_equal(answer.flags, rows[i].flags);
    }
    arena_free(&arena);
}

static void
test_what_has_no_route(void **state)
{
    (void)state;
    static const char *const addresses[] = {"user@alias.test", "user@a..b", "user@-a.test",
                                            "user@[1.2.3]",    "user@",     "user@a b"};
    struct arena *arena = arena_new();
    struct rewrite_settings s = settings("");

    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct route_answer answer;
        resolve_address(arena, routes(&s, arena), "", addresses[i], &answer);
        assert_true(answer.flags & ROUTE_ERROR);
        assert_string_equal(answer.transport, "error");
    }
    arena_free(&arena);
}

static void
test_a_list_that_fails_is_not_a_no(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct rewrite_settings s = settings("");
    struct route_answer answer;

    s.relay_domains = "tcp:127.0.0.1:1";
    struct routes *with_table = routes(&s, arena);
    if (with_table) { /* a list that can't be made is as good */
        resolve_address(arena, with_table, "", "user@far.test", &answer);
        assert_true(answer.flags & ROUTE_FAIL);
        assert_string_not_equal(answer.reason, "");
    }
    arena_free(&arena);
}

static void
test_endless_routing_ends(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct rewrite_settings s = settings("");
    struct route_answer answer;
    char address[2000] = "a";

    for (int i = 0; i < 150; i++)
        memcpy(address + 1 + i * 8, "%us.test", 9);
    resolve_address(arena, routes(&s, arena), "", address, &answer);
    assert_true(answer.flags & ROUTE_ERROR);
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_forms),      cmocka_unit_test(test_routes),
        cmocka_unit_test(test_what_has_no_route),    cmocka_unit_test(test_a_list_that_fails_is_not_a_no),
        cmocka_unit_test(test_endless_routing_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
