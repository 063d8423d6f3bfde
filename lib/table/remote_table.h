/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/remote_table.h: tables that are a server to which a key is sent and which sends an answer (tcp, socketmap). */
#ifndef LIB_TABLE_REMOTE_TABLE_H
#define LIB_TABLE_REMOTE_TABLE_H

#include "lib/base/buf.h"
#include "lib/table/remote.h"
#include "lib/table/table_type.h"

struct remote_table {
    struct arena *arena;
    const char *name; /* "socketmap:inet:host:port:name" */
    const char *map;  /* what the server calls it; NULL: nothing */
    struct remote *remote;
};

struct remote_question {
    struct arena *arena;
    struct slice request;
    const char *value; /* the answer; NULL: not found */
};

/* where: as remote_new(). name, map: copied. Errors have the name in front. */
struct remote_table *remote_table_new(const char *name, const char *where, const char *map, struct table_about *,
                                      struct err *) MUST_USE;
void remote_table_close(void *);

/* converse: as remote_talk's; ctx is the question. Releases the request. */
int may_wait remote_table_ask(const struct remote_table *, struct arena *, struct buf *request,
                              int (*converse)(void *ctx, struct stream *, struct err *), const char **value,
                              struct err *) MUST_USE;

#endif
