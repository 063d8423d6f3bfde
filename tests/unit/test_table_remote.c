/* SPDX-License-Identifier: Apache-2.0 */
/* What needs no server: templates, replies, and which tables proxymap may be asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/table/driver_host.h"
#include "lib/table/remote_reply.h"
#include "lib/table/template.h"
#include "proxymap/access.h"

static int
double_quotes(void *ctx, struct slice piece, struct buf *out)
{
    (void)ctx;
    for (size_t i = 0; i < piece.len; i++) {
        if (piece.ptr[i] == '\'')
            buf_append_byte(out, '\'');
        buf_append_byte(out, piece.ptr[i]);
    }
    return 0;
}

static void
test_templates(void **state)
{
    static const struct {
        const char *text, *key, *value, *want; /* want NULL: nothing */
    } rows[] = {
        {"x='%s'", "o'k@b.test", NULL, "x='o''k@b.test'"},
        {"%u at %d", "u@b.test", NULL, "u at b.test"},
        {"%u", "plain", NULL, "plain"},
        {"%d", "plain", NULL, NULL},
        {"%u", "@b.test", NULL, NULL},
        {"%d", "u@", NULL, NULL},
        {"%1.%2.%3", "u@mail.example.com", NULL, "com.example.mail"},
        {"%4", "u@mail.example.com", NULL, NULL},
        {"%1", "plain", NULL, NULL},
        {"100%%", "k", NULL, "100%"},
        {"%s for %S of %D", "u@b.test", "v", "v for u@b.test of b.test"},
        {"%u", "k", "a@b@c", "a@b"},
        {"[%s]", "k", "", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct template_parts key = template_parts(slice_from(rows[i].key));
        struct template_parts value = template_parts(slice_from(rows[i].value ? rows[i].value : rows[i].key));
        const struct template_quote quote = {double_quotes, NULL};
        struct buf out = {0};
        enum template_result result = template_expand(rows[i].text, &value, &key, &quote, &out);

        assert_int_equal(result, rows[i].want ? TEMPLATE_DONE : TEMPLATE_NOTHING);
        assert_string_equal(buf_text(&out), rows[i].want ? rows[i].want : "");
        buf_release(&out);
    }
}

static void
test_bad_templates(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(template_check("%s %% %9", &err), 0);
    assert_int_equal(template_check("%x", &err), -1);
    assert_int_equal(template_check("100%", &err), -1);
    assert_int_equal(template_check("%0", &err), -1);
    assert_true(template_has_key("a%%%d"));
    assert_false(template_has_key("a%%d"));
}

static void
test_replies(void **state)
{
    static const struct {
        char kind;
        const char *line;
        int result;
        const char *value;
    } rows[] = {
        {'t', "200 a%20b%25", 0, "a b%"},
        {'t', "200 plain", 0, "plain"},
        {'t', "500 no", 0, NULL},
        {'t', "400 later", -1, NULL},
        {'t', "200", -1, NULL},
        {'t', "200 %4", -1, NULL},
        {'t', "200 %00", -1, NULL},
        {'t', "2000 x", -1, NULL},
        {'t', "", -1, NULL},
        {'s', "OK v w", 0, "v w"},
        {'s', "OK ", 0, ""},
        {'s', "OK", -1, NULL},
        {'s', "NOTFOUND ", 0, NULL},
        {'s', "NOTFOUND", 0, NULL},
        {'s', "TEMP x", -1, NULL},
        {'s', "PERM", -1, NULL},
        {'s', "", -1, NULL},
        {'s', "OKAY x", -1, NULL},
    };
    struct arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *value = NULL;
        struct err err;
        struct slice line = slice_from(rows[i].line);
        int result = rows[i].kind == 't' ? tcp_reply_read(arena, line, &value, &err)
                                         : socketmap_reply_read(arena, line, &value, &err);

        assert_int_equal(result, rows[i].result);
        if (rows[i].value)
            assert_string_equal(value, rows[i].value);
        else
            assert_null(value);
    }
    arena_free(&arena);
}

