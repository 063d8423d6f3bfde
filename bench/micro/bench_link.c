/* SPDX-License-Identifier: Apache-2.0 */
/* Attribute round trips between two processes over one link: one call at a time, and by 64 tasks at once (what they send
 * in a turn goes out in one write). Each call sends an envelope of a dozen fields, alone or with 4 KiB of content, and
 * gets a short answer.
 *   bench_link [seconds for each row] */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

enum { FIELDS = 12 };

struct letter {
    const char *text[FIELDS];
    int64_t number;
};

#define FIELD(n)                                                             \
    {                                                                        \
        "attribute_" #n, MSG_TEXT, offsetof(struct letter, text[n]), 0, 1000 \
    }

static const struct msg_field fields[] = {
    FIELD(0),
    FIELD(1),
    FIELD(2),
    FIELD(3),
    FIELD(4),
    FIELD(5),
    FIELD(6),
    FIELD(7),
    FIELD(8),
    FIELD(9),
    FIELD(10),
    FIELD(11),
    {"number", MSG_INT, offsetof(struct letter, number), 0, INT64_MAX},
};

static const struct msg_type letter = {"letter", 16, 1, sizeof(struct letter), fields, ARRAY_LEN(fields)};
static const struct msg_type answer = {"answer", 17, 1, sizeof(struct letter), fields, ARRAY_LEN(fields)};
static const struct msg_type *const types[] = {&letter, &answer};
static const struct link_role roles[] = {{"bench", 1}};
static const struct link_protocol protocol = {types, 2, roles, 1};

static struct {
    struct link *link;
    size_t payload;
    unsigned long calls;
    usec_t until;
} bench;

static void
serve(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct letter *got = in->message;
    struct letter reply = {.text = {"250", "2.0.0", "queued"}, .number = got->number};

    (void)ctx;
    link_reply(request, &answer, &reply, (struct slice){0}, NULL, 0);
}

static const struct link_handler handlers[] = {{&letter, false, serve}};

static void
stop(void *ctx, struct link *link)
{
    (void)ctx;
    (void)link;
    loop_stop();
}

static void
run_server(int listener)
{
    int fd = accept(listener, NULL, NULL);

    loop_init();
    link_init(&protocol, "bench", geteuid());
    check(link_accept(fd, handlers, 1, NULL, stop));
    loop_run();
    _exit(0);
}

static void
caller(void *arg)
{
    static char content[65536];
    struct arena *arena = arena_new();
    struct letter message = {.number = 4711};
    struct link_message reply;
    struct err err;

    (void)arg;
    for (int i = 0; i < FIELDS; i++)
        message.text[i] = "some.name@mail.example.com";
    while (loop_now() < bench.until) {
        if (link_call(bench.link, arena, &letter, &message, slice_make(content, bench.payload), NULL, 0, &answer,
                      &reply, NO_DEADLINE, &err) < 0)
            fatal("%s", err.text);
        bench.calls++;
        arena_reset(arena);
    }
    arena_free(&arena);
}

static double
cpu_of(const struct rusage *use)
{
    return (double)(use->ru_utime.tv_sec + use->ru_stime.tv_sec) * 1e6 +
           (double)(use->ru_utime.tv_usec + use->ru_stime.tv_usec);
}

struct row {
    unsigned tasks;
    size_t payload;
    double seconds;
};

static void
run_client(void *arg)
{
    const struct row *row = arg;
    struct task_group group;

    task_group_init(&group);
    for (unsigned i = 0; i < row->tasks; i++)
        task_spawn(&group, "caller", caller, NULL);
    task_group_join(&group);
    link_free(&bench.link);
}

static void
measure(const struct row *row)
{
    char path[64];
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rusage before, after, child_before, child;
    usec_t start;
    pid_t pid;

    snprintf(path, sizeof(path), "/tmp/bench_link.%d", (int)getpid());
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    check(bind(listener, (struct sockaddr *)&sun, sizeof(sun)) == 0 && listen(listener, 1) == 0);
    getrusage(RUSAGE_CHILDREN, &child_before);
    pid = fork();
    if (pid == 0)
        run_server(listener);
    loop_init();
    link_init(&protocol, "bench", geteuid());
    bench.link = link_connect(path, NULL, 0, NULL, NULL);
    bench.payload = row->payload;
    bench.calls = 0;
    start = clock_monotonic();
    bench.until = start + (usec_t)(row->seconds * 1e6);
    getrusage(RUSAGE_SELF, &before);
    task_run_main(run_client, (void *)(uintptr_t)row);
    start = clock_monotonic() - start;
    getrusage(RUSAGE_SELF, &after);
    waitpid(pid, NULL, 0);
    getrusage(RUSAGE_CHILDREN, &child);
    loop_release();
    close(listener);
    unlink(path);
    printf("| %u at once, %zu bytes of content | %.0f | %.2f |\n", row->tasks, row->payload,
           (double)bench.calls * 1e6 / (double)start,
           (cpu_of(&after) - cpu_of(&before) + cpu_of(&child) - cpu_of(&child_before)) / (double)bench.calls);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static const unsigned tasks[] = {1, 8, 64};
    static const size_t payloads[] = {0, 4096, 65536};

    mallopt(M_MMAP_THRESHOLD, 4 << 20); /* as service_main() does */
    mallopt(M_TRIM_THRESHOLD, 4 << 20);
    printf("| calls over a link | a second | CPU µs for each, both processes |\n| --- | --- | --- |\n");
    fflush(stdout);
    for (size_t p = 0; p < ARRAY_LEN(payloads); p++)
        for (size_t i = 0; i < ARRAY_LEN(tasks); i++) {
            struct row row = {tasks[i], payloads[p], argc > 1 ? atof(argv[1]) : 1};

            measure(&row);
        }
    return 0;
}
