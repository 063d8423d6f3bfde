/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/kv_source.h: tables in servers that know keys and values (memcache, redis): the configuration file of
 * memcache_table(5), the backup table, and trying again. */
#ifndef LIB_TABLE_KV_SOURCE_H
#define LIB_TABLE_KV_SOURCE_H

#include "lib/run/stream.h"
#include "lib/table/source_conf.h"
#include "lib/table/table_type.h"

struct kv_limits {
    unsigned data, line; /* bytes */
    unsigned flags, ttl; /* of what is written; ttl in seconds */
};

/* How a server is spoken to. Keys are without blanks and control characters, and of at most 250 bytes. */
struct kv_protocol {
    const char *type;
    const char *server; /* the parameter's name */
    const char *default_server;
    int (*begin)(const struct source_conf *, struct stream *, struct err *); /* a new connection; may be NULL */
    /* *value NULL: not there */
    int (*get)(const struct kv_limits *, struct arena *, struct stream *, struct slice key, const char **value,
               struct err *);
    int (*set)(const struct kv_limits *, struct stream *, struct slice key, struct slice value, struct err *);
    int (*remove)(const struct kv_limits *, struct stream *, struct slice key, bool *found, struct err *);
};

/* What a get answers: len bytes and the end of a line; no NUL. */
int may_wait kv_read_value(struct arena *, struct stream *, size_t len, const char **value, struct err *) MUST_USE;
int may_wait kv_read_line(struct stream *, unsigned limit, struct slice *line, struct err *) MUST_USE;

/* These are in a table_ops whose kind is a kv_protocol. */
void *kv_open(const struct conf *, const char *name, unsigned flags, struct table_about *, struct err *);
void kv_close(void *state);
int may_wait kv_find(void *state, struct arena *, struct slice key, const char **value, struct err *);
int may_wait kv_next(void *state, struct arena *, bool first, struct slice *key, const char **value, struct err *);
int may_wait kv_change(void *state, struct arena *, struct slice key, const char *value, bool *found, struct err *);

#endif
