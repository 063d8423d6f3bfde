/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/lmdb_read.h: looks things up in an LMDB file, in place, without the library: no locks, no transactions, no system
 * calls, and nothing in the file is believed before it has been checked, so that a cut or damaged file is an error and no
 * crash. The library itself trusts its files.
 *
 * A page of the newest state is never written before a second change after it is committed. So a look-up works on the
 * state that was newest when it began, and afterwards sees whether that can still be whole; if not, it begins again. */
#ifndef LIB_TABLE_LMDB_READ_H
#define LIB_TABLE_LMDB_READ_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/table/mapped_file.h"

struct lmdb_read {
    struct mapped_file file;
    size_t page_size;
};

/* Takes fd. */
int lmdb_read_init(struct lmdb_read *, int fd, struct err *) MUST_USE;
void lmdb_read_release(struct lmdb_read *);

/* The value of the key, copied to the arena; value->ptr NULL: not there. */
int lmdb_read_find(struct lmdb_read *, struct arena *, struct slice key, struct slice *value, struct err *) MUST_USE;

/* The first entry whose key comes after the given one (any if after.ptr is NULL), copied to the arena; key->ptr NULL: none. */
int lmdb_read_after(struct lmdb_read *, struct arena *, struct slice after, struct slice *key, struct slice *value,
                    struct err *) MUST_USE;

#endif
