/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/new_file.h: a file that takes another one's place when it is complete: PATH.tmp, locked while it is written, so
 * that of two who make the same table at the same time one comes after the other. */
#ifndef LIB_TABLE_NEW_FILE_H
#define LIB_TABLE_NEW_FILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct new_file {
    char *path, *tmp_path;
    int fd; /* of the new file, empty and locked */
};

/* mode: of the new file, less the umask's bits. Never follows a link in tmp's place. */
int new_file_begin(struct new_file *, const char *path, const char *suffix, mode_t mode, struct err *) MUST_USE;

/* Syncs it, gives it its name, syncs the directory. Also ends it. */
int new_file_commit(struct new_file *, struct err *) MUST_USE;
void new_file_abandon(struct new_file *);

#endif
