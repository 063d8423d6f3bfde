/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/file.h: small files of a mail store: read whole, replaced whole, locked. All calls block: they are for a
 * process that works for one user. Names are relative to an open folder, and symbolic links are not followed. */
#ifndef LIB_STORE_FILE_H
#define LIB_STORE_FILE_H

#include <stddef.h>
#include <sys/stat.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

/* From the descriptor's start to its end; ends in a NUL that is not counted. */
int file_read_all(struct arena *, int fd, size_t limit, struct slice *, struct err *) MUST_USE;

/* The same by name; a file that is not there is empty. */
int file_read_name(struct arena *, int folder_fd, const char *name, size_t limit, struct slice *,
                   struct err *) MUST_USE;

/* Writes temporary, syncs it, renames it to name, syncs the folder. *st (may be NULL): the new file's. On failure the old
 * file is as it was. */
int file_replace(int folder_fd, const char *name, const char *temporary, struct slice content, struct stat *st,
                 struct err *) MUST_USE;

/* All of it, also where the system takes it piecemeal. -1 with errno. */
int file_write_all(int fd, const void *bytes, size_t n) MUST_USE;

/* Renames within the folder, unless something has the new name: -1 with errno EEXIST. -1 with another errno: as rename(2). On a file
 * system that can't rename so (NFS) a file is linked, and a directory could, in an instant, replace an empty one. */
int file_rename_new(int folder_fd, const char *from, const char *to) MUST_USE;

/* Makes a lock file; waits for another's for some seconds. One whose holder has gone, or that was not touched for two
 * minutes, is removed (lib/store/lock_file.h). */
int file_dotlock(int folder_fd, const char *name, struct err *) MUST_USE;

/* digits lower-case hexadecimal digits and a NUL. */
void file_random_hex(char *text, size_t digits);

#endif
