/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/run_command.h: what every way of running an outside command shares: becoming the command in a child that was
 * just forked, and what its end means for the mail.
 *
 * Who forks, feeds and waits differs: pipe(8) and spawn(8) have a helper process (lib/service/exec.h), local(8) its couriers
 * (lib/store/courier_command.h). */
#ifndef LIB_MAIL_RUN_COMMAND_H
#define LIB_MAIL_RUN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/compiler.h"

struct run_command {
    char *const *argv;     /* NULL-ended; argv[0] is searched in the PATH of env */
    char *const *env;      /* the whole environment, NULL-ended: environment_export() and what is documented */
    const char *directory; /* NULL: stay */
    int64_t file_limit;    /* bytes that a file may grow to; 0: as it is */
};

/* In the child: all of run_command_become() but the command itself; argv is not used. */
void run_command_prepare(const struct run_command *, const char *program, int in, int out, int error);

/* In the child: a session of its own; standard input, output and error are these descriptors (any numbers), no other is
 * left open; signals, scheduling and umask as a program expects to find them; then the command. If that fails: a line on
 * standard error that begins with program, and EX_TEMPFAIL. The ids are the caller's business. */
void run_command_become(const struct run_command *, const char *program, int in, int out, int error) NORETURN;

/* What the end of a command means. */
enum { RUN_COMMAND_OUTPUT = 4097 }; /* so many bytes of the output, and a NUL, are told of, as by Postfix */
struct run_command_end {
    const char *command; /* for the text */
    int status;          /* as waitpid() gives it */
    bool timed_out;      /* it was killed because its time was over */
    const char *output;  /* what it wrote, NUL-ended; may hold anything */
};
/* Too large for a task's stack. */
struct run_command_verdict {
    char dsn[12];                        /* "2.0.0", or a 4 or 5 for what failed */
    char text[RUN_COMMAND_OUTPUT + 400]; /* printable, one line: the reason; for a success the output alone */
    char diag[RUN_COMMAND_OUTPUT];       /* of a failure, for the report: the output, else what the status means */
    char output[RUN_COMMAND_OUTPUT];     /* printable, one line */
};

/* By <sysexits.h>; an enhanced status code at the start of the output counts more (but not after a success; and one that tells of a
 * success becomes one of a failure). */
void run_command_judge(const struct run_command_end *, struct run_command_verdict *);

#endif
