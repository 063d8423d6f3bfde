/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/fulltext_file.h: the file of the full-text index, as SQLite sees it: a VFS of our own over one descriptor.
 *
 * - Each page carries a checksum of its number and its bytes, which is looked at whenever the page is read: SQLite never gets bytes that
 *   it did not write.
 * - "fulltext.lock" is held with flock() by the one process that has the file open, and says whether what lies on the disk is whole: before
 *   the first write it is made to say, durably, that it is not, and fulltext_file_settle() makes it say, after the data was synced, which file (inode,
 *   size, time) is. Who opens a file that is not what the lock file says takes it away and begins anew. So there is no
 *   journal: the file can be made anew from the mail.
 * - No other file is opened, and no system call is made that the filter of users' processes does not have. */
#ifndef LIB_STORE_FULLTEXT_FILE_H
#define LIB_STORE_FULLTEXT_FILE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "lib/base/err.h"

struct fulltext_file;

/* In the index's directory, which is made if it is missing. ERR_TEMP: another process has it open. */
struct fulltext_file *fulltext_file_open(const char *directory, struct err *) MUST_USE;

/* Forgets, and unlocks. discard: takes the file away too. */
void fulltext_file_close(struct fulltext_file **, bool discard);

/* An open, and perhaps empty, database of pages with checksums; the caller closes it before the file. */
int fulltext_file_database(struct fulltext_file *, sqlite3 **, struct err *) MUST_USE;

/* After a commit: what was written becomes durable, and counts. */
int fulltext_file_settle(struct fulltext_file *, struct err *) MUST_USE;

bool fulltext_file_exists(const char *directory);

#endif
