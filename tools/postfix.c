/* SPDX-License-Identifier: Apache-2.0 */
/* postfix: starts, stops and checks the mail system. See postfix(1).
 *
 * Whether it runs is told by the lock that master holds on pid/master.pid; the file holds master's process id. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "tools/postfix_command.h"

enum {
    STOP_SECONDS = 330, /* how long a stop may take before force is used: qmgr may have much to write */
    ABORT_SECONDS = 10,
    TELL_SECONDS = 5, /* how often the one who waits is told */
};

/* --- messages --- */

/* To standard error as "postfix/postfix-script: text", too, unless that is where the log goes. */
static bool log_is_output;

static void tell(enum log_level level, const char *prefix, const char *fmt, va_list args) PRINTF_LIKE(3, 0);

static void
tell(enum log_level level, const char *prefix, const char *fmt, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof(text), fmt, args);
    log_line(level, text);
    log_flush();
    if (!log_is_output)
        fprintf(stderr, "postfix/postfix-script: %s%s\n", prefix, text);
}

void
say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(LOG_LEVEL_INFO, "", fmt, args);
    va_end(args);
}

void
say_warning(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(LOG_LEVEL_WARNING, "warning: ", fmt, args);
    va_end(args);
}

void
say_fatal(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(LOG_LEVEL_FATAL, "fatal: ", fmt, args);
    va_end(args);
}

static bool
is_allowed_log(const struct control *c, const char *file)
{
    struct slice rest = slice_from(c->settings.maillog_file_prefixes), prefix;
    while (slice_word(&rest, ", \t", &prefix))
        if (strlen(file) >= prefix.len && memcmp(file, prefix.ptr, prefix.len) == 0)
            return true;
    return false;
}

void
open_log(struct control *c)
{
    const char *file = c->settings.maillog_file;
    log_init(arena_printf(c->arena, "%s/postfix-script", c->settings.syslog_name));
    if (!*file) {
        log_to_syslog(c->settings.syslog_facility);
        return;
    }
    if (log_to_postlog(
            arena_printf(c->arena, "%s/public/%s", c->settings.queue_directory, c->settings.postlog_service_name)) == 0)
        return;
    /* postlogd does not run: only before a start and after a stop. */
    int fd = is_allowed_log(c, file) ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600) : -1;
    if (fd < 0) {
        log_to_syslog(c->settings.syslog_facility);
        return;
    }
    log_to_fd(fd, true);
    struct stat log_file, error_output;
    log_is_output = fstat(fd, &log_file) == 0 && fstat(STDERR_FILENO, &error_output) == 0 &&
                    log_file.st_dev == error_output.st_dev && log_file.st_ino == error_output.st_ino;
}

/* --- the running system --- */

static void
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
static pid_t
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

static const char *
daemon_path(struct control *c, const char *name)
{
    return arena_printf(c->arena, "%s/%s", c->settings.daemon_directory, name);
}

/* Runs a program to its end; returns its exit status, 127 if it can't be run. */
static int
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

/* --- commands --- */

static int
prepare(struct control *c, bool tell_effects)
{
    if (find_owners(c) == 0 && check_directories(c, false) == 0 && check_settings(c, tell_effects) == 0)
        return 0;
    say_fatal("Postfix integrity check failed!");
    return 1;
}

static int
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

static int
command_start(struct control *c)
{
    char option[] = "-w", directory[] = "-c", verbose[] = "-v";
    char *argv[] = {arena_strdup(c->arena, daemon_path(c, "master")),
                    directory,
                    arena_strdup(c->arena, conf_directory(c->conf)),
                    option,
                    c->verbose ? verbose : NULL,
                    NULL};
    if (prepare_start(c) != 0)
        return 1;
    say("starting the Postfix mail system");
    if (run(argv) == 0)
        return 0;
    say_fatal("mail system startup failed");
    return 1;
}

static int
command_start_fg(struct control *c)
{
    char option[] = "-i", directory[] = "-c", verbose[] = "-v";
    char *argv[] = {arena_strdup(c->arena, daemon_path(c, "master")),
                    directory,
                    arena_strdup(c->arena, conf_directory(c->conf)),
                    option,
                    c->verbose ? verbose : NULL,
                    NULL};
    if (prepare_start(c) != 0)
        return 1;
    say("starting the Postfix mail system");
    execv(argv[0], argv);
    say_fatal("run %s: %s", argv[0], strerror(errno));
    return 1;
}

static int
command_stop(struct control *c)
{
    pid_t master = running_master(c);
    if (master == 0)
        return not_running();
    say("stopping the Postfix mail system");
    kill(master, SIGTERM);
    return wait_until_gone(c, STOP_SECONDS) ? 0 : use_force(c, master);
}

