/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/mbox_repair.h: the mark on an mbox that a message is being added, and what is done with one that is left. */
#ifndef LIB_STORE_MBOX_REPAIR_H
#define LIB_STORE_MBOX_REPAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/compiler.h"
#include "lib/base/slice.h"

enum { MBOX_MARK_START = 192 };

/* first: the beginning of what will be written at the offset (MBOX_MARK_START bytes count); length: how much that will be, 0:
 * not known yet. Where the file system has no such marks, nothing happens. */
void mbox_mark(int fd, off_t offset, off_t length, struct slice first);

/* With the length, and the sum of all those bytes (lib/store/mbox_sum.h): a power cut may leave zeros anywhere in them. is_written: they
 * have been written already, and who finds the mark need only sync them; else they are going to be. -1: an earlier mark may stand. */
int mbox_mark_whole(int fd, off_t offset, off_t length, uint64_t sum, bool is_written, struct slice first);

int mbox_unmark(int fd) MUST_USE; /* -1 with errno: it stands, and the next delivery would cut the message off */
void mbox_unmark_written(int fd, off_t offset); /* without the lock: if it is still that mark */

/* Is there one? The file's owner may have put it there himself. */
bool mbox_is_marked(int fd);

/* Takes away what an append has written so far, and its mark. The sync keeps what is written next from coming to the disk before
 * that. */
void mbox_cut_back(int fd, off_t end);

/* Cuts off an append that was not finished, if the file ends with it and nothing else. What is complete stays if the machine
 * was started since: nobody knows whether it was reported as delivered. What was written, and waits for its sync, is synced.
 * fd is open for reading and writing and locked. 1: something was cut. */
int mbox_repair(int fd);

#endif
