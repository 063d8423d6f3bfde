/* SPDX-License-Identifier: Apache-2.0 */
/* pickup(8): takes in mail of local programs. See pickup/pickup.h. */
#include "pickup/pickup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/mail/queue_id.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"

enum { AT_ONCE = 64 };

#define DRAIN_TIME SECONDS(5)

/* maildrop/ goes to the disk so long after the first removal that is not there yet, by a job in the pool: a power cut
 * repeats the submissions of that time, not those since the system last wrote its directories by itself. Nobody waits for
 * it. */
static const usec_t SYNC_TIME = 200000;

struct pickup pickup;

static struct {
    bool wanted, again; /* a look at the directory: somebody asked; while it went on */
    struct task_cond asked, finished;
    struct map *busy; /* names that are being taken in, or that stay for another time */
    unsigned running;
} state;

static struct {
    struct loop_timer timer;
    bool wanted, running, failed;
} sync_job;

/* ---- what was removed ---- */

static void
run_sync(void *arg)
{
    (void)arg;
    sync_job.failed = fsync(pickup.maildrop) < 0;
}

static void want_sync(usec_t delay);

static void
sync_done(void *arg)
{
    (void)arg;
    sync_job.running = false;
    if (sync_job.failed)
        log_warning("maildrop could not be synced: a power cut may repeat submissions");
    if (sync_job.wanted)
        want_sync(SYNC_TIME);
    task_wake_all(&state.finished);
}

static void
start_sync(void *arg)
{
    (void)arg;
    sync_job.wanted = false;
    sync_job.running = true;
    pool_submit(run_sync, sync_done, NULL);
}

/* What is asked for while one is under way begins when that has ended. */
static void
want_sync(usec_t delay)
{
    sync_job.wanted = true;
    if (!sync_job.running && (sync_job.timer.due == 0 || sync_job.timer.due > loop_now() + delay))
        loop_timer_set(&sync_job.timer, loop_now() + delay, start_sync, NULL);
}

/* ---- a file ---- */

enum outcome { LEAVE, TAKEN, BROKEN };

/* Not a message of postdrop's that is complete: false. What is odd is named. */
static bool
is_taken_up(const char *name, const struct stat *st)
{
    if (!S_ISREG(st->st_mode)) {
        log_warning("maildrop/%s: not a regular file", name);
        return false;
    }
    if (!(st->st_mode & S_IXUSR))
        return false; /* it is still being written */
    if (st->st_nlink != 1) {
        log_warning("uid=%ld: maildrop/%s has %lu links", (long)st->st_uid, name, (unsigned long)st->st_nlink);
        return false;
    }
    return true;
}

static enum outcome may_wait
take_open(struct drop *drop)
{
    struct stat st;
    struct err err;

    if (fstat(drop->fd, &st) < 0 || !is_taken_up(drop->name, &st))
        return LEAVE;
    if (drop_read(drop, &st, &err) < 0) {
        log_warning("uid=%ld: maildrop/%s: %s", (long)st.st_uid, drop->name, err.text);
        return err.kind == ERR_SYNTAX ? BROKEN : LEAVE;
    }
    return submit_drop(drop) ? TAKEN : LEAVE;
}

/* Where somebody can look at it; a file that is in the way there is older. */
static void
set_aside(const char *name)
{
    char to[QUEUE_ID_SIZE * 8];

    snprintf(to, sizeof to, "corrupt/%s", name);
    if (renameat(pickup.maildrop, name, AT_FDCWD, to) < 0)
        log_warning("maildrop/%s: can't be moved to corrupt: %m", name);
    else
        log_warning("maildrop/%s: moved to corrupt", name);
}

