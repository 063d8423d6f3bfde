/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/program_pages.h"
#include "lib/mail/log_events.h"
#include "lib/run/watchdog.h"
#include "lib/service/master_protocol.h"
#include "lib/service/service_internal.h"
#include "lib/table/table.h"

#define LOAD_REPORT_TIME  (200 * 1000)
#define HOUSEKEEPING_TIME SECONDS(10)
#define LOOK_AGAIN_TIME   SECONDS(1)
#define TABLES_TIME       SECONDS(1)

enum {
    LOAD_WORTH_REPORTING = 50,
    WORK_WORTH_TRIMMING = 100 * 1000,
    BUSY_PERCENT = 1, /* of a processor: more than that is no time for housekeeping */
};

static struct {
    struct loop_timer load_timer, life_timer, idle_timer, housekeeping_timer, quiet_timer, tables_timer;
    unsigned load, reported;
    usec_t last_activity, last_cpu;
    usec_t trimmed_cpu; /* at the last time memory was given back */
    bool trimmed;
    bool agent_reports; /* the daemon itself tells its load */
} end;

/* --- to master --- */

static void
report(enum master_report_kind kind, unsigned value)
{
    struct master_report message = {(uint32_t)kind, value};

    if (service_state.has_master)
        (void)!send(MASTER_STATUS_FD, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void
service_report_ready(void)
{
    const struct service *s = service_state.service;

    report(MASTER_READY, (s->many_workers ? MASTER_READY_MANY_WORKERS : 0) | (s->overlaps ? MASTER_READY_OVERLAPS : 0) |
                             (s->delivers ? MASTER_READY_DELIVERS : 0));
}

void
service_handed_over(void)
{
    report(MASTER_HANDED_OVER, 0);
}

static void
report_life(void *arg)
{
    usec_t limit = service_state.watchdog_time;

    (void)arg;
    report(MASTER_ALIVE, (unsigned)((limit + SECONDS(1) - 1) / SECONDS(1)));
    loop_timer_set(&end.life_timer, loop_now() + limit / 3, report_life, NULL);
}

/* Our own says what happened; master ends a process that can't even do that. */
void
service_start_watchdog(void)
{
    watchdog_start(service_state.watchdog_time);
    report_life(NULL);
}

static void
report_load(void *arg)
{
    (void)arg;
    end.reported = end.load;
    report(MASTER_LOAD, end.load);
}

/* A small load is of no interest to master, unless it still believes in a large one. */
static void
note_load(unsigned sessions)
{
    end.load = sessions;
    if (sessions == end.reported || (sessions < LOAD_WORTH_REPORTING && end.reported < LOAD_WORTH_REPORTING))
        return;
    if (!end.load_timer.due)
        loop_timer_set(&end.load_timer, loop_now() + LOAD_REPORT_TIME, report_load, NULL);
}

void
service_report_load(unsigned sessions)
{
    end.agent_reports = true;
    note_load(sessions);
}

/* --- the end --- */

/* Waits until no session and no client of a link is left, or the time that terminating leaves is over. Looks again now
 * and then, because a slow end may turn into a quick one. */
static void may_wait
wait_for_sessions(void)
{
    struct service_state *s = &service_state;
    struct err err;

    while (s->sessions > 0 || link_server_count() > 0) {
        usec_t again = loop_now() + LOOK_AGAIN_TIME;

        if (s->terminating && loop_now() >= s->end_time)
            break;
        if (s->terminating && again > s->end_time)
            again = s->end_time;
        if (s->sessions > 0)
            (void)!task_wait(&s->session_ended, again, &err);
        else
            (void)!link_drain_servers(again, &err);
        if (task_is_cancelled())
            break;
    }
}

static void
run_end(void *arg)
{
    struct service_state *s = &service_state;

    (void)arg;
    task_group_join(&s->start_tasks); /* master may want the end before the start is complete */
    task_group_join(&s->acceptors);
    report(MASTER_RETIRING, 0);
    link_retire_servers();
    if (s->service->drain)
        s->service->drain();
    wait_for_sessions();
    if (s->sessions > 0)
        log_debug("ends with %u sessions open", s->sessions);
    task_group_cancel(&s->session_tasks);
    task_group_cancel(&s->tasks);
    task_group_join(&s->session_tasks);
    task_group_join(&s->tasks);
    loop_stop();
}

void
service_end(bool terminate)
{
    struct service_state *s = &service_state;

    if (terminate && !s->terminating) {
        s->terminating = true;
        s->end_time = loop_now() + s->settings.service_drain_time;
        if (s->service->hurry)
            s->service->hurry();
    }
    if (s->ending)
        return;
    s->ending = true;
    task_group_cancel(&s->acceptors);
    task_spawn(&s->end_tasks, "end", run_end, NULL);
}

void
service_retire(void)
{
    service_end(false);
}

static void
run_quiet(void *arg)
{
    struct service_state *s = &service_state;

    (void)arg;
    task_group_join(&s->start_tasks);
    if (s->service->quiet && !s->ending)
        s->service->quiet();
    report(MASTER_QUIET_NOW, 0);
}

/* --- master's voice --- */

static void
obey(char word)
{
    if (word == MASTER_QUIET)
        task_spawn(&service_state.end_tasks, "quiet", run_quiet, NULL);
    else
        service_end(word == MASTER_TERMINATE);
}

/* False: master is gone. */
static bool
hear_master(void)
{
    char byte;
    ssize_t n;

    while ((n = recv(MASTER_STATUS_FD, &byte, 1, MSG_DONTWAIT)) == 1)
        obey(byte);
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void
listen_to_master(void *arg)
{
    struct task_fd tfd;
    struct err err;

    (void)arg;
    task_fd_init(&tfd, MASTER_STATUS_FD);
    while (hear_master())
        if (task_fd_wait_read(&tfd, NO_DEADLINE, &err) < 0)
            break;
    task_fd_release(&tfd);
    if (!task_is_cancelled()) {
        log_debug("master is gone");
        service_end(true);
    }
}

void
service_watch_master(void)
{
    (void)fcntl(MASTER_STATUS_FD, F_SETFD, FD_CLOEXEC);
    (void)fcntl(MASTER_LOCK_FD, F_SETFD, FD_CLOEXEC);
    task_spawn(&service_state.end_tasks, "master", listen_to_master, NULL);
}

/* --- when there is little to do --- */

static bool
is_idle(void)
{
    struct service_state *s = &service_state;

    return s->sessions == 0 && link_server_count() == 0;
}

static void
on_idle(void *arg)
{
    struct service_state *s = &service_state;

    (void)arg;
    if (is_idle() && loop_now() >= end.last_activity + s->settings.max_idle)
        service_end(false);
    else
        loop_timer_set(&end.idle_timer, loop_now() + s->settings.max_idle, on_idle, NULL);
}

void
service_note_activity(void)
{
    end.last_activity = loop_now();
    if (!end.agent_reports)
        note_load(service_state.sessions);
}

static usec_t
cpu_used(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (usec_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
give_memory_back(void)
{
    link_trim();
    malloc_trim(0);
    program_pages_release();
    end.trimmed_cpu = cpu_used();
}

/* The last session has ended: what a hundred of them needed is not kept for the next. What this costs is little beside the work before it. */
static void
on_quiet(void *arg)
{
    (void)arg;
    if (service_state.sessions == 0 && cpu_used() - end.trimmed_cpu > WORK_WORTH_TRIMMING)
        give_memory_back();
}

void
service_note_quiet(void)
{
    loop_timer_set(&end.quiet_timer, loop_now(), on_quiet, NULL);
}

/* Gives memory back, once after each time of work. */
static void
keep_house(void *arg)
{
    usec_t cpu = cpu_used();

    (void)arg;
    if (cpu - end.last_cpu > HOUSEKEEPING_TIME * BUSY_PERCENT / 100) {
        end.trimmed = false;
    } else if (!end.trimmed) {
        give_memory_back();
        end.trimmed = true;
    }
    end.last_cpu = cpu;
    loop_timer_set(&end.housekeeping_timer, loop_now() + HOUSEKEEPING_TIME, keep_house, NULL);
}

/* A process in a sandbox can't open a table that was replaced: a new process can. */
static void
look_at_tables(void *arg)
{
    (void)arg;
    if (tables_changed()) {
        log_restarting("table");
        service_retire();
        return;
    }
    loop_timer_set(&end.tables_timer, loop_now() + TABLES_TIME, look_at_tables, NULL);
}

void
service_start_housekeeping(void)
{
    end.last_activity = loop_now();
    loop_timer_set(&end.housekeeping_timer, loop_now() + HOUSEKEEPING_TIME, keep_house, NULL);
    if (!service_state.service->resident && service_state.has_master)
        loop_timer_set(&end.idle_timer, loop_now() + service_state.settings.max_idle, on_idle, NULL);
    if (service_state.has_master && tables_have_files())
        loop_timer_set(&end.tables_timer, loop_now() + TABLES_TIME, look_at_tables, NULL);
}
