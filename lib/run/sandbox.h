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

/* Groups of system calls; a daemon names those that it needs, and everything else kills the process (SIGSYS). What libraries
 * try out of habit (opening a file, asking for a newer call) is refused with an errno instead, so that they go on without. Which
 * calls are in which group, and why, stands in the table of sandbox_seccomp.c. */
enum sandbox_calls {
    SANDBOX_BASE = 1 << 0, /* memory, descriptors that are there, epoll, time, signals, the log, the end: each daemon */
    SANDBOX_ACCEPT = 1 << 1,     /* taking connections from sockets that were inherited */
    SANDBOX_LINKS = 1 << 2,      /* messages with descriptors, and whose they are: links, helpers */
    SANDBOX_SESSIONS = 1 << 3,   /* foreign peers: their addresses and ours, half-closing */
    SANDBOX_UNIX = 1 << 4,       /* new connections to Unix sockets */
    SANDBOX_CONNECT = 1 << 5,    /* new connections to anywhere (UNIX is part of it) */
    SANDBOX_FDPASS = 1 << 6,     /* pairs of sockets, of which one end is given away */
    SANDBOX_HELPERS = 1 << 7,    /* asking a helper of one's own for processes: pipes to commands, who we are */
    SANDBOX_DATAGRAMS = 1 << 8,  /* many datagrams at once: postlogd */
    SANDBOX_CONTENT = 1 << 9,    /* reading anywhere in a file whose descriptor somebody else has passed */
    SANDBOX_READ = 1 << 10,      /* opening files, listing directories */
    SANDBOX_MOVE = 1 << 11,      /* renaming and removing files */
    SANDBOX_QUEUE = 1 << 12,     /* making and writing queue files (with READ and MOVE) */
    SANDBOX_JOURNAL = 1 << 13,   /* writing the journal's segments (with QUEUE) */
    SANDBOX_STORE = 1 << 14,     /* delivery to mailboxes (with READ and MOVE) */
    SANDBOX_MAILBOXES = 1 << 15, /* serving mailboxes: indexes, watching, flags (with STORE) */
    SANDBOX_IDS = 1 << 16,       /* changing between the users of a namespace: the group process of local delivery */
    SANDBOX_THREADS = 1 << 17,   /* the pool of threads */
    SANDBOX_NAMES = 1 << 18,     /* what the C library's sources of users and hosts (NSS) need, whatever they are */
    SANDBOX_LIBRARIES = 1 << 19, /* libraries that load code and do what they like with files and sockets: SQL, LDAP */
    SANDBOX_SPACE = 1 << 21,     /* how much room a file system has */
    SANDBOX_SYNC = 1 << 22,      /* syncing a directory, of those who write no files of their own (with THREADS) */
    SANDBOX_SPAWN =
        1 << 20, /* no filter, and capabilities stay: a starter of processes that bring filters of their own */
};

struct sandbox {
    const char *user, *group; /* NULL: keep */
    bool has_ids;             /* uid and gid in place of user and group: for users who have no name here */
    uid_t uid;
    gid_t gid;
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

/* For a process whose children enter sandboxes with these calls (as sandbox_enter() will find them): does what is the same for all of
 * them once. The filter is compiled, and the bounding set given up. */
void sandbox_prepare(unsigned calls);

/* The filter of system calls alone, for a process that was forked and has given up its privileges itself. It must have
 * no_new_privs. */
int sandbox_filter(unsigned calls, struct err *) MUST_USE;

#endif
