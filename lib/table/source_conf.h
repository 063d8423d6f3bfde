/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/source_conf.h: the configuration of a table whose data are elsewhere: a file with "name = value" lines, or, if the
 * name begins with neither '/' nor '.', main.cf's parameters NAME_hosts and so on. Values in a file are as they stand there: a
 * password may have a '$'. */
#ifndef LIB_TABLE_SOURCE_CONF_H
#define LIB_TABLE_SOURCE_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/conf/conf.h"

struct source_conf;

/* type: "mysql", for messages. parameters: all names, NULL-ended, kept; others in the file are logged. *fd: the file, to notice
 * changes, the caller's to close; -1 if there is none. */
struct source_conf *source_conf_load(struct arena *, const struct conf *, const char *type, const char *name,
                                     const char *const *parameters, int *fd, struct err *) MUST_USE;

/* NULL: not set. */
const char *source_conf_get(const struct source_conf *, const char *parameter);
const char *source_conf_text(const struct source_conf *, const char *parameter, const char *otherwise);
void source_conf_default(struct source_conf *, const char *parameter, const char *value);

int source_conf_number(const struct source_conf *, const char *parameter, unsigned otherwise, unsigned least,
                       unsigned most, unsigned *, struct err *) MUST_USE;
/* Seconds, with a unit if there is one. */
int source_conf_time(const struct source_conf *, const char *parameter, unsigned otherwise, unsigned *seconds,
                     struct err *) MUST_USE;
int source_conf_bool(const struct source_conf *, const char *parameter, bool otherwise, bool *, struct err *) MUST_USE;

#endif
