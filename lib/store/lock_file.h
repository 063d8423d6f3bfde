/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/lock_file.h: files whose being there is a lock: NAME.lock beside an mbox, dovecot-uidlist.lock in a Maildir.
 * They say who holds them, "pid:host", as Dovecot's do. Names are relative to an open folder; symbolic links are not
 * followed. Nothing here waits. */
#ifndef LIB_STORE_LOCK_FILE_H
#define LIB_STORE_LOCK_FILE_H

#include <sys/types.h>

#include "lib/base/clock.h"
#include "lib/base/compiler.h"

/* 0, or -1 with errno; EEXIST: it is held. */
int lock_file_make(int dir, const char *name, mode_t) MUST_USE;

/* Takes the lock file away if its holder has gone (a process of this host that is no more; or, on a local disk, the machine
 * was started anew since), or if it is older than stale. What can't be told counts as held. */
void lock_file_break_stale(int dir, const char *name, usec_t stale);

#endif
