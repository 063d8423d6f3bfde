/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/table_type.h: what a type of table implements: one file for each (table_cidr.c), one row for each in
 * table_types.def. The rest of the project knows only table.h. */
#ifndef LIB_TABLE_TABLE_TYPE_H
#define LIB_TABLE_TABLE_TYPE_H

#include <sys/stat.h>

#include "lib/table/table.h"

enum table_keys { TABLE_FIXED_KEYS, TABLE_PATTERNS };

/* What an opened table is, beyond its type; open() fills what it knows. */
struct table_about {
    const void *kind;       /* preset from the type */
    enum table_keys keys;   /* preset from the type */
    enum table_trust trust; /* preset: TABLE_TRUSTED; by the file's owner when watch_fd is set */
    uid_t uid;
    int watch_fd;    /* the open file, for noticing changes; preset -1. Closed by close() */
    const char *awaited; /* a file whose appearance is a change, too (the state's); preset NULL */
    bool reads_live; /* the file may change in place without being opened anew (lmdb); only its replacement counts */
};

struct table_ops {
    const char *type; /* "cidr" */
    enum table_keys keys;
    bool may_block;    /* asked through proxymap by every other process */
    bool untrusted;    /* refused with TABLE_NO_UNAUTH */
    bool fold_in_type; /* folds keys itself, or passes them on as they are (unionmap, proxy) */

    const void *kind; /* for open(), of types that share one: who they are */

    /* name: without the type. The result is kept until close(). Errors as table_open(). */
    void *(*open)(const struct conf *, const char *name, unsigned flags, struct table_about *, struct err *);
    void (*close)(void *state);

    /* The key is not empty, has no NUL, and is folded where the table's flags say so. */
    int (*find)(void *state, struct arena *, struct slice key, const char **value, struct err *);

    /* Next pair after the one before; *key with NULL ptr at the end. first: begin again. NULL: can't be listed. */
    int (*next)(void *state, struct arena *, bool first, struct slice *key, const char **value, struct err *);

    /* Changes what the table itself holds (memcache): value NULL removes the key, *found: it was there. NULL: can't be. */
    int (*change)(void *state, struct arena *, struct slice key, const char *value, bool *found, struct err *);

    /* The keys are about to be asked for, in this order, until one is found: one question may fetch them all. A failure
     * need not be told: asking for each key will. NULL: nothing is won by it. */
    int (*prefetch)(void *state, struct arena *, const struct slice *keys, size_t count, struct err *);

    /* The keys, none of them empty, will be asked for soon: makes that quicker, without a wait. NULL: nothing is won by it. */
    void (*warm)(const void *state, const struct slice *keys, size_t count);

    /* How its files are made; NULL where postmap can't. */
    const struct table_maker *maker;
};

/* Making and changing files: postmap, postalias. A path is the name after the type; the file is path + suffix. */
enum table_duplicates { TABLE_DUP_WARN, TABLE_DUP_IGNORE, TABLE_DUP_REPLACE };
struct table_maker {
    const char *suffix; /* ".lmdb" */

    /* A new file, which takes the old one's place (or comes into being) at finish() and not before. Its mode is mode. */
    void *(*create)(const struct conf *, const char *path, mode_t mode, enum table_duplicates, struct err *);

    /* Changes the file that is there, or an empty new one if create; each change is there at once. NULL: not possible. */
    void *(*update)(const struct conf *, const char *path, bool create, mode_t mode, enum table_duplicates,
                    struct err *);

    int (*put)(void *, struct slice key, struct slice value, struct err *);
    int (*remove)(void *, struct slice key, bool *found, struct err *); /* update() only */
    int (*finish)(void *, struct err *);                                /* also releases it */
    void (*abandon)(void *);
};

const struct table_ops *table_type_find(struct slice type); /* NULL: there is none */
const struct table_ops *table_type_at(unsigned index);      /* in the order of names; NULL at the end: postconf -m */

/* How tables that may block are asked by processes other than proxymap: lib/mail sets it at start. open() gets the whole
 * "type:name". Until it is set, such a table can't be opened ("proxymap is not reached from here"). */
void table_set_proxy(const struct table_ops *);

/* A table inside another (unionmap, pipemap, debug...): the same as table_open(). */
#endif
