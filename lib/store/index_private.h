/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/index_private.h: what the files that make up the index share: index.c opening, closing and transactions,
 * index_folder.c lists of messages, index_names.c names of their files, index_cache.c what was read out of them.
 *
 * Keys: 12 bytes of the folder, a letter, then: C uid (cache), E uid (identifier), H uid (header fields), L uid / 128 (a run of messages), N uid / 128 (the names of their files),
 * M (the folder), S (its snapshot), V mod-sequence (UIDs that vanished with it); numbers with the high byte first. The key "i" is the index itself. Values: a checksum of key and
 * value, then what they hold, in this machine's form. */
#ifndef LIB_STORE_INDEX_PRIVATE_H
#define LIB_STORE_INDEX_PRIVATE_H

#include <lmdb.h>

#include "lib/base/buf.h"
#include "lib/store/index.h"

enum { INDEX_KEY_LIMIT = INDEX_KEY + 1 + 8 };

struct index {
    char *path;
    int dir_fd, lock_fd;
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader; /* reset when not in use; NULL: none yet */
    bool is_failed, is_dirty;
    uint64_t first; /* a mod-sequence that none was given above before this index was made */
    struct buf pending;
    struct index_message *run; /* INDEX_RUN of them */
    struct buf value;
    struct index_name names_of_run[INDEX_RUN]; /* tasks have small stacks */
    struct buf names;
};

/* In the database under "i". */
struct index_header {
    uint64_t first, ceiling;
};

/* Fails the index, with LMDB's reason. */
int index_failed(struct index *, int code, const char *what, struct err *);

MDB_txn *index_read_begin(struct index *, struct err *);
void index_read_end(struct index *);

/* The first of a process marks the index as being written. */
MDB_txn *index_write_begin(struct index *, struct err *);
int index_write_end(struct index *, MDB_txn *, struct err *) MUST_USE;

/* Before a mod-sequence is committed. */
int index_reserve(struct index *, MDB_txn *, uint64_t modseq, struct err *) MUST_USE;

/* Builds a key; returns its length. */
size_t index_make_key(unsigned char *out, const struct index_key *, char kind, uint64_t number, unsigned number_size);

/* 1: found and whole; 0: not there; -1: failed (a bad checksum too). value: without the checksum. */
int index_lookup(struct index *, MDB_txn *, const unsigned char *key, size_t key_len, struct slice *value,
                 struct err *) MUST_USE;
/* index_names.c: in a transaction. changed, gone: as of index_commit(), but only those of this run. */
int index_change_names(struct index *, MDB_txn *, const struct index_key *, uint32_t run,
                       const struct index_message *changed, const struct index_name *names, size_t count,
                       const uint32_t *gone, size_t gone_count, struct err *) MUST_USE;

bool index_is_whole(const MDB_val *key, const MDB_val *value, struct slice *content);
int index_store(struct index *, MDB_txn *, const unsigned char *key, size_t key_len, struct slice value,
                struct err *) MUST_USE;

#endif
