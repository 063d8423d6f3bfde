/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/master_cf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct conf *
make_conf(const char *text)
{
    struct err err;
    struct conf *conf = conf_from_text("/nowhere", slice_from(text), &err);
    assert_non_null(conf);
    return conf;
}

/* want: each service as "name type private unprivileged chroot wakeup maxproc command [args]... (options)"; or an error. */
static const struct {
    const char *text, *want;
} rows[] = {
    {"", ""},
    {"# nothing\n\n", ""},
    {"smtp inet n - n - - smtpd", "smtp/25 inet 0 1 0 0 100 smtpd;"},
    {"smtp inet y - - - - smtpd", "smtp/25 inet 0 1 0 0 100 smtpd;"},
    {"127.0.0.1:10025 inet n - n - 5 smtpd", "127.0.0.1|10025 inet 0 1 0 0 5! smtpd;"},
    {"[::1]:25 inet n - n - 0 smtpd", "::1|25 inet 0 1 0 0 0! smtpd;"},
    {"localhost:smtp inet n - n - - smtpd", "localhost|smtp inet 0 1 0 0 100 smtpd;"},
    {"cleanup unix n - y - 0 cleanup", "cleanup unix 0 1 1 0 0! cleanup;"},
    {"pickup fifo n n n 60 1 pickup", "pickup fifo 0 0 0 60 1! pickup;"},
    {"flush unix - - - 1000? 0 flush", "flush unix 1 1 0 1000? 0! flush;"},
    {"postlog unix-dgram n - n - 1 postlogd", "postlog unix-dgram 0 1 0 0 1! postlogd;"},
    {"smtpd pass - - n - - smtpd", "smtpd pass 1 1 0 0 100 smtpd;"},
    {"a unix - - n - - x\nb unix - - n - - y", "a unix 1 1 0 0 100 x;b unix 1 1 0 0 100 y;"},
    {"a unix - - n - - smtpd -o a=b -o { c = d e } { x y } -v flags=R\n#c\n   #d\n  -o k=",
     "a unix 1 1 0 0 100 smtpd [-o][a=b][-o][c=d e][x y][-v][flags=R][-o][k=](a=b)(c=d e);"},
    {"a unix - - n - - smtpd -oa=b -vv", "a unix 1 1 0 0 100 smtpd [-o][a=b][-vv](a=b)v2;"},
    {"a unix - - n - - smtpd -o smtpd_tls_protocols=>=TLSv1.3",
     "a unix 1 1 0 0 100 smtpd [-o][smtpd_tls_protocols=>=TLSv1.3](smtpd_tls_protocols=>=TLSv1.3);"},
    {"a unix - - n - - smtpd -o a", "a unix 1 1 0 0 100 smtpd [-o][a];"},
    {"a unix - - n - - pipe\n  flags=Fq user=x:y argv=php -f ${sender} {a {b} c}",
     "a unix 1 1 0 0 100 pipe [flags=Fq][user=x:y][argv=php][-f][${sender}][a {b} c];"},
    {"a\tunix\t-\t-\tn\t-\t-\tx", "a unix 1 1 0 0 100 x;"},
    {"a unix - - n - -\n  x", "a unix 1 1 0 0 100 x;"},
    {"smtp inet n - n -", "file master.cf: line 1: bad field count"},
    {"# c\n\na unix - - n - - x\nb unix -", "file master.cf: line 4: bad field count"},
    {"a foo n - n - - x", "file master.cf: line 1: bad type field: \"foo\""},
    {"a unix x - n - - x", "file master.cf: line 1: bad private field: \"x\""},
    {"a unix - x n - - x", "file master.cf: line 1: bad unprivileged field: \"x\""},
    {"a unix - - x - - x", "file master.cf: line 1: bad chroot field: \"x\""},
    {"a unix - - n x - x", "file master.cf: line 1: bad wakeup field: \"x\""},
    {"a unix - - n ? - x", "file master.cf: line 1: bad wakeup field: \"?\""},
    {"a unix - - n - 5x x", "file master.cf: line 1: bad process_limit field: \"5x\""},
    {"a unix - - n - -1 x", "file master.cf: line 1: bad process_limit field: \"-1\""},
    {"a/b unix - - n - - x", "file master.cf: line 1: bad service field: \"a/b\""},
    {"[::1] inet - - n - - x", "file master.cf: line 1: bad service field: \"[::1]\""},
    {"[]:25 inet - - n - - x", "file master.cf: line 1: bad service field: \"[]:25\""},
    {"host: inet - - n - - x", "file master.cf: line 1: bad service field: \"host:\""},
    {"a unix - - n - - x { a b", "file master.cf: line 1: missing '}' in \"{ a b\""},
    {"a unix - - n - - x -o{a=b}-o{c=d}-o{e=f}",
     "file master.cf: line 1: syntax error after '}' in \"{a=b}-o{c=d}-o{e=f}\""},
    {"a unix - - n - - x {a}{b}{c d}{e} f", "file master.cf: line 1: syntax error after '}' in \"{a}{b}{c d}{e}\""},
    {"a unix - - n - - x -o{a=b} -o{c = d} {e}", "a unix 1 1 0 0 100 x [-o][a=b][-o][c=d][e](a=b)(c=d);"},
    {"  a unix - - n - - x", ""},
};

