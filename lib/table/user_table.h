/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/user_table.h: the users of `postfix user`: an LMDB file of names, password hashes and SCRAM keys, root's alone. The
 * password itself is never stored. auth opens it while it still has its privileges, and sees what the command changes. */
#ifndef LIB_TABLE_USER_TABLE_H
#define LIB_TABLE_USER_TABLE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct user_table;

enum { USER_NAME_SIZE = 255 };

/* Makes the file if there is none. write: for user_table_set() and user_table_delete(). */
struct user_table *user_table_open(const char *path, bool write, struct err *) MUST_USE;
void user_table_close(struct user_table **);

/* Printable, without blanks, ':' and '/', at most USER_NAME_SIZE bytes; kept and asked in lower case. */
bool user_table_name_is_valid(struct slice name);

/* The record: lines "field=value" (user_record.h), in the arena; NULL: no such user. */
int user_table_get(struct user_table *, struct arena *, struct slice name, const char **record, struct err *) MUST_USE;
int user_table_set(struct user_table *, struct slice name, const char *record, struct err *) MUST_USE;
int user_table_delete(struct user_table *, struct slice name, bool *found, struct err *) MUST_USE;

/* Calls fn for each user, in the order of names, until it returns false. */
int user_table_each(struct user_table *, bool (*fn)(void *ctx, struct slice name, const char *record), void *ctx,
                    struct err *) MUST_USE;

#endif
