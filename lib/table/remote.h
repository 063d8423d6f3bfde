/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/remote.h: connections to a server that answers look-ups (tcp, socketmap, memcache, redis): made when they are
 * needed, kept for the next look-up, tried again once when one that was kept turns out to be dead. Tasks wait, no thread does; but
 * names of hosts are looked up in a thread. */
#ifndef LIB_TABLE_REMOTE_H
#define LIB_TABLE_REMOTE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/run/stream.h"

struct remote;

/* where: "inet:host:port", "inet:[::1]:port" or "unix:path". Lives in the arena, which must not be freed while it is asked. */
struct remote *remote_new(struct arena *, const char *where, struct err *) MUST_USE;

/* Calls converse(ctx, stream, err) over a connection. It reads its answer whole, or fails, and then the connection is given up. If
 * one that was kept fails before anything came back (ERR_CLOSED), it is called once more over a new one. begin, for new connections
 * (may be NULL), comes before. -1: ERR_TEMP (ERR_CANCELLED), whatever it was. */
struct remote_talk {
    int (*converse)(void *ctx, struct stream *, struct err *);
    int (*begin)(void *ctx, struct stream *, struct err *);
    void *ctx;
};
int may_wait remote_ask(struct remote *, const struct remote_talk *, usec_t time, struct err *) MUST_USE;

#endif
