/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/sandbox.h: one call in which a daemon gives up what it does not need. Called after everything that needs
 * privilege is open, before the first byte from outside is read. Then nothing can be won back. */
#ifndef LIB_RUN_SANDBOX_H
#define LIB_RUN_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/buf.h"
#include "lib/base/compiler.h"
#include "lib/base/err.h"

/* Sets of system calls; a daemon names what it needs and everything else kills the process (SIGSYS). Opening and asking
 * about files, which libraries try out of habit, is refused with EACCES instead. */
enum sandbox_calls {
    SANDBOX_BASE = 1 << 0,    /* memory, time, read, write, epoll, signals, exit: every event-driven daemon */
    SANDBOX_ACCEPT = 1 << 1,  /* accept4 and socket options on inherited sockets */
    SANDBOX_CONNECT = 1 << 2, /* socket, connect, bind: Unix and inet */
    SANDBOX_UNIX = 1 << 3,    /* the same for Unix sockets only (links) */
    SANDBOX_FDPASS = 1 << 4,  /* socketpair */
    SANDBOX_FILES = 1 << 5,   /* open, rename, unlink, mkdir, stat, truncate, locks: the queue */
    SANDBOX_THREADS = 1 << 6, /* clone of threads, fdatasync, fsync, pwrite: the pool */
    SANDBOX_SPAWN = 1 << 7,   /* fork, exec, wait, setuid: delivery to commands, master */
};

struct sandbox {
    const char *user, *group;       /* NULL: keep */
    const char *chroot_dir;         /* NULL: none; else also chdir("/") */
    unsigned calls;                 /* SANDBOX_...; 0: no filter */
    const char *const *write_paths; /* Landlock: below these it may read and write; NULL-ended; NULL: nothing at all */
    const char *const *read_paths;  /* and below these read */
    bool no_landlock;               /* keep the file system as it is (root helpers) */
    bool may_write_files;           /* else RLIMIT_FSIZE 0 */
    bool may_fork;                  /* else RLIMIT_NPROC 0 (but not with SANDBOX_THREADS: threads count as processes) */
};

/* In this order: groups, chroot, uid and gid, capabilities (all dropped, bounding set too), no_new_privs, dumpable off, resource limits (CORE 0,
 * FSIZE, NPROC), Landlock, seccomp. As an ordinary user what needs root is skipped. *achieved (may be NULL) gets a list such as
 * "uid=101 chroot caps no_new_privs rlimits landlock=4 seccomp" for the log. The environment variable
 * POSTERN_NO_SECCOMP leaves the filter of system calls out (for looking for faults; master passes it on only where the
 * administrator's import_environment says so), and a build with sanitizers does without both filters. -1: something that is there did not work: the daemon must
 * not go on. */
int sandbox_enter(const struct sandbox *, struct buf *achieved, struct err *) MUST_USE;

#endif
