/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/db_file.h: what a file of Berkeley DB (FILE.db, of the types hash and btree) holds, for those that have no table of
 * ours beside them. Read only, and whole when it is opened: it stays in memory, and a file that changed is read anew.
 *
 * The library behind it trusts what a file says, so it works on a copy of the file, in a process of its own that is nobody and
 * reaches nothing: whatever is wrong with a file makes an error here and can do no more. */
#ifndef LIB_TABLE_DB_FILE_H
#define LIB_TABLE_DB_FILE_H

#include "lib/table/table_text.h"

/* *fd: the open file, to notice changes, the caller's to close. NULL: the module is not installed, or the file can't be read. */
struct table_memory *db_file_read(const struct conf *, const char *path, int *fd, struct err *) MUST_USE;

#endif
