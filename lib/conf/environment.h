/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/environment.h: import_environment and export_environment: which variables our own programs keep of the
 * environment that they were started with, and which they give to the programs of others.
 *
 * Both are lists of names, name=value, and { name = value with blanks }: a name keeps the variable if it is there, a
 * value sets it. */
#ifndef LIB_CONF_ENVIRONMENT_H
#define LIB_CONF_ENVIRONMENT_H

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/conf.h"

/* What import_environment names and is there, as "NAME=value" texts, *count of them. In the arena. NULL on error. */
char **environment_imported(const struct conf *, struct arena *, size_t *count, struct err *);

/* Leaves in this process's environment what import_environment names, and nothing else. Before threads and tasks are there. */
int environment_import(const struct conf *, struct err *) MUST_USE;

/* What a command of somebody else gets, as execve() wants it ("NAME=value"..., NULL at the end): what export_environment
 * names, and a PATH of /usr/bin:/bin if that has none. In the arena. NULL on error. */
char **environment_export(const struct conf *, struct arena *, struct err *);

#endif