static int
command_abort(struct control *c)
{
    pid_t master = running_master(c);
    if (master == 0)
        return not_running();
    say("aborting the Postfix mail system");
    kill(master, SIGABRT);
    return wait_until_gone(c, ABORT_SECONDS) ? 0 : use_force(c, master);
}

static int
command_reload(struct control *c)
{
    pid_t master = running_master(c);
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

static int
command_flush(struct control *c)
{
    char option[] = "-f", directory[] = "-c";
    char *argv[] = {arena_printf(c->arena, "%s/postqueue", c->settings.command_directory), directory,
                    arena_strdup(c->arena, conf_directory(c->conf)), option, NULL};
    return running_master(c) == 0 ? not_running() : run(argv);
}

/* postconf knows what is unused or misspelt, and says so on standard error. */
static int
command_check(struct control *c)
{
    int result = prepare(c, true);
    char directory[] = "-c", only_set[] = "-H", set[] = "-n";
    char *argv[] = {arena_printf(c->arena, "%s/postconf", c->settings.command_directory),
                    directory,
                    arena_strdup(c->arena, conf_directory(c->conf)),
                    only_set,
                    set,
                    NULL};
    if (access(argv[0], X_OK) < 0)
        return result;
    fflush(stdout);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), out = dup(STDOUT_FILENO);
    if (null >= 0 && out >= 0 && dup2(null, STDOUT_FILENO) >= 0) {
        if (run(argv) != 0)
            result = 1;
        dup2(out, STDOUT_FILENO);
    }
    close(null);
    close(out);
    return result;
}

static int
command_status(struct control *c)
{
    pid_t master = running_master(c);
    if (master != 0) {
        say("the Postfix mail system is running: PID: %ld", (long)master);
        return 0;
    }
    say("the Postfix mail system is not running");
    return 1;
}

static int
command_set_permissions(struct control *c)
{
    return find_owners(c) == 0 && check_directories(c, true) == 0 ? 0 : 1;
}

static int
command_upgrade_configuration(struct control *c)
{
    (void)c;
    return 0; /* no older form of the files needs a change */
}

static const struct command {
    const char *name;
    int (*run)(struct control *);
} commands[] = {
    {"start", command_start},
    {"start-fg", command_start_fg},
    {"stop", command_stop},
    {"quick-stop", command_stop},
    {"drain", command_stop},
    {"abort", command_abort},
    {"reload", command_reload},
    {"flush", command_flush},
    {"check", command_check},
    {"status", command_status},
    {"set-permissions", command_set_permissions},
    {"upgrade-configuration", command_upgrade_configuration},
};

/* --- the command line --- */

static const char *
parse_options(struct control *c, int argc, char **argv, const char **directory)
{
    int option;
    while ((option = getopt(argc, argv, "+c:Dv")) != -1) {
        if (option == 'c')
            *directory = optarg;
        else if (option == 'v')
            c->verbose = true;
        else if (option != 'D')
            fatal("usage: %s [-c config_dir] [-Dv] command", argv[0]);
    }
    if (optind + 1 != argc)
        fatal("usage: %s [-c config_dir] [-Dv] command", argv[0]);
    return argv[optind];
}

static void
load(struct control *c, const char *directory)
{
    struct err err;
    char *absolute = directory ? realpath(directory, NULL) : NULL;
    if (directory && !absolute)
        fatal("open directory %s: %s", directory, strerror(errno));
    c->arena = arena_new();
    c->conf = conf_load(absolute, &err);
    free(absolute);
    if (!c->conf || tools_settings_load(&c->settings, c->conf, c->arena, &err) < 0)
        fatal("%s", err.text);
    c->privileged = geteuid() == 0;
    if (setenv("MAIL_CONFIG", conf_directory(c->conf), 1) < 0)
        fatal("out of memory");
}

int
main(int argc, char **argv)
{
    static struct control c;
    const char *directory = NULL;
    int result = 1;
    size_t i = 0;

    log_init(argv[0]);
    const char *name = parse_options(&c, argc, argv, &directory);
    umask(0022);
    load(&c, directory);
    open_log(&c);
    while (i < ARRAY_LEN(commands) && strcmp(commands[i].name, name) != 0)
        i++;
    if (i < ARRAY_LEN(commands))
        result = commands[i].run(&c);
    else
        say_fatal("unknown command: '%s'. Usage: postfix start (or stop, reload, abort, flush, check, status, "
                  "start-fg, set-permissions, upgrade-configuration)",
                  name);
    log_flush();
    conf_free(&c.conf);
    arena_free(&c.arena);
    return result;
}