static void
describe(const struct master_service *s, struct buf *out)
{
    if (s->type == SERVICE_INET && s->host)
        buf_printf(out, "%s|%s", s->host, s->port);
    else
        buf_printf(out, s->type == SERVICE_INET ? "%s/25" : "%s", s->name);
    buf_printf(out, " %s %d %d %d %u%s %u%s %s", master_type_name(s->type), s->is_private, s->unprivileged, s->chroot,
               s->wakeup, s->wakeup_if_used ? "?" : "", s->maxproc, s->maxproc_is_given ? "!" : "", s->command);
    if (s->arg_count > 0)
        buf_append_byte(out, ' ');
    for (size_t i = 0; i < s->arg_count; i++)
        buf_printf(out, "[%s]", s->args[i]);
    assert_null(s->args[s->arg_count]);
    for (size_t i = 0; i < s->option_count; i++)
        buf_printf(out, "(%s=%s)", s->options[i].name, s->options[i].value);
    if (s->verbose)
        buf_printf(out, "v%u", s->verbose);
    buf_append_byte(out, ';');
}

static void
test_rows(void **state)
{
    struct conf *conf = make_conf("compatibility_level = 3.6");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena *arena = arena_new();
        struct buf got = {0};
        struct master_cf master;
        struct err err;
        if (master_cf_parse(conf, arena, "master.cf", slice_from(rows[i].text), &master, &err) < 0)
            buf_append_text(&got, err.text);
        else
            for (size_t j = 0; j < master.count; j++)
                describe(&master.services[j], &got);
        if (strcmp(buf_text(&got), rows[i].want) != 0)
            fail_msg("\"%s\": got \"%s\", want \"%s\"", rows[i].text, buf_text(&got), rows[i].want);
        buf_release(&got);
        arena_free(&arena);
    }
    conf_free(&conf);
}

static void
test_defaults_come_from_main_cf(void **state)
{
    struct conf *conf = make_conf("default_process_limit = 7");
    struct arena *arena = arena_new();
    struct master_cf master;
    struct err err;
    (void)state;
    assert_int_equal(master_cf_parse(conf, arena, "master.cf", slice_from("a unix - - - - - x"), &master, &err), 0);
    assert_int_equal(master.services[0].maxproc, 7);
    assert_true(master.services[0].chroot); /* compatibility_level 0 */
    arena_free(&arena);
    conf_free(&conf);
}

/* As Debian's postconf -M and -Mf print them. */
static const struct {
    const char *text, *want, *folded;
} print_rows[] = {
    {"smtp inet n - y - - smtpd", "smtp       inet  n       -       y       -       -       smtpd\n",
     "smtp       inet  n       -       y       -       -       smtpd\n"},
    {"postlog unix-dgram n - n - 1 postlogd", "postlog    unix-dgram n  -       n       -       1       postlogd\n",
     "postlog    unix-dgram n  -       n       -       1       postlogd\n"},
    {"a inet n - n - - smtpd -o a=b -o { c = d  e } -v",
     "a          inet  n       -       n       -       -       smtpd -o a=b -o {c=d  e} -v\n",
     "a          inet  n       -       n       -       -       smtpd\n    -o a=b\n    -o {c=d  e}\n    -v\n"},
    /* not as Debian's: on a line of its own "#x" would be a comment */
    {"a inet n - n - - smtpd -o a=b #x", "a          inet  n       -       n       -       -       smtpd -o a=b #x\n",
     "a          inet  n       -       n       -       -       smtpd\n    -o a=b #x\n"},
};

