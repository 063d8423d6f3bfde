/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/conf/environment.h"
#include "lib/conf/list.h"
#include "lib/conf/param.h"
#include "lib/conf/settings.h"
#include "lib/conf/settings_smtp.h"
#include "lib/conf/settings_smtpd.h"

static struct conf *
make_conf(const char *text)
{
    struct err err;
    struct conf *conf = conf_from_text("/nowhere", slice_from(text), &err);
    if (!conf)
        fail_msg("%s", err.text);
    return conf;
}

/* A row's setting, then what conf_int, conf_bool or conf_time (in seconds) says of the name; error: part of the text. */
static const struct {
    const char *text, *name;
    char kind;
    int64_t want;
    const char *error;
} typed_rows[] = {
    {"", "smtpd_recipient_limit", 'i', 1000, NULL},
    {"smtpd_recipient_limit = 5", "smtpd_recipient_limit", 'i', 5, NULL},
    {"smtpd_recipient_limit = $x\nx = 7", "smtpd_recipient_limit", 'i', 7, NULL},
    {"smtpd_recipient_limit = 0", "smtpd_recipient_limit", 'i', 0,
     "invalid smtpd_recipient_limit parameter value 0 < 1"},
    {"smtpd_recipient_limit = 5x", "smtpd_recipient_limit", 'i', 0,
     "bad numerical configuration: smtpd_recipient_limit = 5x"},
    {"smtpd_recipient_limit = 99999999999999999999", "smtpd_recipient_limit", 'i', 0, "bad numerical"},
    {"smtpd_recipient_limit =", "smtpd_recipient_limit", 'i', 0, "bad numerical"},
    {"hash_queue_depth = 17", "hash_queue_depth", 'i', 0, "> 16"},
    {"", "smtpd_hard_error_limit", 'i', 20, NULL},
    {"stress = yes", "smtpd_hard_error_limit", 'i', 1, NULL},
    {"", "smtpd_timeout", 't', 300, NULL},
    {"stress = yes", "smtpd_timeout", 't', 10, NULL},
    {"smtpd_timeout = 5", "smtpd_timeout", 't', 5, NULL},
    {"smtpd_timeout = 5m", "smtpd_timeout", 't', 300, NULL},
    {"smtpd_timeout = 2H", "smtpd_timeout", 't', 7200, NULL},
    {"smtpd_timeout = 1w", "smtpd_timeout", 't', 604800, NULL},
    {"smtpd_timeout = 5 m", "smtpd_timeout", 't', 0, "parameter smtpd_timeout: bad time value or unit: 5 m"},
    {"smtpd_timeout = 5y", "smtpd_timeout", 't', 0, "bad time value"},
    {"smtpd_timeout = -5", "smtpd_timeout", 't', 0, "bad time value"},
    {"smtpd_timeout = 99999999999999999w", "smtpd_timeout", 't', 0, "bad time value"},
    {"maximal_queue_lifetime = 3", "maximal_queue_lifetime", 't', 259200, NULL},
    {"", "delay_warning_time", 't', 0, NULL},
    {"delay_warning_time = 4", "delay_warning_time", 't', 14400, NULL},
    {"max_idle = 0", "max_idle", 't', 0, "invalid max_idle: 0"},
    {"", "smtpd_helo_required", 'b', 0, NULL},
    {"smtpd_helo_required = yes", "smtpd_helo_required", 'b', 1, NULL},
    {"smtpd_helo_required = YES", "smtpd_helo_required", 'b', 1, NULL},
    {"smtpd_helo_required = 1", "smtpd_helo_required", 'b', 0, "bad boolean configuration: smtpd_helo_required = 1"},
    {"smtpd_helo_required =", "smtpd_helo_required", 'b', 0, "bad boolean"},
    {"", "append_dot_mydomain", 'b', 1, NULL},
    {"compatibility_level = 3.6", "append_dot_mydomain", 'b', 0, NULL},
    {"", "nosuch_parameter", 'i', 0, "nosuch_parameter: unknown parameter"},
    {"smtpd_timeout = ${x", "smtpd_timeout", 't', 0, "parameter smtpd_timeout: truncated macro reference"},
    /* transports */
    {"", "relay_destination_concurrency_limit", 'i', 20, NULL},
    {"default_destination_concurrency_limit = 3", "relay_destination_concurrency_limit", 'i', 3, NULL},
    {"relay_destination_concurrency_limit = 4", "relay_destination_concurrency_limit", 'i', 4, NULL},
    {"", "local_destination_concurrency_limit", 'i', 2, NULL},
    {"slow_destination_rate_delay = 2m", "slow_destination_rate_delay", 't', 120, NULL},
    {"", "slow_destination_rate_delay", 't', 0, NULL},
    {"x_initial_destination_concurrency = 9", "x_initial_destination_concurrency", 'i', 9, NULL},
    {"default_destination_recipient_limit = 8\ndefault_recipient_limit = 9", "x_destination_recipient_limit", 'i', 8,
     NULL},
};