static void
take(void *arg)
{
    char *name = arg;
    struct drop drop = {.arena = arena_new(), .name = name};
    enum outcome outcome = LEAVE;

    drop.fd = openat(pickup.maildrop, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (drop.fd >= 0) {
        outcome = take_open(&drop);
        close(drop.fd);
    } else if (errno != ENOENT) {
        log_warning("maildrop/%s: %m", name);
    }
    if (outcome == TAKEN && unlinkat(pickup.maildrop, name, 0) < 0)
        log_warning("remove maildrop/%s: %m", name);
    if (outcome == BROKEN)
        set_aside(name);
    if (outcome != LEAVE)
        want_sync(SYNC_TIME);
    arena_free(&drop.arena);
    map_remove_text(state.busy, name);
    free(name);
    state.running--;
    task_wake_all(&state.finished);
}

/* ---- the directory ---- */

static int may_wait
start_file(const char *name, struct err *err)
{
    char *copy;

    while (state.running >= AT_ONCE)
        if (task_wait(&state.finished, NO_DEADLINE, err) < 0)
            return -1;
    copy = strdup(name);
    if (!copy)
        fatal("out of memory");
    map_put_text(state.busy, copy, copy);
    state.running++;
    task_spawn(service_tasks(), "file", take, copy);
    return 0;
}

static int may_wait
look(struct err *err)
{
    DIR *directory = opendir("maildrop");
    struct dirent *entry;
    int result = 0;

    if (!directory) {
        log_warning("open maildrop: %m");
        return 0;
    }
    while (result == 0 && (entry = readdir(directory)) != NULL)
        if (queue_id_is_valid(slice_from(entry->d_name)) && !map_get_text(state.busy, entry->d_name))
            result = start_file(entry->d_name, err);
    closedir(directory);
    return result;
}

static void
watch(void *arg)
{
    struct err err;

    (void)arg;
    for (;;) {
        while (!state.wanted)
            if (task_wait(&state.asked, NO_DEADLINE, &err) < 0)
                return;
        state.wanted = false;
        if (look(&err) < 0)
            return;
    }
}

static void
want_look(void)
{
    state.wanted = true;
    task_wake_all(&state.asked);
}

/* ---- the service ---- */

static void
on_trigger(void *ctx, const char *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    (void)len;
    want_look();
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    link_accept_public(fd, NULL, 0, NULL, NULL, on_trigger);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    static const char *const paths[] = {"maildrop", "corrupt", NULL};
    const struct passwd *owner;
    bool unlisted = false;

    if (pickup_settings_load(&pickup.settings, conf, service_arena(), err) < 0 ||
        receive_overrides_parse(pickup.settings.receive_override_options, &pickup.submit_flags, &unlisted, err) < 0)
        return -1;
    if (pickup.settings.smtputf8_enable)
        pickup.submit_flags |= smtputf8_autodetect(pickup.settings.smtputf8_autodetect_classes, "sendmail");
    owner = getpwnam(pickup.settings.mail_owner);
    pickup.owner = owner && geteuid() == 0 ? owner->pw_uid : geteuid();
    sandbox->write_paths = paths;
    return 0;
}

static int
start(struct err *err)
{
    pickup.maildrop = open("maildrop", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (pickup.maildrop < 0)
        return err_errno(err, "open maildrop");
    pickup.submitter = submitter_new(arena_printf(service_arena(), "public/%s", pickup.settings.cleanup_service_name));
    state.busy = map_new();
    task_spawn(service_tasks(), "watch", watch, NULL);
    want_look();
    return 0;
}

static void
drain(void)
{
    usec_t deadline = loop_now() + DRAIN_TIME;
    struct err err;

    while (state.running > 0 && task_wait(&state.finished, deadline, &err) == 0)
        ;
    if (sync_job.wanted)
        want_sync(0);
    while ((sync_job.wanted || sync_job.running) && task_wait(&state.finished, deadline, &err) == 0)
        ;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "pickup",
        .prepare = prepare,
        .start = start,
        .serve = serve,
        .drain = drain,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_FDPASS |
                             SANDBOX_READ | SANDBOX_MOVE | SANDBOX_SYNC | SANDBOX_THREADS},
        .resident = true,
    };

    return service_main(argc, argv, &service);
}
