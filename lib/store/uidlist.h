/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/uidlist.h: which UID belongs to which file of a Maildir folder: the file dovecot-uidlist, in the form (version 3)
 * that Dovecot documents, so that either server can follow the other and clients keep their caches.
 *
 *   3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1
 *   25006 W1394 :1276528487.M364837P9451.host,S=1355
 *
 * The list is read whole, and replaced whole (new file, fsync, rename) under the lock file dovecot-uidlist.lock. UIDs only
 * grow; one is never given twice. A line that makes no sense is left out; a file that makes none is begun anew, with a new
 * UIDVALIDITY, so that no client takes a message for another. */
#ifndef LIB_STORE_UIDLIST_H
#define LIB_STORE_UIDLIST_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct uidlist_entry {
    uint32_t uid;
    struct slice extra; /* fields between uid and name, as they stand there, but for W: "B1234 S55" */
    uint64_t wire_size; /* W: bytes with CRLF line ends; 0: not known */
    struct slice name;  /* the file's name up to its ":2," */
};

struct uidlist {
    uint32_t uid_validity, next_uid; /* 0: there is no list yet */
    char guid[33];                   /* of the folder; "" if not known */
    struct uidlist_entry *entries;   /* by ascending uid */
    size_t count;
    long long stamp[3]; /* inode, size and time of the file, to see that it changed; 0: none */
};

/* A name up to its flags. */
struct slice uidlist_base_name(struct slice file_name);

/* Reads FOLDER/dovecot-uidlist; all is in the arena. A missing or senseless file gives an empty list. */
int uidlist_read(struct arena *, int folder_fd, struct uidlist *, struct err *) MUST_USE;

/* The same of its first line alone: there are no entries, and next_uid may be too low, since others add lines without a new first one. */
int uidlist_read_head(int folder_fd, struct uidlist *, struct err *) MUST_USE;

/* Has the file changed since the list was read? */
bool uidlist_is_stale(int folder_fd, const struct uidlist *);

/* Parses a file's text: for uidlist_read() and tests. */
void uidlist_parse(struct arena *, struct slice text, struct uidlist *);

/* Lock, then read, change, write, unlock. -1: ERR_TEMP if somebody else holds the lock for longer than some seconds (one whose
 * holder has gone, or of two minutes, is taken away: lib/store/lock_file.h). Blocks. */
int uidlist_lock(int folder_fd, struct err *) MUST_USE;
void uidlist_unlock(int folder_fd);

/* Replaces the file by the list; sets its stamp. With the lock. */
int uidlist_write(int folder_fd, struct uidlist *, struct err *) MUST_USE;

#endif