static int
ask(const struct conf *conf, const char *name, char kind, int64_t *value, struct err *err)
{
    bool flag = false;
    int result;
    switch (kind) {
    case 'i': return conf_int(conf, name, value, err);
    case 'b':
        result = conf_bool(conf, name, &flag, err);
        *value = flag;
        return result;
    default:
        result = conf_time(conf, name, value, err);
        *value /= SECONDS(1);
        return result;
    }
}

static void
test_typed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(typed_rows); i++) {
        struct conf *conf = make_conf(typed_rows[i].text);
        struct err err = {.kind = ERR_NONE};
        int64_t value = 0;
        int result = ask(conf, typed_rows[i].name, typed_rows[i].kind, &value, &err);
        if (typed_rows[i].error ? result == 0 || !strstr(err.text, typed_rows[i].error)
                                : result < 0 || value != typed_rows[i].want)
            fail_msg("\"%s\": %s: got %d, %lld, \"%s\"", typed_rows[i].text, typed_rows[i].name, result,
                     (long long)value, result < 0 ? err.text : "");
        conf_free(&conf);
    }
}

/* Every default is of its type and in its range, whatever the level and the load. */
static void
test_every_default_is_valid(void **state)
{
    static const char *const texts[] = {"", "compatibility_level = 3.11", "stress = yes"};
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        struct conf *conf = make_conf(texts[t]);
        struct arena *arena = arena_new();
        struct err err;
        for (unsigned i = 0; i < param_count(); i++)
            if (settings_check(conf, arena, i, &err) < 0)
                fail_msg("%s", err.text);
        arena_free(&arena);
        conf_free(&conf);
    }
}

static void
test_table_is_sorted_and_found(void **state)
{
    (void)state;
    assert_true(param_count() > 900);
    for (unsigned i = 0; i < param_count(); i++) {
        assert_int_equal(param_find(slice_from(param_at(i).name)), (int)i);
        if (i > 0)
            assert_true(strcmp(param_at(i - 1).name, param_at(i).name) < 0);
    }
    assert_int_equal(param_find(slice_from("nosuch")), -1);
    assert_int_equal(param_find(slice_from("")), -1);
    assert_int_equal(param_find(slice_from("smtpd_banne")), -1);
    assert_int_equal(param_find(slice_from("smtpd_bannerx")), -1);
    assert_string_equal(param_at((unsigned)param_find(slice_from("smtpd_expansion_filter"))).text,
                        "\\t\\40!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`"
                        "abcdefghijklmnopqrstuvwxyz{|}~");
}

static void
test_settings(void **state)
{
    struct conf *conf = make_conf("smtpd_banner = $myhostname hello\nmyhostname = mail.example.com\n"
                                  "message_size_limit = 0\nsmtpd_timeout = 1h\ndisable_vrfy_command = yes\n"
                                  "luser_relay = $user@other\n");
    struct arena *arena = arena_new();
    struct smtpd_settings s;
    struct err err;
    (void)state;
    assert_int_equal(smtpd_settings_load(&s, conf, arena, &err), 0);
    assert_string_equal(s.smtpd_banner, "mail.example.com hello");
    assert_string_equal(s.mydomain, "example.com");
    assert_int_equal(s.message_size_limit, 0);
    assert_int_equal(s.smtpd_timeout, SECONDS(3600));
    assert_true(s.disable_vrfy_command);
    assert_string_equal(s.mydestination, "mail.example.com, localhost.example.com, localhost");
    assert_string_equal(s.myorigin, "mail.example.com");

    assert_int_equal(conf_override(conf, "smtpd_timeout", "x", &err), 0);
    assert_int_equal(smtpd_settings_load(&s, conf, arena, &err), -1);
    assert_non_null(strstr(err.text, "smtpd_timeout"));
    arena_free(&arena);
    conf_free(&conf);
}

