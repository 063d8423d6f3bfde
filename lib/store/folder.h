/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/folder.h: a folder of mail, opened for reading: what the POP3 and IMAP servers work on.
 *
 * One object for each folder and process; all sessions of the user share it. Messages stand in the order of their UIDs.
 * Other programs may deliver, move, flag and remove at any time: folder_sync() looks, and takes in what it finds. Each
 * session keeps its own list of what its client knows (imap/view.h), and compares.
 *
 * Calls block for as long as the disk does; none waits for other tasks. What they return is borrowed from the folder and
 * good until the next folder_sync() or change. */
#ifndef LIB_STORE_FOLDER_H
#define LIB_STORE_FOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/store/index.h"

enum {
    FLAG_SEEN = 1,
    FLAG_ANSWERED = 2,
    FLAG_FLAGGED = 4,
    FLAG_DELETED = 8,
    FLAG_DRAFT = 16,
    FLAG_PASSED = 32, /* Maildir's P: not shown to IMAP as a flag, kept */
};
enum { FOLDER_KEYWORDS = 26 }; /* a to z in a file's name */

struct folder_message {
    uint32_t uid;
    unsigned flags;     /* FLAG_... */
    uint32_t keywords;  /* bit n: folder_keyword(n) */
    bool is_new;        /* no program has seen it (lies in new/, or its Status has no O) */
    uint64_t change;    /* grows with each change of a flag in this process: what a session compares */
    uint64_t wire_size; /* with CRLF; 0: not known yet, ask folder_message_size() */
    time_t arrived;     /* 0: not known yet, ask folder_message_time() */
    uint64_t modseq;    /* of the index; 0: there is none, or the change was not brought in yet (folder_sync()) */
    uint32_t saved;     /* when it came into this folder; 0: not known */
    struct slice name;  /* base name, if file is known */
    char *file;    /* as last seen in cur/ or new/: "name:2,S"; in an mbox the UID; NULL: folder_message_file() knows */
    bool seen_now; /* while the folder is looked through */
    bool is_in_block; /* not malloc()ed alone */
};

struct folder;

enum folder_make {
    FOLDER_EXISTING,
    FOLDER_MAILDIR, /* a Maildir, if nothing is there; what a Maildir lacks is made */
    FOLDER_MBOX,    /* an mbox, if nothing is there */
};

/* path: absolute; a directory is a Maildir folder, a file an mbox, whatever make says. */
struct folder *folder_open(const char *path, enum folder_make, struct err *) MUST_USE;
void folder_close(struct folder **); /* writes what was learned of sizes */

/* Between folder_open() and the first folder_sync() of one that is new: its UIDVALIDITY (otherwise the time), so that a name that
 * comes back repeats no UID. */
void folder_begin_uids(struct folder *, uint32_t uid_validity);
void folder_mbox_begin_uids(int fd, uint32_t uid_validity); /* the same for an empty mbox */

/* For mboxes, once for the process; texts are kept. How they are locked (without it: fcntl, dotlock); a dotlock that can't be
 * made for want of rights is left out. scratch: a directory for temporary files without a name (NULL: /var/tmp). */
struct mbox_locking;
void folder_configure_mbox(const struct mbox_locking *, const char *scratch);

/* Before the first folder_sync(): the user's index, which folder_sync() keeps up with the folder from then on. It stays the
 * caller's, and open longer than the folder. A folder whose index fails goes on without. */
void folder_use_index(struct folder *, struct index *);
void folder_index_forget(struct folder *);             /* the folder is going to be removed */
void folder_commit_flags(struct folder *);             /* flags that were set get their mod-sequence */
uint64_t folder_highest_modseq(const struct folder *); /* 0: there is no index */
/* UIDs expunged after that mod-sequence; *known false: nobody knows, take all that are not there. */
int folder_vanished(struct folder *, uint64_t since, struct arena *, uint32_t **uids, size_t *count, bool *known,
                    struct err *) MUST_USE;

/* What was read out of a message, as the index remembers it. */
bool folder_cached(struct folder *, uint32_t uid, struct arena *, struct index_cached *);
void folder_cache(struct folder *, uint32_t uid, const struct index_cached *);
/* The same of header fields (index_get_header()). */
bool folder_cached_header(struct folder *, uint32_t uid, struct arena *, struct slice *header);
void folder_cache_header(struct folder *, uint32_t uid, struct slice header);
/* And of an identifier (index_get_email_id()). */
bool folder_cached_email_id(struct folder *, uint32_t uid, struct arena *, struct slice *id);
void folder_cache_email_id(struct folder *, uint32_t uid, struct slice id);
void folder_cache_flush(struct folder *);

/* For other indexes: the folder's key, and what tells the messages with the UIDs run * INDEX_RUN and the following ones from others that might
 * have these UIDs some day (a number made of the file's name, or of the message's size and header); 0: there is none, or nobody knows. */
