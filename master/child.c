/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/service/master_protocol.h"
#include "master/master.h"

enum { SIGNAL_FAILURES = 3 }; /* killed that often before they were ready: throttled */

#define RESTART_PAUSE       (100 * 1000) /* times the failures in a row, up to RESTART_PAUSE_LIMIT */
#define RESTART_PAUSE_LIMIT (900 * 1000)
#define GOOD_LIFE           SECONDS(10) /* who lived that long did not crash "again" */

/* --- in the new process --- */

static char **
build_arguments(struct arena *arena, const struct service *s)
{
    const struct master_service *conf = s->conf;
    char **args = arena_array(arena, conf->arg_count + 20, sizeof(*args));
    size_t n = 0;

    args[n++] = arena_strdup(arena, conf->command);
    args[n++] = arena_strdup(arena, "-n");
    args[n++] = arena_strdup(arena, s->name);
    args[n++] = arena_strdup(arena, "-t");
    args[n++] = arena_strdup(arena, master_type_name(s->type));
    if (conf->unprivileged && master.is_root)
        args[n++] = arena_strdup(arena, "-u");
    if (conf->chroot && master.is_root)
        args[n++] = arena_strdup(arena, "-c");
    args[n++] = arena_strdup(arena, "-s");
    args[n++] = arena_printf(arena, "%zu", s->listener_count);
    if (conf->maxproc_is_given && conf->maxproc > 0) {
        args[n++] = arena_strdup(arena, "-m");
        args[n++] = arena_printf(arena, "%u", (conf->maxproc + service_worker_limit(s) - 1) / service_worker_limit(s));
    }
    for (size_t i = 0; i < conf->arg_count; i++)
        args[n++] = conf->args[i];
    return args;
}

/* Out of the way first, because a descriptor may have a number that another is to get. */
static int
move_high(const struct service *s, int fd)
{
    int high = fcntl(fd, F_DUPFD, MASTER_LISTEN_FD + (int)s->listener_count);

    if (high < 0)
        fatal("%s: fcntl: %m", s->name);
    return high;
}

/* In the new process, which may write in what it has of the service. */
static void
place_descriptors(struct service *s, int status_fd)
{
    int count = (int)s->listener_count, lock_fd;

    status_fd = move_high(s, status_fd);
    lock_fd = move_high(s, master.lock_file);
    for (int i = 0; i < count; i++)
        s->listeners[i].fd = move_high(s, s->listeners[i].fd);
    if (dup2(status_fd, MASTER_STATUS_FD) < 0 || dup2(lock_fd, MASTER_LOCK_FD) < 0)
        fatal("%s: dup2: %m", s->name);
    for (int i = 0; i < count; i++)
        if (dup2(s->listeners[i].fd, MASTER_LISTEN_FD + i) < 0)
            fatal("%s: dup2: %m", s->name);
    closefrom(MASTER_LISTEN_FD + count);
    close(3);
}

