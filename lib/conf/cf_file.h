/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/cf_file.h: main.cf and master.cf as files: logical lines in, edited text out.
 *
 * A line that begins with a blank continues the line before. Empty lines and lines whose first non-blank is "#" are
 * left out, also in the middle of a continued line. */
#ifndef LIB_CONF_CF_FILE_H
#define LIB_CONF_CF_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum { CF_FILE_SIZE_LIMIT = 16 << 20 };

/* The whole file, in the arena. A file with a NUL in it, or over CF_FILE_SIZE_LIMIT, is an error. */
int cf_file_read(struct arena *, const char *path, struct slice *content, struct err *) MUST_USE;

struct cf_line {
    struct slice text; /* joined: line ends are gone, the blanks around them stay; the last ones are gone */
    unsigned number;   /* of its first physical line, from 1 */
    bool orphan;       /* begins with a blank, but continues nothing */
};

/* Takes the next logical line off *rest; false at the end. *number counts physical lines; start with 0. Text that
 * had to be joined is in the arena, other text points into *rest's. */
bool cf_line_next(struct arena *, struct slice *rest, unsigned *number, struct cf_line *);

/* One physical line off *rest, without its end; false at the end. */
bool cf_physical_next(struct slice *rest, struct slice *line);
bool cf_is_comment(struct slice physical); /* comment or empty */
bool cf_is_continuation(struct slice physical);

/* While a file is edited: locks DIR/NAME against other editors (waits a few seconds at most), reads it, and then puts
 * the new text in its place whole (written, synced, renamed), with the old file's owner and mode. */
struct cf_edit {
    struct arena *arena;
    const char *path;
    int fd; /* the locked old file */
    struct slice content;
};
int cf_edit_begin(struct cf_edit *, struct arena *, const char *path, struct err *) MUST_USE;
int cf_edit_commit(struct cf_edit *, struct slice content, struct err *) MUST_USE; /* also ends it */
void cf_edit_abandon(struct cf_edit *);

#endif
