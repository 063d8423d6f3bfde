/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/lock_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/compiler.h"
#include "lib/store/file.h"

enum { NAME_LIMIT = 332, HOST_LIMIT = 65 };
static const char holder_mark[] = "user.postern.lock"; /* where a full disk has no room for the text */

static void
host_name(char *host)
{
    if (gethostname(host, HOST_LIMIT) < 0)
        snprintf(host, HOST_LIMIT, "localhost");
    host[HOST_LIMIT - 1] = '\0';
}

enum holder { HOLDER_UNKNOWN, HOLDER_GONE, HOLDER_ALIVE };

/* "pid:host", written by us or by Dovecot on this host. */
static enum holder
find_holder(int fd)
{
    char text[128], host[HOST_LIMIT], mine[HOST_LIMIT];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid;

    if (n == 0)
        n = fgetxattr(fd, holder_mark, text, sizeof text - 1);
    if (n <= 0)
        return HOLDER_UNKNOWN;
    text[n] = '\0';
    if (sscanf(text, "%ld:%64[^\n]", &pid, host) != 2 || pid <= 1)
        return HOLDER_UNKNOWN;
    host_name(mine);
    if (strcmp(host, mine) != 0)
        return HOLDER_UNKNOWN;
    return kill((pid_t)pid, 0) < 0 && errno == ESRCH ? HOLDER_GONE : HOLDER_ALIVE;
}

static bool
is_on_local_disk(int fd)
{
    static const long local_types[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC};
    struct statfs fs;
    bool is_local = false;

    if (fstatfs(fd, &fs) < 0)
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(local_types); i++)
        is_local |= (long)fs.f_type == local_types[i];
    return is_local;
}

/* One that looks older than the machine's start was left by a power cut, when what it says may be lost. Or the clock was set
 * forward since, as it is soon after the start: then who seems to hold it (the number may be another process's by now) is
 * given the time that the machine runs. */
static bool
is_stale(int fd, const struct stat *st, usec_t stale)
{
    usec_t age = clock_wall() - SECONDS(st->st_ctime);
    struct timespec up;
    enum holder holder = find_holder(fd);
    bool before_start = clock_gettime(CLOCK_BOOTTIME, &up) == 0 && age > SECONDS(up.tv_sec + 2);

    if (holder == HOLDER_GONE)
        return true;
    if (before_start && holder == HOLDER_ALIVE)
        return SECONDS(up.tv_sec) > stale;
    return age > stale || (before_start && is_on_local_disk(fd));
}

/* It is moved aside first: if it turns out that another came in its place in between, that one is put back (unless a
 * third has come). */
void
lock_file_break_stale(int dir, const char *name, usec_t stale)
{
    char aside[NAME_LIMIT];
    struct stat judged, moved;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return;
    if (fstat(fd, &judged) == 0 && is_stale(fd, &judged, stale)) {
        snprintf(aside, sizeof aside, "%s.%ld", name, (long)getpid());
        if (fstatat(dir, name, &moved, AT_SYMLINK_NOFOLLOW) == 0 && moved.st_ino == judged.st_ino &&
            renameat(dir, name, dir, aside) == 0) {
            if (fstatat(dir, aside, &moved, AT_SYMLINK_NOFOLLOW) == 0 && moved.st_ino != judged.st_ino &&
                linkat(dir, aside, dir, name, 0) < 0 && errno != EEXIST)
                (void)renameat(dir, aside, dir, name);
            (void)unlinkat(dir, aside, 0);
        }
    }
    close(fd);
}

/* What it says is for people and for who finds it stale. */
static int
write_holder(int fd)
{
    char host[HOST_LIMIT], text[128];

    host_name(host);
    int len = snprintf(text, sizeof text, "%ld:%s\n", (long)getpid(), host);
    if (write(fd, text, (size_t)len) >= 0)
        return 0;
    if (errno != ENOSPC && errno != EDQUOT)
        return -1;
    (void)fsetxattr(fd, holder_mark, text, (size_t)len, 0); /* within the inode */
    return 0;
}

/* It has its text before it has its name: who is killed in between leaves no lock that nobody can judge. */
int
lock_file_make(int dir, const char *name, mode_t mode)
{
    char own[32] = ".lock.";
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return -1;
    }
    file_random_hex(own + strlen(own), 16);
    int fd = openat(dir, own, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    int result = write_holder(fd) < 0 || file_rename_new(dir, own, name) < 0 ? -1 : 0, why = errno;
    if (result < 0)
        (void)unlinkat(dir, own, 0);
    close(fd);
    errno = why;
    return result;
}
