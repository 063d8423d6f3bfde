/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/folder_mbox.h: an open mbox.
 *
 *   folder_mbox.c          locks, sync, the list
 *   folder_mbox_scan.c     the file's messages: where they lie, what their headers say
 *   folder_mbox_write.c    what changed goes into the file: headers of one message at their place, or all from there on anew
 *   folder_mbox_message.c  reading and adding messages
 *
 * UIDs ascend in the file, as they do for Dovecot: a message whose X-UID is missing, too high, or not above that of the message
 * before it gets a new one, and so do all behind it. So the list by UID has the order of the file. */
#ifndef LIB_STORE_FOLDER_MBOX_H
#define LIB_STORE_FOLDER_MBOX_H

#include <sys/types.h>

#include "lib/base/buf.h"
#include "lib/store/folder_private.h"
#include "lib/store/mbox.h"
#include "lib/store/mbox_parse.h"

enum { MBOX_HEADER_LIMIT = 1 << 20 }; /* own fields are looked for so far */

/* Where a message lies in the file: From_ line, header, body. */
struct mbox_place {
    off_t at, end;       /* of all, with the empty line after it */
    off_t from_len;      /* the From_ line */
    off_t lines, header; /* the header without, and with, the empty line after it */
    uint64_t digest;     /* of what is not ours in the header */
};

/* A message that is nothing but a header, without the empty line after it: that is given to it. */
static inline bool
mbox_lacks_blank(const struct mbox_place *p)
{
    return p->header == p->lines && p->end == p->at + p->from_len + p->header;
}

struct mbox_message {
    struct folder_message message;
    struct mbox_place place;
    char digits[11];  /* the UID: a name */
    bool is_dirty;    /* the file does not say yet what we know */
    bool is_doomed;   /* to be expunged */
    bool was_deleted; /* when it was doomed: by its flag \Deleted, which another program may take back */
};

struct mbox_folder {
    struct folder folder;
    int fd; /* for reading; -1: there is no file */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec stamp;
    bool is_scanned, is_settled;
    bool is_read_only; /* the file may not be written by us */
    bool has_doomed;
    bool has_patched;                  /* in place, and not synced yet */
    off_t written;                     /* where a message begins that was added and not synced yet; -1: there is none */
    struct mbox_message *internal;     /* c-client's "folder internal data", no message; NULL: none */
    uint32_t base_validity, base_last; /* as the first message says; 0: it does not */
    bool base_is_dirty;                /* keywords */
};

static inline struct mbox_folder *
mbox_of(const struct folder *folder)
{
    return (struct mbox_folder *)(uintptr_t)folder;
}

static inline struct mbox_message *
mbox_own_of(struct folder_message *message)
{
    return (struct mbox_message *)(void *)message;
}

/* ---- folder_mbox.c ---- */

/* Opens and locks the file, and brings the list up to date. 1: there is no file. */
int mbox_begin(struct folder *, struct mbox *, bool create, struct err *) MUST_USE;
void mbox_end(struct folder *, struct mbox *); /* unlocks; notes how the file was left */
bool mbox_is_current(const struct folder *);   /* the file is as we know it */
const char *mbox_scratch_directory(void);
void mbox_add(struct folder *, struct mbox_message *);

/* ---- folder_mbox_scan.c ---- */

struct mbox_found {
    struct mbox_place place;
    struct mbox_own own; /* its slices are of the scan */
    time_t when;
};

struct mbox_scan {
    struct arena *arena;
    struct mbox_found *found;
    size_t count, size;
};

/* hints: messages that are known, whose ends are believed where a From_ line stands there. */
int mbox_scan(struct mbox_scan *, int fd, off_t size, const struct folder *hints, struct err *) MUST_USE;
void mbox_scan_release(struct mbox_scan *);

/* ---- folder_mbox_write.c ---- */

/* Writes what is dirty and takes out what is doomed. With the lock, after mbox_begin(). */
int mbox_flush(struct folder *, struct mbox *, struct err *) MUST_USE;
/* The fields in which we keep a message's state, to be put at the header's end; others: unknown keywords that stay. */
void mbox_put_own(const struct folder *, const struct folder_message *, bool is_base, bool is_internal,
                  struct slice others, struct buf *);
void mbox_spare_doomed(struct folder *);                /* what could not be removed is told of, and stays */
void mbox_base_written(struct folder *);                /* the file says what we know of UIDs and keywords */
void mbox_remember_base(const struct folder *, int fd); /* for a file without messages */
void mbox_recall_base(struct folder *, int fd);

/* ---- folder_mbox_message.c ---- */
int mbox_read(struct folder *, struct folder_message *, struct folder_content *, struct err *);
int mbox_append_begin(struct folder *, struct folder_append *, struct err *);
void mbox_append_abort(struct folder *, struct folder_append *);
void mbox_take_back(struct folder *, const char *name);
int mbox_append_finish(struct folder *, struct folder_append *, unsigned flags, uint32_t keywords, time_t arrived,
                       struct arena *, const char **name, struct err *);

#endif
