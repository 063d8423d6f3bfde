/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_SERVICE_EXEC_INTERNAL_H
#define LIB_SERVICE_EXEC_INTERNAL_H

#include <stdint.h>

#include "lib/base/compiler.h"

/* Daemon to helper, a packet each. EXEC_START comes with descriptors: where the words are read from (u32 number of arguments,
 * then arguments and environment, each ended by NUL, to the end), standard input's reading end, standard output's (or the
 * connection for both), and perhaps the writing end of standard input to be kept until EXEC_INPUT_DONE. */
enum { EXEC_START = 1, EXEC_INPUT_DONE, EXEC_KILL };
struct exec_request {
    uint32_t what, id;
};

/* Helper to daemon: the command has ended; error: it was not started (errno). */
struct exec_report {
    uint32_t id;
    int32_t status, error;
};

enum { EXEC_MAX_FDS = 4 };

/* The helper's life: never returns. */
void exec_help(int socket, const char *directory, const char *program) NORETURN;

#endif
