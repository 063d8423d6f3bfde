/* SPDX-License-Identifier: Apache-2.0 */
/* Journal appends a second: tasks that append one image after the other and release it at once.
 * usage: bench_journal [DIRECTORY [TASKS [BYTES [SECONDS]]]]; without TASKS: 1, 20 and 100 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/mail/journal.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

enum { ENVELOPE = 700 };

static const char *directory = "bench_journal.tmp";
static unsigned tasks, bytes = 4096, seconds = 3;
static struct journal *journal;
static usec_t end;

static void
append(void *arg)
{
    char *content = calloc(1, bytes), envelope[ENVELOPE] = {0};
    struct iovec iov = {content, bytes};
    struct journal_place place;
    struct err err;

    (void)arg;
    while (clock_monotonic() < end) {
        if (journal_append(journal, slice_make(envelope, sizeof(envelope)), &iov, 1, &place, &err) < 0)
            fatal("%s", err.text);
        journal_release(journal, &place);
    }
    free(content);
}

static double
cpu(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void
measure(void *arg)
{
    struct journal_settings settings = {.directory = directory, .segment_size = 16 << 20, .segment_limit = 16};
    struct task_group group;
    struct journal_counts before, after;
    struct err err;
    usec_t from;
    double used;

    (void)arg;
    journal = journal_new(&settings, &err);
    if (!journal || journal_prepare(journal, &err) < 0)
        fatal("%s", err.text);
    before = journal_counts(journal);
    used = cpu();
    from = clock_monotonic();
    end = from + SECONDS(seconds);
    task_group_init(&group);
    for (unsigned i = 0; i < tasks; i++)
        task_spawn(&group, "append", append, NULL);
    task_group_join(&group);
    after = journal_counts(journal);
    used = cpu() - used;

    double time = (double)(clock_monotonic() - from) / 1e6, appends = (double)(after.appends - before.appends);
    printf("| %u | %u | %.0f | %.1f | %.1f |\n", tasks, bytes, appends / time,
           appends / (double)(after.syncs - before.syncs), used / appends * 1e6);
    fflush(stdout);
    if (journal_remove_all(journal, &err) < 0)
        fatal("%s", err.text);
    journal_free(&journal);
}

int
main(int argc, char **argv)
{
    static const unsigned usual[] = {1, 20, 100};

    if (argc > 1)
        directory = argv[1];
    if (argc > 3)
        bytes = (unsigned)strtoul(argv[3], NULL, 10);
    if (argc > 4)
        seconds = (unsigned)strtoul(argv[4], NULL, 10);
    puts("| tasks | content, bytes | appends a second | appends for a sync | CPU for an append, µs |\n"
         "| --- | --- | --- | --- | --- |");
    loop_init();
    for (unsigned i = 0; i < ARRAY_LEN(usual) && (argc <= 2 || i == 0); i++) {
        tasks = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : usual[i];
        task_run_main(measure, NULL);
    }
    loop_release();
    rmdir(directory);
    return 0;
}
