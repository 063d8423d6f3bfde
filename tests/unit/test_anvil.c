/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "anvil/anvil.h"

#define NOW SECONDS(1000000)

static struct anvil *anvil;
static struct anvil_reporter *one, *two;

static int
setup(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    anvil = anvil_new(SECONDS(60));
    one = anvil_reporter_new(anvil);
    two = anvil_reporter_new(anvil);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    if (one)
        anvil_reporter_free(&one);
    if (two)
        anvil_reporter_free(&two);
    anvil_free(&anvil);
    return 0;
}

static void
want(struct anvil_count got, int64_t count, int64_t rate)
{
    assert_int_equal(got.count, count);
    assert_int_equal(got.rate, rate);
}

static void
test_counts_connections_and_rates_of_each_client(void **state)
{
    (void)state;
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW), 1, 1);
    want(anvil_count(two, "smtpd:a", ANVIL_CONNECT, 1, NOW), 2, 2);
    want(anvil_count(one, "smtpd:b", ANVIL_CONNECT, 1, NOW), 1, 1);
    want(anvil_count(one, "smtpd:a", ANVIL_RECIPIENT, 5, NOW), 2, 5);
    want(anvil_count(one, "smtpd:a", ANVIL_RECIPIENT, 2, NOW), 2, 7);
    want(anvil_count(one, "smtpd:a", ANVIL_DISCONNECT, 1, NOW), 1, 0);
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW), 2, 3);
}

static void
test_disconnect_without_connect_counts_nothing(void **state)
{
    (void)state;
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW), 1, 1);
    want(anvil_count(two, "smtpd:a", ANVIL_DISCONNECT, 1, NOW), 1, 0);
    want(anvil_count(one, "smtpd:a", ANVIL_DISCONNECT, 1, NOW), 0, 0);
    want(anvil_count(one, "smtpd:a", ANVIL_DISCONNECT, 1, NOW), 0, 0);
}

static void
test_rates_begin_anew_with_each_time_unit(void **state)
{
    (void)state;
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW), 1, 1);
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW + SECONDS(59)), 2, 2);
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW + SECONDS(60)), 3, 1);
    want(anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW - SECONDS(5)), 4, 1); /* the clock was set back */
}

static void
test_death_of_a_reporter_ends_its_connections(void **state)
{
    (void)state;
    anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW);
    anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW);
    anvil_count(two, "smtpd:a", ANVIL_CONNECT, 1, NOW);
    anvil_reporter_free(&one);
    want(anvil_count(two, "smtpd:a", ANVIL_CONNECT, 1, NOW), 2, 4);
}

static void
test_idle_clients_are_forgotten(void **state)
{
    (void)state;
    anvil_count(one, "smtpd:a", ANVIL_CONNECT, 1, NOW);
    anvil_count(one, "smtpd:b", ANVIL_CONNECT, 1, NOW);
    anvil_count(one, "smtpd:b", ANVIL_DISCONNECT, 1, NOW);
    anvil_expire(anvil, NOW + SECONDS(59));
    assert_int_equal(anvil_client_count(anvil), 2);
    anvil_expire(anvil, NOW + SECONDS(60));
    assert_int_equal(anvil_client_count(anvil), 1);
}

static void
gather(void *ctx, const char *text)
{
    size_t len = strlen(ctx);

    snprintf((char *)ctx + len, 1000 - len, "%s\n", text);
}

static void
test_statistics_tell_the_peaks_once(void **state)
{
    char text[1000] = "";

    (void)state;
    anvil_count(one, "smtpd:192.0.2.1", ANVIL_CONNECT, 1, NOW);
    anvil_count(one, "smtpd:192.0.2.1", ANVIL_CONNECT, 1, NOW);
    anvil_count(one, "smtpd:192.0.2.2", ANVIL_MESSAGE, 1, NOW + SECONDS(1));
    anvil_report(anvil, gather, text);
    assert_string_equal(text, "statistics: max connection rate 2/60s for (smtpd:192.0.2.1) at Jan 12 13:46:40\n"
                              "statistics: max connection count 2 for (smtpd:192.0.2.1) at Jan 12 13:46:40\n"
                              "statistics: max message rate 1/60s for (smtpd:192.0.2.2) at Jan 12 13:46:41\n"
                              "statistics: max cache size 2 at Jan 12 13:46:41\n");
    text[0] = '\0';
    anvil_report(anvil, gather, text);
    assert_string_equal(text, "");
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(counts_connections_and_rates_of_each_client),
        T(disconnect_without_connect_counts_nothing),
        T(rates_begin_anew_with_each_time_unit),
        T(death_of_a_reporter_ends_its_connections),
        T(idle_clients_are_forgotten),
        T(statistics_tell_the_peaks_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
