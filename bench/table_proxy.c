/* SPDX-License-Identifier: Apache-2.0 */
/* table_proxy DIRECTORY TABLE TASKS SECONDS KEYS: look-ups a second through the proxymap of a mail system that runs with this
 * configuration. Keys are "k0" to "kN", each asked once in a round, so that what the client remembers is old by then. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/mail/messages.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/table/proxy_client.h"

static struct {
    struct table *table;
    unsigned tasks, keys, next;
    usec_t end;
    unsigned long asked, found;
} bench;

static void
ask(void *arg)
{
    struct arena *arena = arena_new();
    struct err err;
    const char *value;

    (void)arg;
    while (clock_monotonic() < bench.end) {
        const char *key = arena_printf(arena, "k%u", bench.next++ % bench.keys);

        if (table_find(bench.table, arena, slice_from(key), &value, &err) < 0)
            fatal("%s", err.text);
        bench.asked++;
        bench.found += value != NULL;
        arena_reset(arena);
    }
    arena_free(&arena);
}

static void
run(void *arg)
{
    struct task_group group;

    (void)arg;
    task_group_init(&group);
    for (unsigned i = 0; i < bench.tasks; i++)
        task_spawn(&group, "ask", ask, NULL);
    task_group_join(&group);
}

static unsigned
number(const char *text)
{
    unsigned long long n;

    if (slice_to_u64(slice_from(text), 1000000, &n) < 0 || n == 0)
        fatal("bad number: %s", text);
    return (unsigned)n;
}

int
main(int argc, char **argv)
{
    struct err err;
    struct conf *conf;
    unsigned seconds;

    if (argc != 6)
        fatal("usage: table_proxy directory table tasks seconds keys");
    conf = conf_load(argv[1], &err);
    if (!conf || proxy_client_init_command(conf, &err) < 0)
        fatal("%s", err.text);
    loop_init();
    link_init(&mail_protocol, "postmap", geteuid());
    bench.table = table_open(conf, argv[2], 0, &err);
    if (!bench.table)
        fatal("%s", err.text);
    seconds = number(argv[4]);
    bench.tasks = number(argv[3]);
    bench.keys = number(argv[5]);
    bench.end = clock_monotonic() + SECONDS(seconds);
    task_run_main(run, NULL);
    printf("%u tasks: %.0f look-ups a second, %lu of %lu found\n", bench.tasks, (double)bench.asked / (double)seconds,
           bench.found, bench.asked);
    return 0;
}
