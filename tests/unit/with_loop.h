/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/with_loop.h: each test has an event loop. For one .c file. */
#ifndef TESTS_UNIT_WITH_LOOP_H
#define TESTS_UNIT_WITH_LOOP_H

#include "lib/run/loop.h"

static int
setup(void **state)
{
    (void)state;
    loop_init();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    loop_release();
    return 0;
}

#endif
