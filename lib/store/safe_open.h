/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/safe_open.h: opens a file that somebody else may be playing with: in a sticky spool, a shared or a hostile
 * directory. The path's last component is never followed when it is a symbolic link, unless that and its directory belong
 * to root and nobody else may write there; the directory is opened once, and all that follows is relative to it. */
#ifndef LIB_STORE_SAFE_OPEN_H
#define LIB_STORE_SAFE_OPEN_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lib/store/fault.h"

/* An open file and the directory that it lies in. */
struct safe_file {
    int fd;
    int dir;          /* O_PATH */
    const char *name; /* in dir: the end of the caller's path */
    struct stat st;   /* as of the open */
    bool created;
};

enum {
    SAFE_CREATE = 1,  /* make it if it is missing, mode 0600, for this process's user */
    SAFE_DEVICES = 2, /* character devices too (/dev/null) */
};

/* flags: O_WRONLY | O_APPEND or the like; never blocks on a FIFO. What is opened is a regular file with one link, still the
 * one that the directory names. -1: 5.2.0 "... is not a regular file", "... has more than one link"; 4.2.0 and so on for
 * what errno tells. *file is released already then. */
int safe_open(struct safe_file *, const char *path, int flags, unsigned options, struct store_fault *) MUST_USE;
void safe_close(struct safe_file *);

/* Is the name still this file? After a lock was waited for. */
bool safe_is_current(const struct safe_file *);

#endif
