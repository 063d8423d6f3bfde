/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/maildir.h: mailboxes of a file for each message: tmp, new and cur; and Maildir++ quotas.
 *
 * A message is written to tmp/, renamed into new/ when its bytes are on the disk, and the name is synced: it is there whole or not
 * at all, and durable when the call returns. On ext4 and XFS one sync of the file after the rename makes bytes and name
 * durable, since both journal the rename with the file's inode; elsewhere the file and then the directory are synced. Names are unique without asking: "seconds.MmicrosecondsPpidVdeviceIinode.host", with
 * ",S=bytes,W=bytes with CRLF" behind it where wanted, as Dovecot and Courier write and use them. Other programs may work in
 * the same directories at any time. */
#ifndef LIB_STORE_MAILDIR_H
#define LIB_STORE_MAILDIR_H

#include <stdint.h>
#include <sys/time.h>

#include "lib/store/letter.h"

enum {
    MAILDIR_CREATE = 1, /* make what is missing of path, tmp, new, cur (mode 0700) */
    MAILDIR_SIZES = 2,  /* ,S= and ,W= in the name */
    MAILDIR_QUOTA = 4,  /* respect and keep maildirsize, where there is one */
    MAILDIR_NO_COUNT =
        8, /* fail if maildirsize says that all has to be counted, which takes as long as its owner likes */
};

/* Adds a letter. limit: most bytes of the file, 0: none (EFBIG, 5.2.2). Over quota: 4.2.2. *name (may be NULL) gets the
 * name in new/, to be freed with free(). */
int maildir_deliver(const char *path, struct letter *, unsigned options, int64_t limit, char **name,
                    struct store_fault *) MUST_USE;

/* The same in three steps, so that one sync may serve many Maildirs: written to tmp/, moved into new/, made durable. The caller
 * who has synced the file system after a step says so with synced. maildir_end() in any case, also after -1; what did not
 * come as far as new/ is gone then. */
enum { MAILDIR_NAME = 256 };
struct maildir_letter {
    int dir, fd;
    unsigned options;
    bool published, counted;
    uint64_t bytes, wire_bytes;
    struct timeval now;
    char from[MAILDIR_NAME], to[MAILDIR_NAME]; /* "tmp/...", "new/..." */
};
int maildir_begin(struct maildir_letter *, const char *path, struct letter *, unsigned options, int64_t limit,
                  struct store_fault *) MUST_USE;
int maildir_publish(struct maildir_letter *, bool synced, struct store_fault *) MUST_USE;
int maildir_settle(struct maildir_letter *, bool synced, struct store_fault *) MUST_USE;
void maildir_end(struct maildir_letter *);

/* Makes path with tmp, new and cur; what is there stays. */
int maildir_create(const char *path, struct store_fault *) MUST_USE;

/* ---- Maildir++ quota: PATH/maildirsize: the quota ("1000000S,1000C") in the first line, then "bytes count" lines that add up.
 * Appended to by everybody; who finds it large, old or over quota counts anew. ---- */
struct maildir_quota {
    int64_t bytes_limit, count_limit; /* 0: none */
    int64_t bytes, count;             /* used */
};
/* Parses the file's text. -1: malformed, to be counted anew (the limits are set if the first line was good). */
int maildir_quota_parse(struct slice text, struct maildir_quota *) MUST_USE;

/* Reads it, and counts anew where that is due (-1 if not may_count). *present false: there is no quota. */
int maildir_quota_load(int maildir_fd, struct maildir_quota *, bool *present, bool may_count,
                       struct store_fault *) MUST_USE;
/* Notes a change: one append. */
int maildir_quota_add(int maildir_fd, int64_t bytes, int64_t count, struct store_fault *) MUST_USE;

/* S= of a Maildir file's name; -1: it has none. */
int64_t maildir_name_size(const char *name);

#endif