static void
reset_signals(void)
{
    sigset_t none;

    for (int sig = 1; sig < 32; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void NORETURN
run_program(struct service *s, const char *program, int status_fd, char **args)
{
    reset_signals();
    place_descriptors(s, status_fd);
    execve(program, args, master.environment);
    _exit(127);
}

/* --- silence --- */

static bool take_reports(struct child *);

/* Its own watchdog would have ended it by now, but it may be stopped, or in a system call that no signal breaks. The
 * second look is for the case that it was we who stood still. */
static void
on_silence(void *arg)
{
    struct child *child = arg;

    (void)take_reports(child);
    if (child->alive_timer.due)
        return;
    loop_timer_set(&child->alive_timer, loop_now() + child->silence / 3, on_silence, child);
    if (!child->is_suspect) {
        child->is_suspect = true;
        return;
    }
    log_warning("process %s pid %d: watchdog timeout: killed", child->program, (int)child->pid);
    kill(child->pid, SIGKILL);
}

static void
note_life(struct child *child, unsigned limit)
{
    child->silence = SECONDS(limit);
    child->is_suspect = false;
    if (limit > 0)
        loop_timer_set(&child->alive_timer, loop_now() + child->silence + 2 * child->silence / 3, on_silence, child);
}

/* --- reports --- */

static void
take_report(struct child *child, const struct master_report *report)
{
    struct service *s = child->service;

    switch (report->kind) {
    case MASTER_READY:
        child->ready = true;
        s->many_workers = report->value & MASTER_READY_MANY_WORKERS;
        s->overlaps = report->value & MASTER_READY_OVERLAPS;
        s->delivers = report->value & MASTER_READY_DELIVERS;
        break;
    case MASTER_LOAD: child->load = report->value; break;
    case MASTER_RETIRING: child->retiring = true; break;
    case MASTER_HANDED_OVER: child->handed_over = true; break;
    case MASTER_QUIET_NOW:
        child->is_quiet = true;
        task_wake_all(&master.child_died);
        return;
    case MASTER_ALIVE: note_life(child, report->value); return;
    default: break;
    }
    service_update(s);
    if (report->kind == MASTER_HANDED_OVER && s->conf && s->conf->wakeup > 0)
        service_wake(s); /* there may be work that nobody else pokes a successor for */
}

/* Those that are there. False: there will be no more. */
static bool
take_reports(struct child *child)
{
    struct master_report report;
    ssize_t n;

    while ((n = recv(child->status_fd, &report, sizeof(report), MSG_DONTWAIT)) == sizeof(report))
        take_report(child, &report);
    return n < 0 && errno == EAGAIN;
}

static void
read_reports(void *arg)
{
    struct child *child = arg;
    struct task_fd tfd;
    struct err err;

    task_fd_init(&tfd, child->status_fd);
    while (take_reports(child))
        if (task_fd_wait_read(&tfd, NO_DEADLINE, &err) < 0)
            break;
    task_fd_release(&tfd);
}

void
child_tell(struct child *child, char word)
{
    (void)!send(child->status_fd, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    child->told_to_end = child->told_to_end || word != MASTER_QUIET;
}

/* --- start --- */

static void
note_child(struct service *s, pid_t pid, int status_fd, const char *program)
{
    struct child *child = calloc(1, sizeof(*child));

    if (!child)
        fatal("out of memory");
    child->service = s;
    child->program = strdup(program);
    child->pid = pid;
    child->status_fd = status_fd;
    child->started = loop_now();
    task_group_init(&child->reader);
    list_append(&s->children, &child->link);
    s->child_count++;
    s->was_used = true;
    task_spawn(&child->reader, "reports", read_reports, child);
    log_debug("%s: started %s, pid %d", s->name, program, (int)pid);
}

static void
throttle(struct service *s, usec_t pause)
{
    s->not_before = loop_now() + pause;
    service_update(s);
}

static void
start_program(struct service *s, struct arena *arena, const char *program)
{
    char **args = build_arguments(arena, s);
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
        log_warning("%s: socketpair: %s", s->name, strerror(errno));
        throttle(s, master.settings.fork_delay);
        return;
    }
    log_flush();
    pid = fork();
    if (pid == 0)
        run_program(s, program, pair[1], args);
    close(pair[1]);
    if (pid < 0) {
        log_warning("fork: %s -- throttling", strerror(errno));
        close(pair[0]);
        throttle(s, master.settings.fork_delay);
        return;
    }
    note_child(s, pid, pair[0], program);
}

void
child_start(struct service *s)
{
    struct arena *arena = arena_new();
    const char *program = arena_printf(arena, "%s/%s", master.settings.daemon_directory, s->conf->command);

    if (access(program, X_OK) < 0) {
        log_warning("cannot execute %s: %s", program, strerror(errno));
        log_warning("%s: bad command startup -- throttling", s->name);
        throttle(s, master.settings.service_throttle_time);
    } else {
        start_program(s, arena, program);
    }
    arena_free(&arena);
}

/* --- death --- */

/* One that can't start is left alone for a long time, so that the log does not fill; one that crashed at its work is
 * replaced at once, or nearly so if that happens again and again. */
static usec_t
pause_after(struct service *s, const struct child *child, int status)
{
    usec_t pause;

    if (loop_now() - child->started >= GOOD_LIFE)
        s->failures = 0;
    s->failures++;
    if (!child->ready && (WIFEXITED(status) || s->failures >= SIGNAL_FAILURES)) {
        log_warning("%s: bad command startup -- throttling", child->program);
        return master.settings.service_throttle_time;
    }
    pause = (usec_t)(s->failures - 1) * RESTART_PAUSE;
    return pause < RESTART_PAUSE_LIMIT ? pause : RESTART_PAUSE_LIMIT;
}

static void
log_death(const struct child *child, int status)
{
    if (WIFSIGNALED(status))
        log_warning("process %s pid %d killed by signal %d", child->program, (int)child->pid, WTERMSIG(status));
    else
        log_warning("process %s pid %d exit status %d", child->program, (int)child->pid, WEXITSTATUS(status));
}

static void
bury(struct child *child, int status)
{
    struct service *s = child->service;
    bool told = child->told_to_end, crashed, handed_over;

    (void)take_reports(child); /* its last words */
    handed_over = child->handed_over;
    /* Who goes without a word before it serves can't start either, whatever it calls that. */
    crashed = status != 0 || (!child->ready && !told && !child->retiring);
    if (crashed && !(told && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && master.stopping))
        log_death(child, status);
    if (crashed && !told && !child->retiring) {
        usec_t pause = pause_after(s, child, status);

        if (pause > 0)
            s->not_before = loop_now() + pause;
    }
    task_group_cancel(&child->reader);
    task_group_join(&child->reader);
    close(child->status_fd);
    loop_timer_clear(&child->alive_timer);
    list_remove(&child->link);
    s->child_count--;
    free(child->program);
    free(child);
    /* Of what it did last it may have told nobody. */
    if (s->conf && s->conf->wakeup > 0 && (crashed || told || handed_over) && !s->stopping)
        service_wake(s);
    service_update(s);
    service_free_if_gone(s);
    task_wake_all(&master.child_died);
}

static struct child *
find_child(pid_t pid)
{
    LIST_EACH(at, &master.services)
    {
        struct service *s = LIST_ENTRY(at, struct service, link);

        LIST_EACH(child_at, &s->children)
        {
            struct child *child = LIST_ENTRY(child_at, struct child, link);

            if (child->pid == pid)
                return child;
        }
    }
    return NULL;
}

/* Runs in a task. As process 1, orphans of others end here, too. */
void
child_reap_all(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *child = find_child(pid);

        if (child)
            bury(child, status);
    }
}
