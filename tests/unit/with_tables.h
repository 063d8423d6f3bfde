/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/with_tables.h: each test has an arena and a configuration, and leaves no table open. For one .c file. */
#ifndef TESTS_UNIT_WITH_TABLES_H
#define TESTS_UNIT_WITH_TABLES_H

#include "lib/base/arena.h"
#include "lib/conf/conf.h"
#include "lib/table/table.h"

static struct arena *arena;
static struct conf *conf;

static int
setup(void **state)
{
    struct err err;

    (void)state;
    arena = arena_new();
    conf = conf_from_text("/etc/postfix", slice_from("compatibility_level = 3.6\n"), &err);
    return conf ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    tables_close_all();
    conf_free(&conf);
    arena_free(&arena);
    return 0;
}

#endif
