/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/program_pages.h"
#include "lib/mail/log_events.h"
#include "lib/service/log_setup.h"
#include "master/master.h"

enum {
    DESCRIPTORS = 65536,       /* that each process may have, where we may choose */
    EXIT_RUNNING = 1,          /* of -t */
    EARLIER_PAUSE = 50 * 1000, /* µs; how long, and how often, to wait for an earlier master's processes */
    EARLIER_TRIES = 30 * 20,
};

static const char pid_path[] = "pid/master.pid";

struct master master;

struct options {
    const char *directory;
    bool test, wait, foreground, keep_stdout, init;
    unsigned exit_after, verbose;
};

/* --- one master for each queue --- */

/* The lock says that we run, not the file: one that a crash left behind is in nobody's way. -1: somebody else has it. */
static int
lock_pid_file(bool create)
{
    for (;;) {
        int fd = open(pid_path, (create ? O_CREAT : 0) | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct stat st;

        if (fd < 0 && errno == ENOENT && !create)
            return -1;
        if (fd < 0)
            fatal("open lock file %s: %m", pid_path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            close(fd);
            errno = EWOULDBLOCK;
            return -1;
        }
        if (fstat(fd, &st) == 0 && st.st_nlink > 0)
            return fd;
        close(fd); /* the one that ended in between has removed it */
    }
}

static void
write_pid(int fd)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%10d\n", (int)getpid());

    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
        fatal("write %s: %m", pid_path);
}

/* Every process that we start inherits this lock, so it is free only when the last of an earlier master's has ended: they
 * do so by themselves when their master was killed, and two queue managers at a time would be a calamity. It also keeps
 * Postfix's own master out. */
static int
lock_data_directory(const char *data_directory)
{
    struct arena *arena = arena_new();
    const char *path = arena_printf(arena, "%s/master.lock", data_directory);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        fatal("open lock file %s: %m", path);
    /* The directory is mail_owner's: a second name of root's file would become his. */
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        fatal("lock file %s: %s", path, S_ISREG(st.st_mode) ? "it has other names" : "not a regular file");
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (errno != EWOULDBLOCK || i == EARLIER_TRIES)
            fatal("open lock file %s: unable to set exclusive lock: %m", path);
        if (i == 20)
            log_waiting_for_earlier();
        usleep(EARLIER_PAUSE);
    }
    arena_free(&arena);
    return fd;
}

/* --- background --- */

static void
redirect(int fd, int flags)
{
    int null = open("/dev/null", flags | O_CLOEXEC);

    if (null < 0 || dup2(null, fd) < 0)
        fatal("open /dev/null: %m");
    if (null != fd)
        close(null);
}

static void
leave_terminal(const struct options *options)
{
    if (options->foreground)
        return;
    redirect(0, O_RDONLY);
    if (!options->keep_stdout && !options->init) {
        redirect(1, O_WRONLY);
        redirect(2, O_WRONLY);
    }
    if (!options->init && getpid() != getsid(0) && setsid() < 0 && errno != EPERM)
        fatal("setsid: %m");
}

/* The one that was called waits until the one in the background serves, or has failed. */
static int
fork_and_wait(void)
{
    int pair[2], status;
    char byte;
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) < 0)
        fatal("pipe: %m");
    pid = fork();
    if (pid < 0)
        fatal("fork: %m");
    if (pid == 0) {
        close(pair[0]);
        return pair[1];
    }
    close(pair[1]);
    if (read(pair[0], &byte, 1) == 1)
        exit(0);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status))
        exit(WEXITSTATUS(status));
    exit(1);
}

/* --- signals --- */

static struct task_cond reload_wanted;
static bool is_reload_wanted;

static void
on_reload(void *arg)
{
    (void)arg;
    is_reload_wanted = true;
    task_wake_all(&reload_wanted);
}

static void
on_stop(void *arg)
{
    log_terminating(*(const int *)arg);
    stop_in_order();
}

static void
on_abort(void *arg)
{
    log_terminating(*(const int *)arg);
    stop_at_once();
}

static struct task_cond child_signal;
static bool has_child_signal;

static void
on_child(void *arg)
{
    (void)arg;
    has_child_signal = true;
    task_wake_all(&child_signal);
}

static void
catch_signals(void)
{
    static const int stop = SIGTERM, interrupt = SIGINT, abort_now = SIGABRT, quit = SIGQUIT;

    loop_on_signal(SIGHUP, on_reload, NULL);
    loop_on_signal(SIGCHLD, on_child, NULL);
    loop_on_signal(SIGTERM, on_stop, (void *)(uintptr_t)&stop);
    loop_on_signal(SIGINT, on_stop, (void *)(uintptr_t)&interrupt);
    loop_on_signal(SIGABRT, on_abort, (void *)(uintptr_t)&abort_now);
    loop_on_signal(SIGQUIT, on_abort, (void *)(uintptr_t)&quit);
}

static void
reap_children(void *arg)
{
    struct err err;

    (void)arg;
    for (;;) {
        while (!has_child_signal)
            if (task_wait(&child_signal, NO_DEADLINE, &err) < 0)
                return;
        has_child_signal = false;
        child_reap_all();
    }
}

/* --- work --- */

