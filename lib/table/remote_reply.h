/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/remote_reply.h: reads what servers of look-ups answer. They may be anybody: nothing is trusted. */
#ifndef LIB_TABLE_REMOTE_REPLY_H
#define LIB_TABLE_REMOTE_REPLY_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum {
    TCP_REPLY_LIMIT = 4096,
    SOCKETMAP_REPLY_LIMIT = 100000,
    NETSTRING_HEAD_LIMIT = 7, /* digits and the colon */
};

/* tcp_table(5): a line without its end. *value: in the arena; NULL: not found. -1: the server says that it failed, or the reply
 * makes no sense. */
int tcp_reply_read(struct arena *, struct slice line, const char **value, struct err *) MUST_USE;

/* %XX for '%', blanks, and what can't be printed. */
void tcp_encode(struct slice, struct buf *out);

/* socketmap_table(5): the content of a netstring. */
int socketmap_reply_read(struct arena *, struct slice, const char **value, struct err *) MUST_USE;

/* The head of a netstring, "123:", at the front of what has come. 1: *len and *head are set; 0: more is needed; -1: it is none, or
 * over the limit. */
int netstring_head_read(struct slice, size_t limit, size_t *len, size_t *head, struct err *);

/* The first line of memcached's answer to a get of one key: "VALUE key flags bytes", or "END": *found. */
int memcache_value_read(struct slice line, struct slice key, size_t limit, bool *found, size_t *len,
                        struct err *) MUST_USE;

/* "$bytes" of Redis's answer to GET; "$-1": not there. */
int redis_value_read(struct slice line, size_t limit, bool *found, size_t *len, struct err *) MUST_USE;

#endif
