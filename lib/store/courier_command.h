/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/courier_command.h: a letter to the standard input of a command, as its user. */
#ifndef LIB_STORE_COURIER_COMMAND_H
#define LIB_STORE_COURIER_COMMAND_H

#include "lib/base/arena.h"
#include "lib/mail/messages.h"
#include "lib/store/letter.h"

struct courier_command_end {
    const char *reason;     /* what the fault says, in its full length: the output may be long; NULL: it did not run */
    const char *diagnostic; /* of a failure: what the report quotes; "": it did not run */
};

/* Runs job->path: directly if it is words of harmless characters, else by /bin/sh, or by job->shell where that is set; in
 * job->directory if that is set; with the environment job->texts and no other; in a session of its own, which is killed
 * when job->time_limit is over. Its output becomes part of the report. Exit codes are those of <sysexits.h>; a failure whose
 * output begins with an enhanced status code takes that. 0: it ended well. end is filled in either way. */
int courier_command(struct arena *, const struct msg_user_job *, struct letter *, struct courier_command_end *,
                    struct store_fault *) MUST_USE;

#endif
