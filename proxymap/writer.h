/* SPDX-License-Identifier: Apache-2.0 */
/* proxymap/writer.h: changes tables for others, in proxywrite: through the type's own change(), or for a table in a file
 * (lmdb and what is stored as such) as postmap(1) does. */
#ifndef PROXYMAP_WRITER_H
#define PROXYMAP_WRITER_H

#include "lib/table/table.h"

/* value NULL: removes the key; *found: it was there. One change of a file at a time. */
int may_wait writer_change(const struct conf *, struct arena *, const char *name, unsigned flags, struct slice key,
                           const char *value, bool *found, struct err *) MUST_USE;

#endif
