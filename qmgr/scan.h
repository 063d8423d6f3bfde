/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/scan.h: takes up messages from the files in incoming/ and deferred/: when their time has come (modification
 * time), or when somebody asks. The directories are read in slices in the thread pool, and only as far as there is
 * room in memory. */
#ifndef QMGR_SCAN_H
#define QMGR_SCAN_H

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/mail/queue_dir.h"

void scan_init(const struct queue_dir *);

/* Is a thread at work in the directories, moving files? When we are stopping no other begins. */
bool scan_is_busy(void);

/* Files that an earlier life left in active/ go back to incoming/, but for those that a predecessor holds locked (active.h):
 * these are looked at again every few seconds, since it may die. What a crash left behind is cleared away: unfinished
 * files, logs (bounce/, defer/, trace/) whose message is no more; files in a wrong subdirectory go where they belong. Files
 * that could not be moved are tried again with each queue run. */
void may_wait scan_reset_active(void);

/* Starts the task that scans; both queues are due at once, and every queue_run_delay. */
void scan_start(void);

/* A scan of that queue from its start is due. all: files whose time has not come as well. */
void scan_want_incoming(bool all);
void scan_want_deferred(bool all);

/* Something was put there that there was no room for: another scan when the one under way is over, and there is room. */
void scan_incoming_again(void);

/* A periodic reminder from outside: as the timer, unless that was just now. */
void scan_remind(void);

#endif