static void
test_lmtp_reads_its_own_names(void **state)
{
    struct conf *conf = make_conf("smtp_helo_timeout = 1s\nlmtp_mail_timeout = 2s\nsmtp_mail_timeout = 3s\n");
    struct arena *arena = arena_new();
    struct smtp_settings s;
    struct err err;
    (void)state;
    conf_rename(conf, "smtp_", "lmtp_");
    assert_int_equal(smtp_settings_load(&s, conf, arena, &err), 0);
    assert_int_equal(s.smtp_mail_timeout, SECONDS(2));
    assert_int_equal(s.smtp_helo_timeout, SECONDS(1)); /* there is no lmtp_helo_timeout */
    assert_string_equal(s.smtp_tcp_port, "24");
    arena_free(&arena);
    conf_free(&conf);
}

static void
test_overrides_and_warnings(void **state)
{
    struct conf *conf = make_conf("a = 1\na = 1\na = 2\n lost\n");
    struct arena *arena = arena_new();
    struct err err;
    (void)state;
    assert_string_equal(conf_raw(conf, "a"), "2 lost");
    assert_string_equal(conf_warning(conf, 0), "/nowhere/main.cf, line 3: overriding earlier entry: a=1");
    assert_null(conf_warning(conf, 1));
    assert_true(conf_is_set(conf, "a"));
    assert_false(conf_is_set(conf, "smtpd_banner"));
    assert_null(conf_raw(conf, "nosuch"));
    assert_int_equal(conf_override(conf, "a", "3", &err), 0);
    assert_string_equal(conf_string(conf, arena, "a", &err), "3");
    assert_int_equal(conf_override(conf, "a b", "3", &err), -1);
    assert_string_equal(conf_raw(conf, "config_directory"), "/nowhere");
    arena_free(&arena);
    conf_free(&conf);
}

static void
test_choices(void **state)
{
    struct conf *conf = make_conf("mynetworks_style = neighbours\n");
    struct arena *arena = arena_new();
    struct err err;
    (void)state;
    assert_null(conf_string(conf, arena, "mynetworks_style", &err));
    assert_non_null(strstr(err.text, "mynetworks_style = neighbours"));
    arena_free(&arena);
    conf_free(&conf);
}

static void
test_host_and_networks(void **state)
{
    struct conf *conf = make_conf("mynetworks_style = host\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n");
    struct arena *arena = arena_new();
    struct err err;
    char name[256];
    (void)state;
    assert_string_equal(conf_string(conf, arena, "mynetworks", &err), "127.0.0.1/32");
    assert_int_equal(conf_override(conf, "mynetworks_style", "class", &err), 0);
    assert_int_equal(gethostname(name, sizeof(name)), 0);
    assert_non_null(strchr(conf_string(conf, arena, "myhostname", &err), '.'));
    conf_free(&conf);

    conf = make_conf("mynetworks_style = class\ninet_interfaces = 127.0.0.1\n");
    assert_string_equal(conf_string(conf, arena, "mynetworks", &err), "127.0.0.0/8");
    conf_free(&conf);

    conf = make_conf("myhostname = $mydomain\n"); /* each is made from the other */
    assert_non_null(conf_string(conf, arena, "mydomain", &err));
    conf_free(&conf);
    arena_free(&arena);
}

static void
test_where_settings_are(void **state)
{
    struct conf *conf = make_conf("# first\nbiff = maybe\nqueue_run_delay = 5y\nmail_name = ${a\n");
    struct arena *arena = arena_new();
    struct err err;
    int64_t number;
    bool flag;
    (void)state;
    assert_string_equal(conf_where(conf, arena, "biff"), "/nowhere/main.cf, line 2");
    assert_null(conf_where(conf, arena, "relayhost"));
    assert_int_equal(conf_override(conf, "relayhost", "[a]", &err), 0);
    assert_string_equal(conf_where(conf, arena, "relayhost"), "-o relayhost");
    assert_int_equal(conf_bool(conf, "biff", &flag, &err), -1);
    assert_string_equal(err.text,
                        "/nowhere/main.cf, line 2: bad boolean configuration: biff = maybe (it must be yes or no)");
    assert_int_equal(conf_time(conf, "queue_run_delay", &number, &err), -1);
    assert_non_null(strstr(err.text, "/nowhere/main.cf, line 3: parameter queue_run_delay: "));
    assert_null(conf_string(conf, arena, "mail_name", &err));
    assert_string_equal(err.text, "/nowhere/main.cf, line 4: parameter mail_name: truncated macro reference: \"${a\"");
    arena_free(&arena);
    conf_free(&conf);
}