static void
test_lengths(void **state)
{
    size_t len, head;
    bool found;
    struct err err;

    (void)state;
    assert_int_equal(netstring_head_read(slice_from("12:x"), 100, &len, &head, &err), 1);
    assert_int_equal(len, 12);
    assert_int_equal(head, 3);
    assert_int_equal(netstring_head_read(slice_from("12"), 100, &len, &head, &err), 0);
    assert_int_equal(netstring_head_read(slice_from("101:"), 100, &len, &head, &err), -1);
    assert_int_equal(netstring_head_read(slice_from("9999999999"), 100, &len, &head, &err), -1);
    assert_int_equal(netstring_head_read(slice_from("x"), 100, &len, &head, &err), -1);
    assert_int_equal(netstring_head_read(slice_from(":"), 100, &len, &head, &err), -1);
    assert_int_equal(memcache_value_read(slice_from("VALUE k 0 5"), slice_from("k"), 9, &found, &len, &err), 0);
    assert_true(found && len == 5);
    assert_int_equal(memcache_value_read(slice_from("END"), slice_from("k"), 9, &found, &len, &err), 0);
    assert_false(found);
    assert_int_equal(memcache_value_read(slice_from("VALUE other 0 5"), slice_from("k"), 9, &found, &len, &err), -1);
    assert_int_equal(memcache_value_read(slice_from("VALUE k 0 10"), slice_from("k"), 9, &found, &len, &err), -1);
    assert_int_equal(memcache_value_read(slice_from("SERVER_ERROR x"), slice_from("k"), 9, &found, &len, &err), -1);
    assert_int_equal(redis_value_read(slice_from("$-1"), 9, &found, &len, &err), 0);
    assert_false(found);
    assert_int_equal(redis_value_read(slice_from("$7"), 9, &found, &len, &err), 0);
    assert_true(found && len == 7);
    assert_int_equal(redis_value_read(slice_from("-ERR x"), 9, &found, &len, &err), -1);
    assert_int_equal(redis_value_read(slice_from("$-2"), 9, &found, &len, &err), -1);
}

static void
test_access(void **state)
{
    static const char main_cf[] = "a_maps = mysql:/etc/one.cf, unionmap:{ldap:/etc/two.cf, hash:/etc/x}\n"
                                  "b = ! pgsql:/etc/three.cf\n"
                                  "c = check_recipient_access { tcp:localhost:1, x }\n"
                                  "d = $a_maps proxy:mysql:/etc/four.cf hash:/etc/aliases\n";
    struct err err;
    struct arena *arena = arena_new();
    struct conf *conf = conf_from_text("/nonexistent", slice_from(main_cf), &err);
    struct access *a;

    (void)state;
    assert_non_null(conf);
    a = access_new(arena, conf, "proxy:mysql:/etc/five.cf, proxy:hash:/etc/six mysql:/etc/seven.cf",
                   "proxy:lmdb:/etc/eight");
    assert_string_equal(access_for_reading(a, "mysql:/etc/one.cf"), "mysql:/etc/one.cf");
    assert_non_null(access_for_reading(a, "ldap:/etc/two.cf"));
    assert_non_null(access_for_reading(a, "pgsql:/etc/three.cf"));
    assert_non_null(access_for_reading(a, "tcp:localhost:1"));
    assert_null(access_for_reading(a, "hash:/etc/aliases"));
    assert_null(access_for_reading(a, "mysql:/etc/four.cf"));
    assert_null(access_for_reading(a, "proxy:mysql:/etc/four.cf"));
    assert_null(access_for_reading(a, "proxy:mysql:/etc/one.cf"));
    assert_string_equal(access_for_reading(a, "proxy:mysql:/etc/five.cf"), "mysql:/etc/five.cf");
    assert_string_equal(access_for_reading(a, "proxy:hash:/etc/six"), "hash:/etc/six");
    assert_null(access_for_reading(a, "mysql:/etc/seven.cf"));
    assert_null(access_for_reading(a, "proxy:mysql:/etc/seven.cf"));
    assert_non_null(access_for_reading(a, "proxy:lmdb:/etc/eight"));
    assert_string_equal(access_for_writing(a, "proxy:lmdb:/etc/eight"), "lmdb:/etc/eight");
    assert_null(access_for_writing(a, "proxy:hash:/etc/six"));
    assert_null(access_for_writing(a, "mysql:/etc/one.cf"));
    arena_free(&arena);
    conf_free(&conf);
}

/* mysql_table(5), pgsql_table(5): hosts. */
static void
test_hosts(void **state)
{
    static const struct {
        const char *in, *name, *port;
    } rows[] = {
        {"h.test", "h.test", ""},
        {"h.test:3306", "h.test", "3306"},
        {"inet:h.test:3306", "h.test", "3306"},
        {"inet:h.test", "h.test", ""},
        {"::1", "::1", ""},
        {"[::1]", "::1", ""},
        {"[::1]:5432", "::1", "5432"},
        {"inet:[2001:db8::1]:5432", "2001:db8::1", "5432"},
        {"[::1", "[::1", ""},
        {"", "", ""},
        {":", "", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct driver_host host = driver_host_split(rows[i].in);

        assert_string_equal(host.name, rows[i].name);
        assert_string_equal(host.port, rows[i].port);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_templates), cmocka_unit_test(test_bad_templates),
                                       cmocka_unit_test(test_replies), cmocka_unit_test(test_lengths),
                                       cmocka_unit_test(test_access),
                                       cmocka_unit_test(test_hosts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