static void
test_print(void **state)
{
    struct conf *conf = make_conf("");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(print_rows); i++) {
        struct arena *arena = arena_new();
        struct master_cf master;
        struct buf out = {0};
        struct err err;
        assert_int_equal(master_cf_parse(conf, arena, "x", slice_from(print_rows[i].text), &master, &err), 0);
        master_service_print(&master.services[0], false, &out);
        assert_string_equal(buf_text(&out), print_rows[i].want);
        buf_clear(&out);
        master_service_print(&master.services[0], true, &out);
        assert_string_equal(buf_text(&out), print_rows[i].folded);
        buf_release(&out);
        arena_free(&arena);
    }
    conf_free(&conf);
}

/* want: addresses with port, or an error. */
static const struct {
    const char *main_cf, *service, *want;
} address_rows[] = {
    {"inet_interfaces = all\ninet_protocols = ipv4", "2525", "0.0.0.0:2525 "},
    {"inet_interfaces = 127.0.0.1", "2525", "127.0.0.1:2525 "},
    {"inet_interfaces = 127.0.0.1, 127.0.0.2 127.0.0.1", "smtp", "127.0.0.1:25 127.0.0.2:25 "},
    {"inet_interfaces = [::1], 127.0.0.1\ninet_protocols = ipv4", "25", "127.0.0.1:25 "},
    {"inet_interfaces = 127.0.0.1", "127.0.0.3:submission", "127.0.0.3:587 "},
    {"inet_interfaces = 127.0.0.1\ninet_protocols = ipv6, ipv4", "[::1]:465", "::1:465 "},
    {"inet_protocols = ipv6", "127.0.0.1:25",
     "service 127.0.0.1:25: no address in \"127.0.0.1\" is of a protocol in inet_protocols"},
    {"inet_protocols = ipv5", "25",
     "service 25: parameter inet_interfaces: parameter inet_protocols: unknown protocol \"ipv5\""},
    {"inet_interfaces = 127.0.0.1", "70000", "service 70000: unknown service: 70000/tcp"},
    {"inet_interfaces = 127.0.0.1", "0", "service 0: unknown service: 0/tcp"},
    {"inet_interfaces = 127.0.0.1", "no-such-service-x",
     "service no-such-service-x: unknown service: no-such-service-x/tcp"},
};

static void
test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(address_rows); i++) {
        struct conf *conf = make_conf(address_rows[i].main_cf);
        struct arena *arena = arena_new();
        struct master_cf master;
        struct buf got = {0};
        struct net_addr *addrs;
        size_t count;
        struct err err;
        const char *line = arena_printf(arena, "%s inet n - n - - smtpd", address_rows[i].service);
        assert_int_equal(master_cf_parse(conf, arena, "x", slice_from(line), &master, &err), 0);
        if (master_service_addresses(conf, arena, &master.services[0], &addrs, &count, &err) < 0)
            buf_append_text(&got, err.text);
        else
            for (size_t j = 0; j < count; j++) {
                char text[INET6_ADDRSTRLEN];
                net_addr_format(&addrs[j], text, sizeof(text));
                buf_printf(&got, "%s:%u ", text, net_addr_port(&addrs[j]));
            }
        if (strcmp(buf_text(&got), address_rows[i].want) != 0)
            fail_msg("%s: got \"%s\", want \"%s\"", address_rows[i].service, buf_text(&got), address_rows[i].want);
        buf_release(&got);
        arena_free(&arena);
        conf_free(&conf);
    }
}

static void
test_lists_of_services(void **state)
{
    struct conf *conf = make_conf("");
    struct arena *arena = arena_new();
    struct master_cf master;
    struct err err;
    (void)state;
    assert_int_equal(master_cf_parse(conf, arena, "x",
                                     slice_from("smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp"), &master, &err),
                     0);
    struct master_service *inet = master_cf_find(&master, "smtp", "inet"),
                          *local = master_cf_find(&master, "smtp", "unix");
    assert_non_null(inet);
    assert_non_null(local);
    assert_null(master_cf_find(&master, "smtp", "fifo"));
    assert_true(master_service_is_listed(inet, "foo, smtp.inet"));
    assert_true(master_service_is_listed(inet, "smtp/inet"));
    assert_true(master_service_is_listed(inet, "inet"));
    assert_false(master_service_is_listed(local, "smtp.inet inet smtp"));
    assert_false(master_service_is_listed(inet, ""));
    arena_free(&arena);
    conf_free(&conf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_defaults_come_from_main_cf),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_lists_of_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
