/* SPDX-License-Identifier: Apache-2.0 */
/* auth/source: a login costs as many hashes whether the user exists, and wherever. Hashes are counted; times are not looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "auth/failures.h"
#include "auth/server.h"
#include "auth/source.h"
#include "lib/base/compiler.h"
#include "lib/run/task.h"
#include "tests/unit/with_loop.h"

/* What is asked of the server: SCRAM keys if password is NULL. */
struct attempt {
    const char *user, *password;
    enum verdict verdict;
    unsigned hashes;
};

struct test {
    struct server *server;
    const struct attempt *attempts;
    size_t count;
};

static struct server *
make_server(struct arena *arena, const char *sources)
{
    char directory[] = "/tmp/test_auth_source.XXXXXX", key[100];
    struct err err;

    assert_non_null(mkdtemp(directory));
    const char *text =
        arena_printf(arena, "auth_sources = %s\nmydestination =\ndata_directory = %s\n", sources, directory);
    struct conf *conf = conf_from_text(directory, slice_from(text), &err);
    assert_non_null(conf);
    struct server *server = server_new(arena, conf, &err);
    snprintf(key, sizeof key, "%s/auth_key", directory);
    unlink(key);
    rmdir(directory);
    assert_non_null(server);
    return server;
}

/* The hash that `postfix user` would store, as main.cf has to have it. */
static const char *
stored(struct arena *arena, const char *password)
{
    struct err err;
    struct slice rest = slice_from(password_record(arena, slice_from(password), &err)), line;
    const char *text = "";

    assert_true(slice_cut(&rest, '\n', &line));
    for (; line.len > 0; line = slice_make(line.ptr + 1, line.len - 1))
        text = arena_printf(arena, "%s%s%c", text, *line.ptr == '$' ? "$" : "", *line.ptr);
    return text;
}

static void
attempt(void *arg)
{
    const struct test *test = arg;

    for (size_t i = 0; i < test->count; i++) {
        const struct attempt *a = &test->attempts[i];
        struct request r = {.server = test->server, .arena = arena_new()};
        struct scram_keys keys;
        bool exists;
        unsigned before = password_hash_count();

        if (a->password) {
            assert_int_equal(source_check(&r, slice_from(a->user), slice_from(a->password)), a->verdict);
        } else {
            assert_true(source_set_user(&r, slice_from(a->user)));
            assert_int_equal(source_scram_keys(&r, "SHA256", &keys, &exists), VERDICT_OK);
            assert_int_equal(exists, a->verdict == VERDICT_OK);
        }
        if (password_hash_count() - before != a->hashes)
            fail_msg("%s: %u hashes, not %u", a->user, password_hash_count() - before, a->hashes);
        arena_free(&r.arena);
    }
}

static void
try_all(const char *sources, struct arena *arena, const struct attempt *attempts, size_t count)
{
    struct test test = {make_server(arena, sources), attempts, count};

    task_run_main(attempt, &test);
    server_free(&test.server);
}

static void
test_one_hash_whether_a_user_exists(void **state)
{
    static const struct attempt attempts[] = {
        {"nobody", "x", VERDICT_FAILED, 1},      {"first", "secret", VERDICT_OK, 1}, {"first", "x", VERDICT_FAILED, 1},
        {"third", "secret", VERDICT_OK, 1},      {"third", "x", VERDICT_FAILED, 1},  {"nobody", "x", VERDICT_FAILED, 1},
        {"nobody", "secret", VERDICT_FAILED, 1},
    };
    struct arena *arena = arena_new();
    const char *hash = stored(arena, "secret");
    const char *sources =
        arena_printf(arena, "table:inline:{ {first=%s} } table:inline:{ {second=%s} } table:inline:{ {third=%s} }",
                     hash, hash, hash);
    (void)state;

    try_all(sources, arena, attempts, ARRAY_LEN(attempts));
    arena_free(&arena);
}

static void
test_another_server_that_is_asked_sees_no_difference(void **state)
{
    static const struct attempt attempts[] = {
        {"first", "secret", VERDICT_OK, 1},
        {"nobody", "x", VERDICT_TEMP, 1},      /* there is no saslauthd */
        {"last", "secret", VERDICT_OK, 1 + 1}, /* behind it: the one place where a hash more is needed */
    };
    struct arena *arena = arena_new();
    const char *hash = stored(arena, "secret");
    const char *sources = arena_printf(
        arena, "table:inline:{ {first=%s} } saslauthd:/nowhere/mux table:inline:{ {last=%s} }", hash, hash);
    (void)state;

    try_all(sources, arena, attempts, ARRAY_LEN(attempts));
    arena_free(&arena);
}

static void
test_plain_passwords_cost_no_hash_and_neither_do_users_that_do_not_exist(void **state)
{
    static const struct attempt attempts[] = {
        {"tom", "secret", VERDICT_OK, 0},
        {"nobody", "x", VERDICT_FAILED, 0},
        {"tom", NULL, VERDICT_OK, 1}, /* keys are made of it */
        {"nobody", NULL, VERDICT_FAILED, 1},
    };
    struct arena *arena = arena_new();
    (void)state;

    try_all("table:inline:{ {tom={PLAIN}secret} } table:inline:{ {second={PLAIN}secret} }", arena, attempts,
            ARRAY_LEN(attempts));
    arena_free(&arena);
}

static void
test_failures_count_a_whole_network_of_ipv6(void **state)
{
    struct auth_settings set = {
        .auth_client_failure_limit = 3, .auth_failure_time_unit = SECONDS(60), .auth_failure_delay = SECONDS(1)};
    struct failures *failures = failures_new(&set);
    (void)state;

    for (int i = 0; i < 3; i++) {
        const char *const clients[] = {"2001:db8:1:2::1", "2001:db8:1:2:ffff::7", "2001:db8:1:2:3:4:5:6"};
        assert_false(failures_bar(failures, "2001:db8:1:2::9", SECONDS(1)));
        (void)failures_note(failures, clients[i], "", SECONDS(1));
        (void)failures_note(failures, "192.0.2.1", "", SECONDS(1));
    }
    assert_true(failures_bar(failures, "2001:db8:1:2::9", SECONDS(1)));
    assert_false(failures_bar(failures, "2001:db8:1:3::9", SECONDS(1)));
    assert_true(failures_bar(failures, "192.0.2.1", SECONDS(1)));
    assert_false(failures_bar(failures, "192.0.2.2", SECONDS(1)));
    assert_false(failures_bar(failures, "", SECONDS(1)));
    failures_free(&failures);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_hash_whether_a_user_exists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_server_that_is_asked_sees_no_difference, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain_passwords_cost_no_hash_and_neither_do_users_that_do_not_exist, setup,
                                        teardown),
        cmocka_unit_test(test_failures_count_a_whole_network_of_ipv6),
    };
    return cmocka_run_group_tests_name("sources of users", tests, NULL, NULL);
}
