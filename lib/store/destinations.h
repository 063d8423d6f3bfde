/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/destinations.h: the right side of an alias, and lines of .forward and :include: files (aliases(5)):
 * destinations divided by commas or blanks, quoted where they hold either; "Name <address>" and (comments) as in a header. */
#ifndef LIB_STORE_DESTINATIONS_H
#define LIB_STORE_DESTINATIONS_H

#include "lib/base/slice.h"
#include "lib/store/fault.h"

/* Calls emit(ctx, text) for each destination of the line, its quoting undone: "|command", "/file", ":include:/file", or an
 * address. text ends in NUL and goes when emit returns. A line that begins with '#' has none. NUL bytes end a line. */
void destinations_parse(struct slice line, void (*emit)(void *ctx, struct slice text), void *ctx);

enum {
    DESTINATIONS_FILE_LIMIT = 1 << 20, /* bytes of a file */
    DESTINATIONS_LIMIT = 10000,        /* destinations in it */
};

/* Reads an open file's lines. Over a limit: 4.2.0. */
int destinations_read(int fd, const char *path, void (*emit)(void *ctx, struct slice text), void *ctx,
                      struct store_fault *) MUST_USE;

#endif
