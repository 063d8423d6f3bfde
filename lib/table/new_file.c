/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"

static void
release(struct new_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file->tmp_path);
    *file = (struct new_file){.fd = -1};
}

/* Who held the lock before us has renamed or removed what we opened: then again. */
static bool
still_has_its_name(const struct new_file *file)
{
    struct stat ours, named;

    return fstat(file->fd, &ours) == 0 && lstat(file->tmp_path, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

static int
open_locked(struct new_file *file, mode_t mode, struct err *err)
{
    struct stat st;

    for (;;) {
        file->fd = open(file->tmp_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode);
        if (file->fd < 0)
            return err_errno(err, "open %s", file->tmp_path);
        while (flock(file->fd, LOCK_EX) < 0)
            if (errno != EINTR)
                return err_errno(err, "lock %s", file->tmp_path);
        if (still_has_its_name(file))
            break;
        close(file->fd);
    }
    if (fstat(file->fd, &st) < 0)
        return err_errno(err, "fstat %s", file->tmp_path);
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
        return err_set(err, ERR_PERM, "%s: is in the way: remove it", file->tmp_path);
    if (ftruncate(file->fd, 0) < 0)
        return err_errno(err, "truncate %s", file->tmp_path);
    return 0;
}

int
new_file_begin(struct new_file *file, const char *path, const char *suffix, mode_t mode, struct err *err)
{
    *file = (struct new_file){.fd = -1};
    if (asprintf(&file->path, "%s%s", path, suffix) < 0 || asprintf(&file->tmp_path, "%s.tmp", file->path) < 0)
        fatal("out of memory");
    if (open_locked(file, mode, err) == 0)
        return 0;
    release(file);
    return -1;
}

static int
sync_directory(const char *path, struct err *err)
{
    char *copy = strdup(path);

    if (!copy)
        fatal("out of memory");
    const char *name = dirname(copy);
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 || (fsync(fd) < 0 && errno != EINVAL) ? err_errno(err, "sync directory %s", name) : 0;
    if (fd >= 0)
        close(fd);
    free(copy);
    return result;
}

int
new_file_commit(struct new_file *file, struct err *err)
{
    int result = 0;

    if (fsync(file->fd) < 0)
        result = err_errno(err, "sync %s", file->tmp_path);
    else if (rename(file->tmp_path, file->path) < 0)
        result = err_errno(err, "rename %s to %s", file->tmp_path, file->path);
    if (result < 0) {
        (void)unlink(file->tmp_path);
    } else {
        result = sync_directory(file->path, err);
    }
    release(file);
    return result;
}

void
new_file_abandon(struct new_file *file)
{
    (void)unlink(file->tmp_path);
    release(file);
}
