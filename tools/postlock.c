/* SPDX-License-Identifier: Apache-2.0 */
/* postlock: runs a command while a mailbox file is locked as local delivery locks it. See postlock(1). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "tools/simple_command.h"

enum { EX_TEMPFAIL = 75 };

struct lock {
    const char *file, *dotlock;
    int fd;
    bool by_flock, by_fcntl, by_dotlock, has_dotlock;
};

static _Noreturn void
give_up(const char *text)
{
    log_line(LOG_LEVEL_FATAL, text);
    log_flush_all();
    _exit(EX_TEMPFAIL);
}

static void
parse_styles(struct lock *lock, const char *styles)
{
    struct slice rest = slice_from(styles), word;
    while (slice_word(&rest, ", \t\r\n", &word)) {
        if (slice_equal_text(word, "flock"))
            lock->by_flock = true;
        else if (slice_equal_text(word, "fcntl"))
            lock->by_fcntl = true;
        else if (slice_equal_text(word, "dotlock"))
            lock->by_dotlock = true;
        else
            give_up("unknown way to lock: flock, fcntl and dotlock are known");
    }
}

/* A lock file that nobody renewed for so long is left over. */
static void
remove_stale(const struct lock *lock, usec_t age)
{
    struct stat st;
    if (stat(lock->dotlock, &st) == 0 && time(NULL) - st.st_mtim.tv_sec > age / SECONDS(1))
        unlink(lock->dotlock);
}

static bool
take_dotlock(struct lock *lock, usec_t stale)
{
    remove_stale(lock, stale);
    int fd = open(lock->dotlock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    close(fd);
    lock->has_dotlock = true;
    return true;
}

static void
unlock(struct lock *lock)
{
    if (lock->has_dotlock)
        unlink(lock->dotlock);
    lock->has_dotlock = false;
    if (lock->fd >= 0)
        close(lock->fd);
    lock->fd = -1;
}

/* All kinds, or none. */
static bool
try_lock(struct lock *lock, usec_t stale)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (lock->by_dotlock && !take_dotlock(lock, stale))
        return false;
    lock->fd = open(lock->file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (lock->fd >= 0 && (!lock->by_fcntl || fcntl(lock->fd, F_SETLK, &range) == 0) &&
        (!lock->by_flock || flock(lock->fd, LOCK_EX | LOCK_NB) == 0))
        return true;
    int reason = errno;
    unlock(lock);
    errno = reason;
    return false;
}

static void
take(struct lock *lock, const struct tools_settings *s)
{
    usec_t delay = s->deliver_lock_delay;
    for (int64_t tries = 0; !try_lock(lock, s->stale_lock_time); tries++) {
        bool busy = errno == EEXIST || errno == EAGAIN || errno == EACCES;
        if (!busy || tries + 1 >= s->deliver_lock_attempts) {
            char text[600];
            snprintf(text, sizeof(text), "lock %s: %s", lock->file, strerror(errno));
            give_up(text);
        }
        nanosleep(&(struct timespec){.tv_sec = delay / SECONDS(1), .tv_nsec = delay % SECONDS(1) * 1000}, NULL);
    }
}

int
main(int argc, char **argv)
{
    struct simple_command command = {0};
    struct lock lock = {.fd = -1};
    const char *directory = NULL, *styles = NULL;
    struct err err;
    int option;
    log_init(argv[0]);
    while ((option = getopt(argc, argv, "+c:l:v")) != -1)
        switch (option) {
        case 'c': directory = optarg; break;
        case 'l': styles = optarg; break;
        case 'v': log_set_verbose(log_verbose() + 1); break;
        default: give_up("usage: postlock [-c config_dir] [-l lock_style] [-v] file command...");
        }
    if (argc - optind < 2)
        give_up("usage: postlock [-c config_dir] [-l lock_style] [-v] file command...");
    if (simple_command_load(&command, directory, &err) < 0)
        give_up(err.text);
    parse_styles(&lock, styles ? styles : command.settings.mailbox_delivery_lock);
    lock.file = argv[optind];
    lock.dotlock = arena_printf(command.arena, "%s.lock", lock.file);
    take(&lock, &command.settings);
    int status = simple_command_run(argv + optind + 1, NULL, &err);
    unlock(&lock);
    if (status < 0)
        give_up(err.text);
    simple_command_release(&command);
    return status;
}
