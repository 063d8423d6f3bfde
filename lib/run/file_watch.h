/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/file_watch.h: notices that files were replaced or rewritten (renewed certificates), also from within the sandbox, where
 * they can no longer be reached: watching begins before it. Symbolic links are watched themselves, and so is what they lead to
 * when watching begins. */
#ifndef LIB_RUN_FILE_WATCH_H
#define LIB_RUN_FILE_WATCH_H

#include <stdbool.h>

struct file_watch;

/* NULL where the system can't watch: then nothing is ever noticed. */
struct file_watch *file_watch_new(void);
void file_watch_free(struct file_watch **);

void file_watch_add(struct file_watch *, const char *path);

/* Has one of them changed since it was added? Stays true. At most one system call a second. */
bool file_watch_changed(struct file_watch *);

#endif
