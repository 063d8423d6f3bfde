/* SPDX-License-Identifier: Apache-2.0 */
/* proxymap/access.h: which tables may be asked here.
 *
 * "proxy:type:name" must stand in proxy_read_maps (or proxy_write_maps), word for word. A table of a type that may block, for
 * which nobody wrote "proxy:", must stand in main.cf or in an option of master.cf, whatever the parameter. All else is refused: a
 * daemon that somebody has taken over can't have files opened that the administrator did not name. */
#ifndef PROXYMAP_ACCESS_H
#define PROXYMAP_ACCESS_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/conf/conf.h"

struct access;

/* Lives in the arena. Values that can't be expanded, a master.cf that can't be read: what stands in them is not allowed. */
struct access *access_new(struct arena *, const struct conf *, const char *read_maps, const char *write_maps);

/* name: as it was asked for; the table to open, "type:name" without "proxy:"; NULL: refused. Borrowed from name. */
const char *access_for_reading(const struct access *, const char *name);
const char *access_for_writing(const struct access *, const char *name);

/* Visits the tables that may be read, without "proxy:". */
void access_each(const struct access *, void (*fn)(void *ctx, const char *name), void *ctx);

#endif
