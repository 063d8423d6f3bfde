/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/exec.h: commands of others, run as one configured user: for pipe(8) and spawn(8).
 *
 * Two processes. The daemon runs as mail_owner and does all the work: it feeds commands, reads their output, keeps the time.
 * The helper, forked in prepare(), enters the chroot and becomes the configured user for good before it has read anything;
 * it only forks, executes, waits and kills. So nothing here keeps root after the start. A command gets descriptors 0 to 2
 * and no other. The helper keeps no_new_privs off: filters may run set-group-id programs (sendmail's postdrop).
 *
 * The helper holds a second writing end of each command's input until the daemon says that the input is whole: if the daemon
 * dies in the midst of it, commands are killed, not shown half a message with a clean end.
 *
 * Without root there is nothing to become: commands run as the user who runs the mail system. */
#ifndef LIB_SERVICE_EXEC_H
#define LIB_SERVICE_EXEC_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/conf/conf.h"

struct exec_identity {
    uid_t uid;
    gid_t gid;
};

/* "user" or "user:group". Refuses root and mail_owner (ERR_PERM), and a name that does not exist. */
int exec_identity_parse(const char *text, const char *mail_owner, struct exec_identity *, struct err *) MUST_USE;

/* The value of NAME_time_limit, else of command_time_limit. */
int exec_time_limit(const struct conf *, const char *service, usec_t *, struct err *) MUST_USE;

/* In prepare(): forks the helper. chroot_dir NULL: none; directory: where commands start, NULL: here. program: for messages. */
int exec_prepare(const struct exec_identity *, const char *chroot_dir, const char *directory, const char *program,
                 struct err *) MUST_USE;

/* In start(): watches the helper; when it has gone the process retires. */
void exec_start(void);

enum { EXEC_OUTPUT_LIMIT = 4096 };

struct exec_job {
    char *const *argv; /* NULL-ended */
    char *const *env;  /* NULL-ended */
    usec_t time_limit; /* from now; 0: none */
    /* Appends the next piece of the input to out; nothing appended: the end. -1: the input can't be had: the command is
     * killed. Must not wait for long. */
    int (*feed)(void *ctx, struct buf *out, struct err *);
    void *ctx;
};

/* Too large for a task's stack. */
struct exec_end {
    int status; /* of waitpid() */
    bool timed_out;
    char output[EXEC_OUTPUT_LIMIT + 1]; /* the first of what it wrote to standard output and error */
};

/* Runs a command to its end. -1: it was not started, the input failed, or it is not known how it ended: try again later. */
int may_wait exec_run(const struct exec_job *, struct exec_end *, struct err *) MUST_USE;

/* The same with standard input, output and error connected to fd; feed is not used. */
int may_wait exec_run_connected(const struct exec_job *, int fd, struct exec_end *, struct err *) MUST_USE;

#endif
