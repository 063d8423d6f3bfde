/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/driver.h: what a loadable module for a data base (postern-mysql.so) gives to table_source.c, which has all that
 * they share: the configuration file, templates, several hosts, the pool of connections.
 *
 * A module uses nothing of ours but this header, and its functions run in threads of the pool, a connection in one at a time: so
 * they may block, but never longer than settings->timeout, where the library can be told so. */
#ifndef LIB_TABLE_DRIVER_H
#define LIB_TABLE_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

enum { TABLE_DRIVER_VERSION = 1, DRIVER_WHY_SIZE = 256 };

/* What the configuration file says; "" for what it does not set and has no default. */
struct driver_settings {
    const char *(*get)(void *ctx, const char *name);
    void *ctx;
    int timeout; /* seconds */
};

/* text: all of it is quoted already. base: ldap's search_base. */
struct driver_query {
    const char *text, *base;
    bool base_has_key;
};

/* Takes a value; text NULL: a null. -1: no more are wanted, the query fails (the caller knows why). */
struct driver_sink {
    int (*take)(void *ctx, const char *text, size_t len);
    void *ctx;
};

enum driver_result {
    DRIVER_OK,
    DRIVER_FAILED, /* the query failed, the connection is good */
    DRIVER_LOST,   /* the connection is of no more use */
};

struct table_driver {
    unsigned version;
    const char *type;
    size_t growth; /* quote() writes at most growth * len + 1 bytes */

    /* Once, before all else and in the main thread; may be NULL. -1 and *why (DRIVER_WHY_SIZE bytes): settings make no sense. */
    int (*start)(const struct driver_settings *, char *why);

    /* NULL and why: it can't be reached. */
    void *(*connect)(const struct driver_settings *, const char *host, char *why);
    void (*close)(void *connection);

    /* Bytes written to out; (size_t)-1: it can't be quoted, as it is malformed. quote_base: for driver_query.base; may be NULL. */
    size_t (*quote)(void *connection, const char *text, size_t len, char *out);
    size_t (*quote_base)(void *connection, const char *text, size_t len, char *out);

    enum driver_result (*query)(void *connection, const struct driver_settings *, const struct driver_query *,
                                const struct driver_sink *, char *why);
};

/* The one symbol of a module for a data base. */
#define TABLE_DRIVER_SYMBOL "postern_table_driver"
extern const struct table_driver postern_table_driver;

/* Takes a pair; -1: no more are wanted. */
struct driver_pairs {
    int (*take)(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len);
    void *ctx;
};

/* A module for files of a foreign kind. version and type stand where they stand in a table_driver. */
struct table_file_driver {
    unsigned version;
    const char *type;

    /* All pairs of a file that nobody changes. -1 and why: it can't be read to its end. Leaves all as it is, open or not: the
     * process ends afterwards. */
    int (*read_all)(int fd, const struct driver_pairs *, char *why);
};
#define TABLE_FILE_DRIVER_SYMBOL "postern_file_driver"
extern const struct table_file_driver postern_file_driver;

#endif
