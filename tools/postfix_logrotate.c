/* SPDX-License-Identifier: Apache-2.0 */
/* postfix logrotate: maillog_file gets a name with the time in it, postlogd begins a new file, and the old one is compressed. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/text.h"
#include "tools/postfix_command.h"

enum { WAIT_SECONDS = 10 };

/* Has the process the file open? */
static bool
has_open(const char *process, const struct stat *file)
{
    char path[300];
    struct stat st;
    struct dirent *entry;
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%s/fd", process);
    DIR *descriptors = opendir(path);
    while (descriptors && !found && (entry = readdir(descriptors)))
        found = *entry->d_name != '.' && fstatat(dirfd(descriptors), entry->d_name, &st, 0) == 0 &&
                st.st_dev == file->st_dev && st.st_ino == file->st_ino;
    if (descriptors)
        closedir(descriptors);
    return found;
}

static bool
is_postlogd(const char *process)
{
    char path[300], name[32] = "";
    snprintf(path, sizeof(path), "/proc/%s/comm", process);
    FILE *file = fopen(path, "re");
    bool result = file && fgets(name, sizeof(name), file) && strcmp(name, "postlogd\n") == 0;
    if (file)
        fclose(file);
    return result;
}

/* Has each postlogd that writes the file open its log anew; returns how many there are. */
static unsigned
tell_writers(const struct stat *file)
{
    unsigned count = 0;
    struct dirent *entry;
    DIR *processes = opendir("/proc");
    while (processes && (entry = readdir(processes)))
        if (text_is_digit(*entry->d_name) && is_postlogd(entry->d_name) && has_open(entry->d_name, file)) {
            count++;
            kill((pid_t)strtol(entry->d_name, NULL, 10), SIGHUP);
        }
    if (processes)
        closedir(processes);
    return count;
}

static const char *
rotated_name(struct control *c, const char *file)
{
    char suffix[256];
    struct tm tm;
    time_t now = time(NULL);
    size_t len =
        localtime_r(&now, &tm) ? strftime(suffix, sizeof(suffix), c->settings.maillog_file_rotate_suffix, &tm) : 0;
    if (len == 0 || strchr(suffix, '/')) {
        say_fatal("bad maillog_file_rotate_suffix: \"%s\"", c->settings.maillog_file_rotate_suffix);
        return NULL;
    }
    return arena_printf(c->arena, "%s.%s", file, suffix);
}

static int
compress(struct control *c, const char *path)
{
    const char *program = c->settings.maillog_file_compressor;
    char env[] = "/usr/bin/env";
    char *argv[] = {env, arena_strdup(c->arena, program), arena_strdup(c->arena, path), NULL};
    if (!*program || run(argv) == 0)
        return 0;
    say_fatal("command failed: %s %s", program, path);
    return 1;
}

int
command_logrotate(struct control *c, char **args)
{
    const char *file = c->settings.maillog_file;
    struct stat st;
    (void)args;
    if (!*file) {
        say_fatal("\"postfix logrotate\" wants a maillog_file, and there is none");
        return 1;
    }
    if (strncmp(file, "/dev/", 5) == 0) {
        say_fatal("\"postfix logrotate\" does not rotate %s", file);
        return 1;
    }
    const char *path = rotated_name(c, file);
    if (!path)
        return 1;
    if (stat(file, &st) < 0) {
        say_fatal("logfile '%s': %s", file, strerror(errno));
        return 1;
    }
    /* link() and not rename(): an older log of the same second must not be lost. */
    if (link(file, path) < 0 || unlink(file) < 0) {
        say_fatal("rename %s to %s: %s", file, path, strerror(errno));
        return 1;
    }
    for (unsigned tick = 0; tell_writers(&st) > 0; tick++) {
        if (tick == WAIT_SECONDS * 10) {
            say_fatal("postlogd goes on writing to %s", path);
            return 1;
        }
        pause_ms(100);
    }
    return compress(c, path);
}
