/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/cache.h: sessions that wait for the next message to their destination. They hold no task and no buffers; a timer
 * says goodbye to those that nobody has taken in time. */
#ifndef SMTP_CACHE_H
#define SMTP_CACHE_H

#include "lib/run/net.h"
#include "smtp/session.h"

struct cache;

struct cache *cache_new(const struct client *);

/* Keeps the session under its destination if it may be used again, else closes it. Takes it over. */
void may_wait cache_put(struct cache *, struct session **);

/* The one that was used last of those for the destination, and still stands; NULL: none. Counts a use. */
struct session *cache_take(struct cache *, const char *destination);

/* The same by host, whatever destination it was opened for. */
struct session *cache_take_host(struct cache *, const struct host *);

/* Closes all. */
void may_wait cache_drain(struct cache *);

#endif
