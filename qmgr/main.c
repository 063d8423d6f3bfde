/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr(8): decides which message is delivered when. See active.h for the life of a message, sched.h for the choice. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/conf/master_cf.h"
#include "lib/conf/settings_qmgr.h"
#include "lib/mail/queue_dir.h"
#include "lib/mail/route.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "qmgr/active.h"
#include "qmgr/control.h"
#include "qmgr/delivery.h"
#include "qmgr/filing.h"
#include "qmgr/outlet.h"
#include "qmgr/replay.h"
#include "qmgr/routing.h"
#include "qmgr/scan.h"
#include "qmgr/segment.h"

enum { POOL_THREADS = 8 }; /* each may be in an fsync */
#define STOP_TIME SECONDS(60)
#define PATIENCE  SECONDS(4) /* for deliveries under way, when the system stops: cleanup is still there */
#define LAST_TIME SECONDS(1) /* for what they have brought */

static struct qmgr_settings settings;
static struct queue_dir queue;
static struct master_cf services;
static bool services_are_known;
static int journal_fd = -1;
static bool was_quiet;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    if (qmgr_settings_load(&settings, conf, service_arena(), err) < 0)
        return -1;
    if (queue_dir_open(&queue, ".", conf, service_arena(), err) < 0)
        return -1;
    services_are_known = master_cf_load(conf, service_arena(), &services, err) == 0;
    if (!services_are_known)
        log_warning("%s", err->text);
    return 0;
}

static int
open_journal(struct err *err)
{
    if (mkdirat(queue.fd, "journal", 0700) < 0 && errno != EEXIST)
        return err_errno(err, "mkdir journal");
    journal_fd = openat(queue.fd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return journal_fd < 0 ? err_errno(err, "open journal") : 0;
}

static int
start(struct err *err)
{
    if (open_journal(err) < 0)
        return -1;
    pool_set_threads(POOL_THREADS);
    if (settings.bounce_queue_lifetime > settings.maximal_queue_lifetime)
        log_warning("bounce_queue_lifetime is larger than maximal_queue_lifetime - adjusting bounce_queue_lifetime");
    filing_init(&queue, true);
    scan_init(&queue);
    control_init(journal_fd);
    replay_init(&queue, journal_fd);
    segment_on_forget(outlet_forget_segment);
    delivery_init(service_conf(), services_are_known ? &services : NULL);
    routing_init(
        router_new(service_socket_path(arena_printf(service_arena(), "private/%s", settings.rewrite_service_name))));
    active_init(&settings);
    active_start();
    /* What can't be read or moved now is tried again later; the rest of the mail does not wait for it. */
    if (replay_all(err) < 0)
        log_warning("%s", err->text);
    scan_reset_active();
    scan_start();
    replay_watch();
    return 0;
}

/* All that is there, also what nobody told us of: a stop leaves no segment, if it can be helped. */
static void may_wait
take_over_rest(void)
{
    struct err err;

    if (replay_all(&err) < 0)
        log_warning("%s", err.text);
}

static void may_wait
quiet(void)
{
    was_quiet = true;
    active_quiet(loop_now() + PATIENCE);
}

/* After a reload. false: not so; what is there is to go as at a stop. */
static bool may_wait
give_way(void)
{
    bool finished;

    if (service_is_terminating() || !active_hand_over(loop_now() + STOP_TIME))
        return false;
    service_handed_over();
    finished = active_finish();
    if (!finished)
        (void)active_leave_all(was_quiet ? LAST_TIME : PATIENCE, loop_now() + STOP_TIME);
    segment_sweep_unused(journal_fd);
    return true;
}

static void
drain(void)
{
    if (give_way())
        return;
    if (!active_leave_all(was_quiet ? LAST_TIME : PATIENCE, loop_now() + STOP_TIME))
        log_warning("some messages could not be put on disk as files; they stay in the journal");
    take_over_rest();
    /* What that brought to light. */
    if (active_leave_all(0, loop_now() + STOP_TIME))
        take_over_rest();
}

static const struct service qmgr_service = {
    .program = "qmgr",
    .prepare = prepare,
    .start = start,
    .serve = control_serve,
    .quiet = quiet,
    .drain = drain,
    .hurry = active_hurry,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_READ | SANDBOX_MOVE |
                         SANDBOX_QUEUE | SANDBOX_THREADS,
                .may_write_files = true,
                .write_paths = (const char *const[]){".", NULL},
                .read_paths = (const char *const[]){"/etc/localtime", NULL}},
    .watchdog_time = "qmgr_daemon_timeout",
    .resident = true,
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &qmgr_service);
}
