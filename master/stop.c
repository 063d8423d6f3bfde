/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a stop. First those who take mail in, so that nothing new comes. Then qmgr begins nothing any more and gets
 * some seconds to end deliveries, while cleanup still takes the notices that this brings. Then cleanup, which has answered all
 * that it made durable; then qmgr, while the delivery agents still live: it waits for what they have under way and
 * writes every message in flight to a file; then all others; the log's writer last. Each gets its time; who does not
 * end is killed, which loses no mail either, but leaves the journal to be replayed. */
#include <signal.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/service/master_protocol.h"
#include "master/master.h"

#define QMGR_TIME  SECONDS(300)
#define QUIET_TIME SECONDS(6) /* qmgr itself gives up earlier */
#define MARGIN     SECONDS(2) /* beyond the time that the processes give themselves */

enum stop_phase
stop_phase_of(const struct master_service *conf)
{
    static const char *const others[] = {"smtp",  "lmtp",   "error",  "discard",         "local",    "virtual",
                                         "pipe",  "bounce", "anvil",  "trivial-rewrite", "resolver", "showq",
                                         "flush", "verify", "tlsmgr", "proxymap",        "scache",   "auth"};

    if (strcmp(conf->command, "cleanup") == 0)
        return STOP_CLEANUP;
    if (strcmp(conf->command, "qmgr") == 0)
        return STOP_QMGR;
    if (strcmp(conf->command, "postlogd") == 0)
        return STOP_LOG;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(conf->command, others[i]) == 0)
            return STOP_OTHERS;
    return STOP_RECEIVERS;
}

static unsigned
tell_phase(enum stop_phase phase, bool kill_them)
{
    unsigned count = 0;

    LIST_EACH(at, &master.services)
    {
        struct service *s = LIST_ENTRY(at, struct service, link);

        if (s->phase != phase)
            continue;
        s->stopping = true;
        service_update(s);
        LIST_EACH(child_at, &s->children)
        {
            struct child *child = LIST_ENTRY(child_at, struct child, link);

            child_tell(child, MASTER_TERMINATE);
            if (kill_them)
                kill(child->pid, SIGKILL);
            count++;
        }
    }
    return count;
}

static unsigned
count_phase(enum stop_phase phase)
{
    unsigned count = 0;

    LIST_EACH(at, &master.services)
    {
        const struct service *s = LIST_ENTRY(at, struct service, link);

        if (s->phase == phase)
            count += s->child_count;
    }
    return count;
}

static void may_wait
wait_for_phase(enum stop_phase phase, usec_t time)
{
    usec_t deadline = loop_now() + time;
    struct err err;

    while (count_phase(phase) > 0)
        if (task_wait(&master.child_died, deadline, &err) < 0)
            break;
}

/* The log's writer may have ended a moment ago (a reload), and what was said since waits in its socket. */
static void may_wait
write_rest_of_log(void)
{
    LIST_EACH(at, &master.services)
    {
        struct service *s = LIST_ENTRY(at, struct service, link);

        if (s->phase == STOP_LOG)
            demand_serve_rest(s);
    }
}

static void may_wait
stop_one_phase(enum stop_phase phase)
{
    usec_t time = phase == STOP_QMGR ? QMGR_TIME : master.settings.service_drain_time;

    if (phase == STOP_LOG)
        write_rest_of_log();
    if (tell_phase(phase, false) == 0)
        return;
    wait_for_phase(phase, time + MARGIN);
    if (count_phase(phase) == 0)
        return;
    log_warning("%u processes did not end in time: killed", count_phase(phase));
    tell_phase(phase, true);
    wait_for_phase(phase, SECONDS(5));
}

static unsigned
count_busy_qmgrs(void)
{
    unsigned count = 0;

    LIST_EACH(at, &master.services)
    {
        const struct service *s = LIST_ENTRY(at, struct service, link);

        LIST_EACH(child_at, &s->children)
        {
            count += s->phase == STOP_QMGR && !LIST_ENTRY(child_at, struct child, link)->is_quiet;
        }
    }
    return count;
}

static void may_wait
quiet_qmgr(void)
{
    usec_t deadline = loop_now() + QUIET_TIME;
    struct err err;

    LIST_EACH(at, &master.services)
    {
        struct service *s = LIST_ENTRY(at, struct service, link);

        if (s->phase != STOP_QMGR)
            continue;
        LIST_EACH(child_at, &s->children)
        {
            child_tell(LIST_ENTRY(child_at, struct child, link), MASTER_QUIET);
        }
    }
    while (count_busy_qmgrs() > 0)
        if (task_wait(&master.child_died, deadline, &err) < 0)
            break;
}

static void
stop_all(void *arg)
{
    (void)arg;
    for (enum stop_phase phase = 0; phase < STOP_PHASES; phase++) {
        if (phase == STOP_CLEANUP)
            quiet_qmgr();
        stop_one_phase(phase);
    }
    loop_stop();
}

void
stop_in_order(void)
{
    if (master.stopping)
        return;
    master.stopping = true;
    task_spawn(&master.tasks, "stop", stop_all, NULL);
}

static void
kill_all(void *arg)
{
    (void)arg;
    for (enum stop_phase phase = 0; phase < STOP_PHASES; phase++)
        tell_phase(phase, true);
    for (enum stop_phase phase = 0; phase < STOP_PHASES; phase++)
        wait_for_phase(phase, SECONDS(5));
    loop_stop();
}

void
stop_at_once(void)
{
    master.stopping = true;
    task_spawn(&master.tasks, "abort", kill_all, NULL);
}
