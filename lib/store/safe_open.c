/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/safe_open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LIMIT = 2048, TRIES = 20 };

/* Opens the directory of the path; the name in it. */
static int
open_parent(struct safe_file *file, const char *path, struct store_fault *fault)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_LIMIT];
    int len = slash ? (int)(slash - path) : 1;

    file->name = slash ? slash + 1 : path;
    if (!*file->name || strcmp(file->name, ".") == 0 || strcmp(file->name, "..") == 0)
        return fault_set(fault, "5.2.0", "destination %s is not a regular file", path);
    if (snprintf(parent, sizeof parent, "%.*s", len ? len : 1, !slash ? "." : len ? path : "/") >= PATH_LIMIT)
        return fault_set(fault, "5.2.0", "path name too long");
    file->dir = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (file->dir < 0)
        return fault_errno(fault, "4.2.0", "unable to access %s", parent);
    return 0;
}

/* Root's own link in a directory where nobody else can make one. */
static bool
link_is_roots(const struct safe_file *file)
{
    struct stat dir, link;

    return fstat(file->dir, &dir) == 0 && fstatat(file->dir, file->name, &link, AT_SYMLINK_NOFOLLOW) == 0 &&
           link.st_uid == 0 && dir.st_uid == 0 && !(dir.st_mode & (S_IWGRP | S_IWOTH));
}

/* What will not go away by itself is permanent. */
static const char *
status_of_open(void)
{
    return errno == EACCES || errno == EPERM || errno == EISDIR || errno == ENXIO ? "5.2.0" : "4.2.0";
}

/* Opens what is there. 0 with fd -1: nothing is. */
static int
open_existing(struct safe_file *file, int flags, struct store_fault *fault)
{
    flags |= O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    file->fd = openat(file->dir, file->name, flags | O_NOFOLLOW);
    if (file->fd < 0 && errno == ELOOP) {
        if (!link_is_roots(file))
            return fault_set(fault, "5.2.0", "file is a symbolic link");
        file->fd = openat(file->dir, file->name, flags);
    }
    if (file->fd >= 0 || errno == ENOENT)
        return 0;
    return fault_errno(fault, status_of_open(), "cannot open file");
}

/* 1: good. 0: it has changed since; try again. */
static int
examine(struct safe_file *file, const char *path, unsigned options, struct store_fault *fault)
{
    struct stat named;

    if (fstat(file->fd, &file->st) < 0)
        return fault_errno(fault, "4.2.0", "cannot examine file %s", path);
    if (S_ISCHR(file->st.st_mode) && (options & SAFE_DEVICES))
        return 1;
    if (!S_ISREG(file->st.st_mode))
        return fault_set(fault, "5.2.0", "destination %s is not a regular file", path);
    if (file->st.st_nlink == 0)
        return 0;
    if (file->st.st_nlink != 1)
        return fault_set(fault, "5.2.0", "file has %lu hard links", (unsigned long)file->st.st_nlink);
    if (fstatat(file->dir, file->name, &named, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISLNK(named.st_mode))
        return link_is_roots(file);
    return named.st_dev == file->st.st_dev && named.st_ino == file->st.st_ino;
}

static int
attempt(struct safe_file *file, const char *path, int flags, unsigned options, struct store_fault *fault)
{
    file->created = false;
    if (open_existing(file, flags, fault) < 0)
        return -1;
    if (file->fd < 0) {
        if (!(options & SAFE_CREATE)) {
            errno = ENOENT;
            return fault_errno(fault, "4.2.0", "cannot open file %s", path);
        }
        file->fd = openat(file->dir, file->name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file->fd < 0)
            return errno == EEXIST ? 0 : fault_errno(fault, status_of_open(), "cannot create file exclusively");
        file->created = true;
    }
    return examine(file, path, options, fault);
}

int
safe_open(struct safe_file *file, const char *path, int flags, unsigned options, struct store_fault *fault)
{
    *file = (struct safe_file){.fd = -1, .dir = -1};
    if (open_parent(file, path, fault) < 0)
        return -1;
    for (unsigned i = 0; i < TRIES; i++) {
        int result = attempt(file, path, flags, options, fault);

        if (result > 0)
            return 0;
        if (file->fd >= 0)
            close(file->fd);
        file->fd = -1;
        if (result < 0) {
            safe_close(file);
            return -1;
        }
    }
    safe_close(file);
    return fault_set(fault, "4.2.0", "cannot open file %s: it changes all the time", path);
}

void
safe_close(struct safe_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    if (file->dir >= 0)
        close(file->dir);
    file->fd = file->dir = -1;
}

bool
safe_is_current(const struct safe_file *file)
{
    struct stat named;

    return fstatat(file->dir, file->name, &named, 0) == 0 && named.st_dev == file->st.st_dev &&
           named.st_ino == file->st.st_ino;
}
