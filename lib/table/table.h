/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/table.h: look-up tables, as DATABASE_README and the *_table(5) manuals describe them: "type:name", a key in,
 * a text out.
 *
 * A table is opened once, in prepare(), where the process still has the privileges and the file system of its start; the
 * same type:name with the same flags opened again is the same table. It lives as long as the process. Types that may block
 * (SQL, LDAP, memcache, tcp, socketmap, unix, proxy:...) are not opened in the process: their look-ups are calls to
 * proxymap, and wait.
 * A table whose file changes on disk is noticed within a second or so: where the file system is in reach it is opened
 * anew, elsewhere (tables_seal()) the process is replaced as after a reload (lib/service asks tables_changed()).
 *
 * A look-up has three outcomes, and they are never mixed up: found, not found (both return 0), error (-1): the caller
 * defers what it can't decide. Values are text without NUL. Nothing in a value or a key is ever expanded a second time. */
#ifndef LIB_TABLE_TABLE_H
#define LIB_TABLE_TABLE_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/conf.h"

struct table;

enum {
    TABLE_FOLD_FIXED = 1,   /* keys are asked in lower case in tables of fixed keys (hash, lmdb, cdb...) */
    TABLE_FOLD_PATTERN = 2, /* and in regexp and pcre tables */
    TABLE_NO_REGSUB = 4,    /* $1 in a pattern table's result is an error when it is opened */
    TABLE_NO_UNAUTH = 8,    /* aliases, uids: refuse files that all may write, and types that don't know who answers (tcp) */
    TABLE_SOURCE_RAW = 16,  /* values are base64 of binary data, or file contents (postmap -F) */
    TABLE_NO_UTF8 = 32,     /* keys and values are bytes, also where smtputf8_enable is set (postmap -U) */
    TABLE_RESULT_CHECKED = 64, /* header_checks and the like: a bad right-hand side is the caller's business */
};
enum { TABLE_FOLD = TABLE_FOLD_FIXED };

/* conf is kept: it lives as long as the process. header_checks and body_checks want TABLE_NO_UTF8, because their keys are
 * mail. name: "hash:/etc/postfix/virtual", "inline:{a=b}", or "/etc/postfix/virtual" alone for default_database_type. An unknown
 * type, a type that is not installed, a missing or unreadable file: NULL, and *err says what and which file. A malformed
 * line in a text table is logged with file and line and left out, as Postfix does; a table with TABLE_NO_REGSUB or
 * TABLE_NO_UNAUTH is refused instead. */
struct table *table_open(const struct conf *, const char *name, unsigned flags, struct err *) MUST_USE;

/* Like table_open(), but an error is kept for table_find() to return (ERR_TEMP): a daemon must not refuse to start because
 * of one table among many. Logs a warning. */
struct table *table_open_late(const struct conf *, const char *name, unsigned flags);

const char *table_name(const struct table *); /* as opened: "hash:/etc/postfix/virtual" */

/* Is it made of patterns (regexp, pcre, cidr, tcp, socketmap...), so that partial keys (user, @domain, .domain) must not be
 * asked? */
bool table_is_pattern(const struct table *);

/* Who can write what the table says: commands in an aliases table run as him. */
enum table_trust {
    TABLE_TRUSTED,     /* root alone, or main.cf */
    TABLE_OWNED,       /* *uid is the file's owner */
    TABLE_OWNER_UNKNOWN,
};
enum table_trust table_owner(const struct table *, uid_t *uid);

/* *value: in the arena; NULL: not found. ERR_TEMP for whatever failed. An empty key is never found. */
int may_wait table_find(struct table *, struct arena *, struct slice key, const char **value, struct err *) MUST_USE;

/* All pairs, for postmap -s: first begins again; key->ptr NULL at the end. Keys as they are stored. ERR_PERM: the type can't
 * be listed. */
int may_wait table_next(struct table *, struct arena *, bool first, struct slice *key, const char **value,
                        struct err *) MUST_USE;

/* Sets the value of a key, or removes it (value NULL; *found: it was there), for caches. ERR_PERM: the type can't. */
int may_wait table_change(struct table *, struct arena *, struct slice key, const char *value, bool *found,
                          struct err *) MUST_USE;

/* The keys will be asked for, in this order, until one is found: a table in another process is asked for all at once. Never
 * fails: what could not be fetched is asked for again. -1: cancelled. */
int may_wait table_prefetch(struct table *, struct arena *, const struct slice *keys, size_t count,
                            struct err *) MUST_USE;

/* Is anything won by it? */
bool table_has_prefetch(const struct table *);

/* The keys will be asked for soon: memory that their look-ups will need is fetched for all at once. Never fails, changes no
 * answer; worth it for two keys or more. */
void table_warm(struct table *, struct arena *, const struct slice *keys, size_t count);

/* The process has gone where files are out of reach: a table that changes can't be opened anew. After sandbox_enter(). */
void tables_seal(void);

/* Has a file of an open table changed (or a table that could not be opened was asked), so that only a new process can see
 * it? False before tables_seal(). Costs a system call for each file at most once a second. */
bool tables_changed(void);

/* Is there an open table of which tables_changed() could ever tell something? */
bool tables_have_files(void);

/* In this process types that may block are opened by itself, not through proxymap: for proxymap and for commands. */
void tables_open_blocking(void);

/* Closes all tables: for tests and fuzz targets. */
void tables_close_all(void);

#endif
