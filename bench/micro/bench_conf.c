/* SPDX-License-Identifier: Apache-2.0 */
/* How long a daemon takes to read its configuration: main.cf of 500 lines and master.cf, all of smtpd's settings.
 * bench_conf DIRECTORY [ROUNDS] */
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/conf/conf.h"
#include "lib/conf/master_cf.h"
#include "lib/conf/settings_service.h"
#include "lib/conf/settings_smtpd.h"

static usec_t
one_round(const char *directory)
{
    struct err err;
    struct smtpd_settings smtpd;
    struct service_settings service;
    usec_t begin = clock_monotonic();
    struct arena *arena = arena_new();
    struct conf *conf = conf_load(directory, &err);
    if (!conf || service_settings_load(&service, conf, arena, &err) < 0 ||
        smtpd_settings_load(&smtpd, conf, arena, &err) < 0)
        fatal("%s", err.text);
    conf_free(&conf);
    arena_free(&arena);
    return clock_monotonic() - begin;
}

static int
compare(const void *a, const void *b)
{
    usec_t x = *(const usec_t *)a, y = *(const usec_t *)b;
    return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
    enum { MOST = 10000 };
    static usec_t times[MOST];
    size_t rounds = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 1000;
    if (argc < 2 || rounds == 0 || rounds > MOST)
        fatal("usage: %s directory [rounds]", argv[0]);
    for (size_t i = 0; i < rounds; i++)
        times[i] = one_round(argv[1]);
    usec_t first = times[0];
    qsort(times, rounds, sizeof(*times), compare);
    printf("first %lld us, median %lld us, 90%% %lld us\n", (long long)first, (long long)times[rounds / 2],
           (long long)times[rounds * 9 / 10]);
    return 0;
}
