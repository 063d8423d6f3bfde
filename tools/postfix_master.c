/* SPDX-License-Identifier: Apache-2.0 */
/* Starting, ending and asking for the mail system as a whole.
 *
 * Whether it runs is told by the lock that master holds on pid/master.pid; the file holds master's process id. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "tools/postfix_command.h"

enum {
    STOP_SECONDS = 330, /* how long a stop may take before force is used: qmgr may have much to write */
    ABORT_SECONDS = 10,
    TELL_SECONDS = 5, /* how often the one who waits is told */
};

void
pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

/* *pid: what the file says; 0: nothing yet. False: nobody holds the lock. */
static bool
read_pid_file(const char *path, pid_t *pid)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *pid = 0;
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (locked && read(fd, text, sizeof(text) - 1) > 0)
        *pid = (pid_t)strtol(text, NULL, 10);
    close(fd);
    return locked;
}

/* Master's process id; 0: it does not run. */
pid_t
running_master(struct control *c)
{
    const char *path = arena_printf(c->arena, "%s/pid/master.pid", c->settings.queue_directory);
    pid_t pid;
    for (unsigned tries = 0; read_pid_file(path, &pid); tries++) {
        if (pid > 0)
            return pid;
        if (tries == 100)
            fatal("file %s: locked, but without a process id", path);
        pause_ms(50); /* it is about to write it */
    }
    return 0;
}

const char *
daemon_path(struct control *c, const char *name)
{
    return arena_printf(c->arena, "%s/%s", c->settings.daemon_directory, name);
}

char **
program_arguments(struct control *c, const char *path, const char *const *words)
{
    size_t count = 0;
    while (words[count])
        count++;
    char **argv = arena_array(c->arena, count + 4, sizeof(*argv));
    argv[0] = arena_strdup(c->arena, path);
    argv[1] = arena_strdup(c->arena, "-c");
    argv[2] = arena_strdup(c->arena, conf_directory(c->conf));
    for (size_t i = 0; i < count; i++)
        argv[i + 3] = arena_strdup(c->arena, words[i]);
    return argv;
}

/* Runs a program to its end; returns its exit status, 127 if it can't be run. */
int
run(char *const *argv)
{
    int status;
    pid_t child = fork();
    if (child < 0) {
        say_fatal("fork: %s", strerror(errno));
        return 127;
    }
    if (child == 0) {
        execv(argv[0], argv);
        say_fatal("run %s: %s", argv[0], strerror(errno));
        _exit(127);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 127;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* True when master has gone within the time. */
static bool
wait_until_gone(struct control *c, unsigned seconds)
{
    for (unsigned tick = 0; tick < seconds * 20; tick++) {
        if (running_master(c) == 0)
            return true;
        if (tick > 0 && tick % (TELL_SECONDS * 20) == 0)
            say("waiting for the Postfix mail system to terminate");
        pause_ms(50);
    }
    return running_master(c) == 0;
}

/* Master and all that it started are one process group. */
static int
use_force(struct control *c, pid_t master)
{
    say_warning("stopping the Postfix mail system with force");
    /* In a container master may be process 1, and -1 would mean everybody. */
    if (master == 1 || (kill(-master, SIGKILL) < 0 && errno == ESRCH))
        kill(master, SIGKILL);
    return wait_until_gone(c, ABORT_SECONDS) ? 0 : 1;
}

int
prepare(struct control *c, bool tell_effects)
{
    if (find_owners(c) == 0 && check_directories(c, false) == 0 && check_settings(c, tell_effects) == 0)
        return 0;
    say_fatal("Postfix integrity check failed!");
    return 1;
}

int
not_running(void)
{
    say_fatal("the Postfix mail system is not running");
    return 1;
}

static int
prepare_start(struct control *c)
{
    if (running_master(c) == 0)
        return prepare(c, false);
    say_fatal("the Postfix mail system is already running");
    return 1;
}

/* The arguments of master: option is -w (in the background, wait until it is up) or -i (in the foreground). */
static char **
master_arguments(struct control *c, const char *option)
{
    const char *words[] = {option, c->verbose ? "-v" : NULL, NULL};
    return program_arguments(c, daemon_path(c, "master"), words);
}

int
command_start(struct control *c, char **args)
{
    (void)args;
    if (prepare_start(c) != 0)
        return 1;
    convert_tables(c);
    say("starting the Postfix mail system");
    if (run(master_arguments(c, "-w")) == 0)
        return 0;
    say_fatal("mail system startup failed");
    return 1;
}

int
command_start_fg(struct control *c, char **args)
{
    (void)args;
    if (prepare_start(c) != 0)
        return 1;
    convert_tables(c);
    say("starting the Postfix mail system");
    char **argv = master_arguments(c, "-i");
    execv(argv[0], argv);
    say_fatal("run %s: %s", argv[0], strerror(errno));
    return 1;
}

/* Ends master with a signal; with force if that takes too long. */
static int
end_master(struct control *c, int signal, const char *what, unsigned seconds)
{
    pid_t master = running_master(c);
    if (master == 0)
        return not_running();
    say("%s the Postfix mail system", what);
    kill(master, signal);
    return wait_until_gone(c, seconds) ? 0 : use_force(c, master);
}

int
command_stop(struct control *c, char **args)
{
    (void)args;
    return end_master(c, SIGTERM, "stopping", STOP_SECONDS);
}

int
command_abort(struct control *c, char **args)
{
    (void)args;
    return end_master(c, SIGABRT, "aborting", ABORT_SECONDS);
}

int
command_reload(struct control *c, char **args)
{
    pid_t master = running_master(c);
    (void)args;
    if (master == 0)
        return not_running();
    /* A configuration that can't be used must not reach what runs. */
    if (prepare(c, false) != 0)
        return 1;
    say("refreshing the Postfix mail system");
    if (kill(master, SIGHUP) == 0)
        return 0;
    say_fatal("signal process %ld: %s", (long)master, strerror(errno));
    return 1;
}

int
command_status(struct control *c, char **args)
{
    pid_t master = running_master(c);
    (void)args;
    if (master != 0) {
        say("the Postfix mail system is running: PID: %ld", (long)master);
        return 0;
    }
    say("the Postfix mail system is not running");
    return 1;
}
