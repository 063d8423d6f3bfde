/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/table_text.h: what tables made from text share: the file, its lines, the pair in a line, lists in braces. */
#ifndef LIB_TABLE_TABLE_TEXT_H
#define LIB_TABLE_TABLE_TEXT_H

#include "lib/base/buf.h"
#include "lib/conf/cf_file.h"
#include "lib/table/table_type.h"

enum { TABLE_TEXT_LIMIT = 1 << 30, TABLE_LINE_LIMIT = 1 << 20 };

/* The whole of a regular file. *fd stays open for noticing changes; -1 on errors. Directories, files with a NUL, and files
 * over TABLE_TEXT_LIMIT are errors that name file and line. */
int table_text_read(const char *path, struct buf *text, int *fd, struct err *) MUST_USE;

/* The same; name may also be the text itself, "{ { line } { line } }", and then *fd is -1. */
int table_text_open(const char *name, struct buf *text, int *fd, struct err *) MUST_USE;

/* Logical lines of a table, one after the other. Logs and leaves out lines that begin with a blank but continue nothing,
 * and those over TABLE_LINE_LIMIT. */
struct table_lines {
    struct arena *arena; /* of joined lines: reset for each line */
    const char *name;    /* "/etc/postfix/access", for messages */
    struct slice rest;
    unsigned read; /* physical lines so far */
    unsigned number; /* of the line that was given last */
};
void table_lines_begin(struct table_lines *, const char *name, struct slice text);
bool table_lines_next(struct table_lines *, struct slice *line); /* valid until the next call */
void table_lines_end(struct table_lines *);

/* Warns "NAME, line N: text". */
void table_lines_warn(const struct table_lines *, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* "key whitespace value": the key ends at the first blank that is not within quotes. -1: the line is malformed; *why. */
int table_split_pair(struct slice line, struct slice *key, struct slice *value, const char **why) MUST_USE;

/* Pieces divided by commas or blanks, where { } may hold either; braces stay. False when none is left; on unbalanced
 * braces *piece has a NULL ptr. */
bool table_list_next(struct slice *rest, const char *separators, struct slice *piece);

/* Takes { } and the blanks within off. False: it is not in braces, or they don't match. */
bool table_unbrace(struct slice *text);

/* No byte from 128 on? Quicker than text_has_8bit(), for every look-up. */
bool table_is_ascii(struct slice);

/* Lower case, as keys are stored and asked: ASCII, and where utf8 is set also what UTF-8 encodes. In the arena, or key itself
 * if nothing changes. Malformed UTF-8 folds as ASCII. */
struct slice table_fold(struct arena *, struct slice key, bool utf8);

/* An in-memory table of fixed keys. */
struct table_memory;
struct table_memory *table_memory_new(void);
void table_memory_free(struct table_memory *);
bool table_memory_has(const struct table_memory *, struct slice key);
void table_memory_put(struct table_memory *, struct slice key, struct slice value); /* replaces */
const char *table_memory_find(const struct table_memory *, struct slice key);
int table_memory_next(struct table_memory *, bool first, struct slice *key, const char **value);

#endif