/* Goes to the queue directory; returns the data directory. */
static char *
load_main_cf(const char *directory)
{
    struct err err;
    struct conf *conf;
    struct arena *arena = arena_new();
    const char *queue, *data;
    char *data_copy;

    if (directory && setenv("MAIL_CONFIG", directory, 1) < 0)
        fatal("setenv: %m");
    conf = conf_load(NULL, &err);
    if (!conf)
        fatal("%s", err.text);
    queue = conf_string(conf, arena, "queue_directory", &err);
    data = conf_string(conf, arena, "data_directory", &err);
    if (!queue || !data)
        fatal("%s", err.text);
    if (chdir(queue) < 0)
        fatal("chdir %s: %m", queue);
    if (log_setup(conf, "master", &err) < 0)
        fatal("%s", err.text);
    data_copy = strdup(data);
    if (!data_copy)
        fatal("out of memory");
    arena_free(&arena);
    conf_free(&conf);
    return data_copy;
}

static void
set_up_log(void)
{
    struct err err;

    if (log_setup(master.conf, "master", &err) < 0)
        log_warning("%s", err.text);
}

static void
tell_privileges(void)
{
    if (!master.is_root)
        log_warning("not started by root: all processes run as user id %u, without chroot and without users of their "
                    "own to keep them apart; seccomp and Landlock still hold",
                    (unsigned)geteuid());
}

struct start {
    const struct options *options;
    int ready_fd;
};

static void
run(void *arg)
{
    const struct start *start = arg;
    struct err err;

    if (services_load(&err) < 0) {
        fprintf(stderr, "master: fatal: %s\n", err.text); /* the log's line may go elsewhere */
        fatal("%s", err.text);
    }
    if (master.is_root && fchown(master.lock_file, master.owner_uid, master.owner_gid) < 0)
        log_warning("chown master.lock: %s", strerror(errno));
    set_up_log(); /* postlogd's socket is there now */
    log_daemon_started(master.version, conf_directory(master.conf));
    tell_privileges();
    leave_terminal(start->options);
    program_pages_release();
    if (start->ready_fd >= 0) {
        (void)!write(start->ready_fd, "", 1);
        close(start->ready_fd);
    }
    for (;;) {
        while (!is_reload_wanted)
            if (task_wait(&reload_wanted, NO_DEADLINE, &err) < 0)
                return;
        is_reload_wanted = false;
        if (master.stopping)
            return;
        if (services_load(&err) < 0) {
            log_error("reload: %s", err.text);
            continue;
        }
        set_up_log();
        log_reload(master.version, conf_directory(master.conf));
    }
}

static void
on_exit_time(void *arg)
{
    (void)arg;
    stop_in_order();
}

static void
raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if (geteuid() == 0 && limit.rlim_max < DESCRIPTORS)
        limit.rlim_max = DESCRIPTORS;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static unsigned
seconds(const char *text)
{
    unsigned long long value;

    if (slice_to_u64(slice_from(text), UINT32_MAX, &value) < 0)
        fatal("-e: not a number of seconds: %s", text);
    return (unsigned)value;
}

static void
parse(int argc, char **argv, struct options *o)
{
    int option;

    while ((option = getopt(argc, argv, "c:Dde:istvw")) != -1) {
        switch (option) {
        case 'c': o->directory = optarg; break;
        case 'd': o->foreground = true; break;
        case 'D': break;
        case 'e': o->exit_after = seconds(optarg); break;
        case 'i': o->init = true; break;
        case 's': o->keep_stdout = true; break;
        case 't': o->test = true; break;
        case 'v': o->verbose++; break;
        case 'w': o->wait = true; break;
        default:
            fatal("usage: master [-c config_dir] [-D (debug)] [-d (don't detach from terminal)] [-e exit_time] "
                  "[-i (init mode)] [-s (keep stdout)] [-t (test)] [-v] [-w (wait for initialization)]");
        }
    }
}

int
main(int argc, char **argv)
{
    struct options options = {0};
    struct start start = {.options = &options, .ready_fd = -1};
    struct loop_timer exit_timer = {0};
    char *data_directory;

    log_init("master");
    umask(077);
    parse(argc, argv, &options);
    data_directory = load_main_cf(options.directory);
    if (options.test) {
        free(data_directory);
        return lock_pid_file(false) >= 0 || errno == ENOENT ? 0 : EXIT_RUNNING;
    }
    if (options.wait)
        start.ready_fd = fork_and_wait();
    master.pid_file = lock_pid_file(true);
    if (master.pid_file < 0)
        fatal("open lock file %s: unable to set exclusive lock: %m", pid_path);
    write_pid(master.pid_file);
    master.lock_file = lock_data_directory(data_directory);
    free(data_directory);
    raise_limits();
    log_set_verbose((int)options.verbose);
    loop_init();
    list_init(&master.services);
    task_group_init(&master.tasks);
    catch_signals();
    task_spawn(&master.tasks, "master", run, &start);
    task_spawn(&master.tasks, "reaper", reap_children, NULL);
    if (options.exit_after)
        loop_timer_set(&exit_timer, loop_now() + SECONDS(options.exit_after), on_exit_time, NULL);
    loop_run();
    unlink(pid_path);
    log_flush();
    return 0;
}
