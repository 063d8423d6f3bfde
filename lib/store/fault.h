/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/fault.h: why a mailbox did not take a message, with the status that the sender's report will carry.
 *
 * The store's functions run in a process of the mailbox's user (or a command) and block: for locks, disks and file
 * servers. They don't log; what is wrong is in the fault, for the caller to log or to report. */
#ifndef LIB_STORE_FAULT_H
#define LIB_STORE_FAULT_H

#include <stdbool.h>

#include "lib/base/compiler.h"

/* Held by value; not initialised by the caller. */
struct store_fault {
    char dsn[10];    /* "4.2.0": class 4 is to be tried again, class 5 will not work later either */
    int code;        /* errno, 0 if no system call failed */
    char text[1500]; /* one printable line */
};

/* Fill *f and return -1. fault_errno() puts ": " and errno's reason behind the text (the reason alone if it is empty), and
 * takes a status that fits errno: no space, no memory, no descriptors 4.3.0 or 4.3.1; a lock or a stale NFS handle 4.2.0;
 * over quota 4.2.2; over a size limit (EFBIG) 5.2.2; else dsn. */
int fault_set(struct store_fault *f, const char *dsn, const char *fmt, ...) PRINTF_LIKE(3, 4);
int fault_errno(struct store_fault *f, const char *dsn, const char *fmt, ...) PRINTF_LIKE(3, 4);

static inline bool
fault_is_permanent(const struct store_fault *f)
{
    return f->dsn[0] == '5';
}

#endif
