/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as a master.cf. What was accepted is printed, and must then read the same. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/conf/master_cf.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void
compare(const struct master_service *a, const struct master_service *b)
{
    for (unsigned i = 0; i < MASTER_CF_FIELDS; i++)
        check(strcmp(a->fields[i], b->fields[i]) == 0);
    check(a->arg_count == b->arg_count && a->option_count == b->option_count && a->verbose == b->verbose);
    for (size_t i = 0; i < a->arg_count; i++)
        check(strcmp(a->args[i], b->args[i]) == 0);
    for (size_t i = 0; i < a->option_count; i++)
        check(strcmp(a->options[i].name, b->options[i].name) == 0 &&
              strcmp(a->options[i].value, b->options[i].value) == 0);
}

static void
check_round_trip(const struct conf *conf, struct arena *arena, const struct master_cf *master, bool folded)
{
    struct buf out = {0};
    struct master_cf again;
    struct err err;
    for (size_t i = 0; i < master->count; i++)
        master_service_print(&master->services[i], folded, &out);
    check(master_cf_parse(conf, arena, "master.cf", buf_slice(&out), &again, &err) == 0);
    check(again.count == master->count);
    for (size_t i = 0; i < master->count; i++)
        compare(&master->services[i], &again.services[i]);
    buf_release(&out);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static struct conf *conf;
    struct arena *arena = arena_new();
    struct master_cf master;
    struct err err;
    if (!conf)
        conf = conf_from_text("/nowhere", slice_from(""), &err);
    check(conf);
    if (!memchr(data, 0, size) && size < 64 << 10 &&
        master_cf_parse(conf, arena, "master.cf", slice_make(data, size), &master, &err) == 0) {
        check_round_trip(conf, arena, &master, false);
        check_round_trip(conf, arena, &master, true);
    }
    arena_free(&arena);
    return 0;
}
