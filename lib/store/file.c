/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/compiler.h"
#include "lib/store/lock_file.h"

enum {
    LOCK_TRIES = 100,         /* each waits LOCK_PAUSE: ten seconds in all */
    LOCK_PAUSE = 100000000,   /* nanoseconds */
    TRIES_BEFORE_A_LOOK = 10, /* whether the holder still lives */
};
#define LOCK_DEAD SECONDS(120)

int
file_read_all(struct arena *arena, int fd, size_t limit, struct slice *content, struct err *err)
{
    struct stat st;
    size_t len = 0;
    if (fstat(fd, &st) < 0)
        return err_errno(err, "%s", "");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_PERM, "not a regular file");
    if ((uint64_t)st.st_size > limit)
        return err_set(err, ERR_PERM, "larger than %zu bytes", limit);
    char *bytes = arena_alloc(arena, (size_t)st.st_size + 1);
    while (len < (size_t)st.st_size) {
        ssize_t n = pread(fd, bytes + len, (size_t)st.st_size - len, (off_t)len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "%s", "");
        if (n == 0)
            break;
        len += (size_t)n;
    }
    bytes[len] = '\0';
    *content = slice_make(bytes, len);
    return 0;
}

int
file_read_name(struct arena *arena, int folder_fd, const char *name, size_t limit, struct slice *content,
               struct err *err)
{
    *content = slice_make("", 0);
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, "open %s", name);
    int result = file_read_all(arena, fd, limit, content, err);
    close(fd);
    return result < 0 ? err_context(err, "read %s", name) : 0;
}

int
file_write_all(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        at += put;
        n -= (size_t)put;
    }
    return 0;
}

int
file_rename_new(int folder_fd, const char *from, const char *to)
{
    struct stat st;
    if (renameat2(folder_fd, from, folder_fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (fstatat(folder_fd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (!S_ISDIR(st.st_mode))
        return linkat(folder_fd, from, folder_fd, to, 0) < 0 ? -1 : unlinkat(folder_fd, from, 0);
    if (fstatat(folder_fd, to, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return renameat(folder_fd, from, folder_fd, to);
    errno = EEXIST;
    return -1;
}

int
file_replace(int folder_fd, const char *name, const char *temporary, struct slice content, struct stat *st,
             struct err *err)
{
    struct stat unused;
    unlinkat(folder_fd, temporary, 0); /* what a crash left */
    int fd = openat(folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "create %s", temporary);
    bool written =
        file_write_all(fd, content.ptr, content.len) == 0 && fsync(fd) == 0 && fstat(fd, st ? st : &unused) == 0;
    int why = errno;
    if (close(fd) < 0 && written) {
        written = false;
        why = errno;
    }
    if (written && renameat(folder_fd, temporary, folder_fd, name) == 0 && fsync(folder_fd) == 0)
        return 0;
    if (written)
        why = errno;
    unlinkat(folder_fd, temporary, 0);
    errno = why;
    return err_errno(err, "write %s", name);
}

int
file_dotlock(int folder_fd, const char *name, struct err *err)
{
    for (unsigned tries = 0;; tries++) {
        if (lock_file_make(folder_fd, name, 0600) == 0)
            return 0;
        if (errno != EEXIST)
            return err_errno(err, "create %s", name);
        if (tries % TRIES_BEFORE_A_LOOK == 0) {
            lock_file_break_stale(folder_fd, name, LOCK_DEAD);
            if (lock_file_make(folder_fd, name, 0600) == 0)
                return 0;
        }
        if (tries >= LOCK_TRIES)
            return err_set(err, ERR_TEMP, "%s is held by another program", name);
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE}, NULL);
    }
}

void
file_random_hex(char *text, size_t digits)
{
    for (size_t i = 0; i < digits; i += 2) {
        unsigned char byte;
        check(getrandom(&byte, 1, 0) == 1);
        snprintf(text + i, digits - i + 1, "%02x", byte);
    }
}