struct index_key folder_key(const struct folder *);
void folder_identify(struct folder *, uint32_t run, uint32_t identities[INDEX_RUN]);

/* Looks whether something changed, takes it in, gives new messages their UIDs (durably, before they are named). Costs a few
 * system calls if nothing has. */
int folder_sync(struct folder *, struct err *) MUST_USE;

/* What no program has seen counts as seen from now on (new/ to cur/, Status: O): the client is told of it as \Recent. *moved:
 * the lowest UID of them, 0: none. */
int folder_take_new(struct folder *, uint32_t *moved, struct err *) MUST_USE;

size_t folder_count(const struct folder *);
struct folder_message *folder_at(const struct folder *, size_t index);   /* by UID ascending */
struct folder_message *folder_find(const struct folder *, uint32_t uid); /* NULL: it is gone */
size_t folder_lower_bound(const struct folder *, uint32_t uid); /* index of the first with this UID or a higher one */
uint32_t folder_first_unseen(struct folder *);                  /* UID of the first without FLAG_SEEN; 0: none */

/* The UIDs of all messages as they are now. Shared with the folder and with others, so nobody changes it. */
struct uid_list {
    unsigned users;
    size_t count;
    uint32_t uids[];
};
struct uid_list *folder_uid_list(struct folder *);
void uid_list_release(struct uid_list **);
uint32_t folder_uid_validity(const struct folder *);
uint32_t folder_next_uid(const struct folder *);
uint64_t folder_change(const struct folder *); /* of the last change */
int folder_fd(const struct folder *);
const char *folder_guid(const struct folder *);

/* The number of a keyword, made if there is room (-1: there is none, or no such name and !create). */
int folder_keyword_number(struct folder *, struct slice name, bool create, struct err *);
const char *folder_keyword(const struct folder *, unsigned number); /* NULL: not used */

/* Sets flags and keywords, at once and for all programs. A message that has gone: success, *gone set. */
int folder_set_flags(struct folder *, struct folder_message *, unsigned flags, uint32_t keywords, bool *gone,
                     struct err *) MUST_USE;

/* The same for all that folder_set_flags() did: it becomes durable, and gets its mod-sequence. */
int folder_settle_flags(struct folder *, struct err *) MUST_USE;

/* Removes it from the disk, in an mbox no later than in folder_settle(); it stays in the list until folder_sync(). */
int folder_expunge(struct folder *, struct folder_message *, struct err *) MUST_USE;

/* The name of its file; "" if it can't be found out. */
const char *folder_message_file(struct folder *, struct folder_message *);

uint64_t folder_message_size(struct folder *, struct folder_message *, struct err *); /* 0: it can't be read */
void folder_learn_size(struct folder *, struct folder_message *, uint64_t size);      /* by who has read it anyway */
time_t folder_message_time(struct folder *,
                           struct folder_message *); /* as folder_message_size(), it may look through the folder */

/* The message as it lies on the disk (lines end in LF or CRLF). release with folder_content_release(). ERR_PERM: gone. */
struct folder_content {
    struct slice bytes;
    void *mapped; /* mmap()ed, else malloc()ed */
    size_t mapped_len;
};
int folder_read(struct folder *, struct folder_message *, struct folder_content *, struct err *) MUST_USE;
void folder_content_release(struct folder_content *);

/* Adds a message: written in pieces to a file of its own, then put in its place. */
struct folder_append {
    int fd;
    char name[128];
    uint64_t size, wire_size;
    bool after_cr; /* the last byte written was CR */
};
int folder_append_begin(struct folder *, struct folder_append *, struct err *) MUST_USE;
/* Bytes in wire form; CRLF becomes LF. */
int folder_append_write(struct folder *, struct folder_append *, struct slice, struct err *) MUST_USE;
void folder_append_abort(struct folder *, struct folder_append *);
/* name: the name that it got, in the arena, for folder_uid_of() after folder_settle(). */
int folder_append_finish(struct folder *, struct folder_append *, unsigned flags, uint32_t keywords, time_t arrived,
                         struct arena *, const char **name, struct err *) MUST_USE;

/* Puts the message into another folder (of either kind; as a hard link where that works); move: and takes it away here. */
int folder_copy(struct folder *from, struct folder_message *, struct folder *to, bool move, struct arena *,
                const char **name, struct err *) MUST_USE;

/* Removes what append_finish() or copy() (not a move) has put there under that name, as far as the disk allows: it was not acknowledged. It
 * need not have a UID. */
void folder_take_back(struct folder *, const char *name);

/* What was appended and copied becomes durable, and gets its UIDs; what was expunged is gone. */
int folder_settle(struct folder *, struct err *) MUST_USE;
uint32_t folder_uid_of(const struct folder *, const char *name); /* 0: another program has taken it away already */

#endif
