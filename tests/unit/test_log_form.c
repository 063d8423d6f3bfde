/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/mail/log_form.h"

static void
delays(void **state)
{
    static const struct {
        unsigned digits;
        usec_t delay;
        const char *want;
    } rows[] = {
        {2, 0, "0"},         {2, -5, "0"},          {2, 4000, "0"},      {2, 5001, "0.01"},   {2, 10000, "0.01"},
        {2, 123456, "0.12"}, {2, 994999, "0.99"},   {2, 995000, "1"},    {2, 1240000, "1.2"}, {2, 9949000, "9.9"},
        {2, 9950000, "10"},  {2, 340200000, "340"}, {0, 123456, "0"},    {0, 1600000, "2"},   {1, 123456, "0.1"},
        {1, 40000, "0"},     {3, 12345, "0.012"},   {4, 1234, "0.0012"}, {6, 12, "0.000012"}, {6, 3, "0.000003"},
        {6, 123456, "0.12"}, {6, 0, "0"},           {6, 1234567, "1.2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        log_form_init(false, rows[i].digits);
        log_form_delay(rows[i].delay, text, sizeof text);
        assert_string_equal(text, rows[i].want);
    }
}

static void
addresses(void **state)
{
    struct arena *arena = arena_new();

    (void)state;
    log_form_init(false, 2);
    assert_string_equal(log_form_address(arena, "a b@c.test"), "\"a b\"@c.test");
    log_form_init(true, 2);
    assert_string_equal(log_form_address(arena, "a b@c.test"), "a b@c.test");
    arena_free(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(delays), cmocka_unit_test(addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
