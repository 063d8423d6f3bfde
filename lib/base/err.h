/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/err.h: why something did not work. The last parameter of a function that can fail; it returns -1 (or NULL)
 * and fills it. "Not found" is a success with an empty result. Callers add context on the way up. Log it or return it,
 * not both. An error is never taken for "no": what fails defers. */
#ifndef LIB_BASE_ERR_H
#define LIB_BASE_ERR_H

#include "lib/base/compiler.h"

enum err_kind {
    ERR_NONE,
    ERR_TEMP,      /* may work later: a server is down, a resource is short */
    ERR_PERM,      /* will not work later either */
    ERR_SYNTAX,    /* the input is malformed */
    ERR_IO,        /* a system call failed on a file or device; see code */
    ERR_TIMEOUT,   /* the deadline passed */
    ERR_CLOSED,    /* the peer closed the connection */
    ERR_CANCELLED, /* the task was cancelled */
};

/* Held by value; text is cut where it is too long, never overrun. Not initialised by the caller. */
struct err {
    enum err_kind kind;
    int code; /* errno of an ERR_IO, else 0 */
    char text[480];
};

/* Fill *e and return -1, so that a function may `return err_set(err, ERR_TEMP, "dns %s: %s", name, why);`.
 * Control characters in the text become '?'. e may be NULL where nobody wants to know. */
int err_set(struct err *e, enum err_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same with ": " and strerror(errno) behind it (the reason alone if the text is empty); kind ERR_IO, or ERR_TIMEOUT, ERR_CLOSED for the errno that mean so. */
int err_errno(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Put "context: " before the text that is there. Returns -1. */
int err_context(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
