/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/index.h: what is known of a user's messages beside what the folders themselves say: mod-sequences (RFC 7162), sizes
 * and times, UIDs that are gone, and a cache of what was read out of messages. One LMDB environment for each user, in a
 * directory of its own, for all folders.
 *
 * The folder is the truth. The index follows it at folder_sync(), and can be thrown away at any time: then each message gets
 * a new mod-sequence, higher than any that was ever given, so that clients ask for all flags once more; UIDs are none of its
 * business.
 *
 * Mod-sequences never go back and never repeat. A new index begins at the time (seconds, shifted by 20 bits) or at the old
 * one's ceiling, whichever is more. The file "state" holds the ceiling: synced before a mod-sequence above it is committed. It also
 * says whether the data is clean (synced, and of this size and time) or is being written; the first write of a process
 * says so, synced, before it writes. The file "lock" is held with flock() by all who have the index open, and its first byte
 * says that it is. Who finds himself alone with an index that was not closed, or is not what the state says, throws it away:
 * data written without syncs is only good while all who wrote it closed it. So a damaged file is met by LMDB
 * at most once: a process that dies of it leaves the mark. Each value carries a checksum.
 *
 * All calls block for as long as the disk does, and none waits for other tasks. After a failure the index is dead: it gives
 * errors, the caller goes on without, and the next who opens it begins anew. */
#ifndef LIB_STORE_INDEX_H
#define LIB_STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct index;

/* Opens, or makes, the index in this directory (its parent is there). */
struct index *index_open(const char *directory, struct err *) MUST_USE;
void index_close(
    struct index **); /* writes what is pending; syncs if anything was written and nobody else has it open */

/* ---- folders ---- */

enum { INDEX_KEY = 12 };
struct index_key {
    unsigned char bytes[INDEX_KEY];
};

/* By the folder's own unique name (not its path, which changes with RENAME) and its UIDVALIDITY. */
struct index_key index_key(struct slice unique, uint32_t uid_validity);

enum { INDEX_IS_NEW = 1 << 16 }; /* among the flags: no program has seen it; this gets no mod-sequence */

struct index_message {
    uint32_t uid;
    uint32_t flags; /* FLAG_... of folder.h, INDEX_IS_NEW */
    uint32_t keywords;
    uint32_t saved;  /* when it came into this folder: seconds since 1970 */
    uint64_t modseq; /* in index_commit(): 0: flags changed (or are new), give it one */
    uint64_t size;   /* on the wire; 0: not known */
    int64_t arrived; /* 0: not known */
};

/* How a Maildir's directories and its list of UIDs were when their messages were taken in: while they are so still, nobody need
 * look into them. Inode, and times or size, in whatever units; zeros: not known. */
struct index_stamp {
    int64_t inode, first, second;
};
struct index_snapshot {
    struct index_stamp cur, new, list;
    uint32_t next_uid, count; /* count: of messages */
};

/* The name of a message's file, kept beside the message. */
enum index_name_kind {
    INDEX_NAME_NONE, /* not given here; what is there stays */
    INDEX_NAME_BASE, /* without its flags, in cur */
    INDEX_NAME_CUR,  /* as it is, since its flags are written in another way than ours */
    INDEX_NAME_NEW,  /* as it is, in new */
};
struct index_name {
    enum index_name_kind kind;
    struct slice text;
};

/* All messages of the folder, by UID, malloc()ed; none (and *highest 0) if the index does not know the folder. snapshot (may be
 * NULL): of these messages; zeros: there is none. */
int index_load(struct index *, const struct index_key *, struct index_message **, size_t *count, uint64_t *highest,
               struct index_snapshot *snapshot, struct err *) MUST_USE;

/* The snapshot alone. *known false: there is none. */
int index_get_snapshot(struct index *, const struct index_key *, struct index_snapshot *, bool *known,
                       struct err *) MUST_USE;

/* Calls take for the name of each message whose UID / INDEX_RUN is the same as this one's. */
enum { INDEX_RUN = 128 };
typedef void index_take_name(void *ctx, uint32_t uid, const struct index_name *);
int index_names(struct index *, const struct index_key *, uint32_t uid, index_take_name *take, void *ctx,
                struct err *) MUST_USE;

/* Beside the messages in index_commit(), of folders that have such things. */
struct index_place {
    const struct index_name *names;        /* of the changed messages, in their order */
    const struct index_snapshot *snapshot; /* NULL: not known; the one that is there goes */
    uint64_t highest;                      /* as of the caller's last index_load() or index_commit() */
    bool is_behind; /* set: another process has changed messages since, so the snapshot was not written */
};

/* Writes changed messages (by UID; their modseq is filled in) and takes out those that are gone (by UID). What another process has
 * written already, with the same flags, keeps the mod-sequence that it got. *highest: the folder's HIGHESTMODSEQ. place: may be
 * NULL. */
int index_commit(struct index *, const struct index_key *, struct index_message *changed, size_t count,
                 const uint32_t *gone, size_t gone_count, struct index_place *place, uint64_t *highest,
                 struct err *) MUST_USE;

/* UIDs that were expunged after that mod-sequence, ascending, in the arena. *known false: the index does not reach back so
 * far (all that are not in the folder may have been). */
int index_vanished(struct index *, const struct index_key *, uint64_t since, struct arena *, uint32_t **uids,
                   size_t *count, bool *known, struct err *) MUST_USE;

/* The folder was removed. */
int index_forget(struct index *, const struct index_key *, struct err *) MUST_USE;

/* ---- what was read out of messages ---- */

enum index_text {
    INDEX_ENVELOPE,  /* as FETCH gives it */
    INDEX_STRUCTURE, /* BODYSTRUCTURE, as FETCH gives it */
    INDEX_SUBJECT,   /* base subject, folded */
    INDEX_FROM,      /* sort keys, folded */
    INDEX_TO,
    INDEX_CC,
    INDEX_DISPLAY_FROM,
    INDEX_DISPLAY_TO,
    INDEX_ID,         /* Message-ID, without < > */
    INDEX_REFERENCES, /* the same of References or In-Reply-To, each with a NUL behind it */
    INDEX_TEXTS
};

struct index_cached {
    int64_t sent; /* the Date field in UTC, if has_sent */
    bool has_sent, is_reply;
    bool
        is_wide; /* envelope or structure have bytes with 8 bits: a client with UTF8=ACCEPT gets them in another form */
    struct slice texts[INDEX_TEXTS];
};

/* False: not there. In the arena. */
bool index_get(struct index *, const struct index_key *, uint32_t uid, struct arena *, struct index_cached *);

/* Some fields of the header, as they stand in the message (imap/cache.h says which), with an empty line behind them. */
bool index_get_header(struct index *, const struct index_key *, uint32_t uid, struct arena *, struct slice *header);
void index_put_header(struct index *, const struct index_key *, uint32_t uid, struct slice header);

/* An identifier that was made of the whole message (RFC 8474). */
bool index_get_email_id(struct index *, const struct index_key *, uint32_t uid, struct arena *, struct slice *id);
void index_put_email_id(struct index *, const struct index_key *, uint32_t uid, struct slice id);

/* Kept in memory until there are many, or index_flush(). Nothing is said of failures: it is a cache. */
void index_put(struct index *, const struct index_key *, uint32_t uid, const struct index_cached *);
void index_flush(struct index *);

#endif