static void
test_old_defaults(void **state)
{
    static const struct {
        const char *text, *name, *want;
    } rows[] = {
        {"compatibility_level = 0", "append_dot_mydomain", "yes"},
        {"compatibility_level = 1", "append_dot_mydomain", NULL},
        {"compatibility_level = 0\nappend_dot_mydomain = yes", "append_dot_mydomain", NULL},
        {"compatibility_level = 3.6", "mynetworks_style", NULL},
        {"compatibility_level = 1", "mynetworks_style", "subnet"},
        {"", "relayhost", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct conf *conf = make_conf(rows[i].text);
        struct arena *arena = arena_new();
        const char *value;
        struct err err;
        assert_int_equal(conf_old_default(conf, arena, rows[i].name, &value, &err), 0);
        if (!rows[i].want)
            assert_null(value);
        else
            assert_string_equal(value, rows[i].want);
        arena_free(&arena);
        conf_free(&conf);
    }
}

static void
test_lists(void **state)
{
    static const struct {
        const char *text, *want; /* items in brackets */
    } rows[] = {
        {"", ""},
        {" a, b\tc,", "[a][b][c]"},
        {"{ a b }, c", "[a b][c]"},
        {"{{a} b}", "[{a} b]"},
        {"{}", "[]"},
        {"a { b", "[a]missing '}' in \"{ b\""},
        {"{a}b", "syntax error after '}' in \"{a}b\""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice rest = slice_from(rows[i].text), item;
        struct buf got = {0};
        struct err err;
        int more;
        while ((more = list_next(&rest, &item, NULL, &err)) > 0)
            buf_printf(&got, "[%.*s]", SLICE_ARG(item));
        if (more < 0)
            buf_append_text(&got, err.text);
        assert_string_equal(got.len > 0 ? buf_text(&got) : "", rows[i].want);
        buf_release(&got);
    }
}

static void
test_environment(void **state)
{
    struct conf *conf = make_conf("import_environment = TEST_KEPT, TEST_SET=x { TEST_LONG = a b } TEST_GONE\n"
                                  "export_environment = TEST_SET { TEST_MORE = c d }\n");
    struct arena *arena = arena_new();
    struct err err;
    (void)state;
    assert_int_equal(setenv("TEST_KEPT", "1", 1), 0);
    assert_int_equal(setenv("TEST_DROPPED", "1", 1), 0);
    assert_int_equal(environment_import(conf, &err), 0);
    assert_string_equal(getenv("TEST_KEPT"), "1");
    assert_string_equal(getenv("TEST_SET"), "x");
    assert_string_equal(getenv("TEST_LONG"), "a b");
    assert_null(getenv("TEST_DROPPED"));
    assert_null(getenv("TEST_GONE"));
    char **out = environment_export(conf, arena, &err);
    assert_string_equal(out[0], "TEST_SET=x");
    assert_string_equal(out[1], "TEST_MORE=c d");
    assert_string_equal(out[2], "PATH=/usr/bin:/bin");
    assert_null(out[3]);
    conf_free(&conf);
    conf = make_conf("export_environment = { a");
    assert_null(environment_export(conf, arena, &err));
    assert_non_null(strstr(err.text, "parameter export_environment: missing '}'"));
    conf_free(&conf);
    arena_free(&arena);
}

/* A circle must be found quickly, and a very long line must not cost its square. */
static void
test_circles_and_long_lines(void **state)
{
    struct arena *arena = arena_new();
    struct buf text = {0};
    struct err err;
    (void)state;
    struct conf *conf = make_conf("a = $b $b\nb = $a $a\nmail_name = $a\n");
    assert_null(conf_string(conf, arena, "mail_name", &err));
    assert_non_null(strstr(err.text, "unreasonable macro call nesting"));
    conf_free(&conf);
    buf_append_text(&text, "relayhost = x");
    for (unsigned i = 0; i < 1 << 20; i++)
        buf_append_byte(&text, 'x');
    for (unsigned i = 0; i < 20000; i++)
        buf_append_text(&text, "\n y");
    conf = make_conf(buf_text(&text));
    assert_int_equal(strlen(conf_raw(conf, "relayhost")), (1 << 20) + 1 + 2 * 20000);
    conf_free(&conf);
    buf_release(&text);
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_settings_are),
        cmocka_unit_test(test_old_defaults),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_circles_and_long_lines),
        cmocka_unit_test(test_typed),
        cmocka_unit_test(test_every_default_is_valid),
        cmocka_unit_test(test_table_is_sorted_and_found),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_lmtp_reads_its_own_names),
        cmocka_unit_test(test_overrides_and_warnings),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_host_and_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
