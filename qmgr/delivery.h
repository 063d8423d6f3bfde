/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/delivery.h: the scheduler's entries as requests to delivery agents, and what comes back. */
#ifndef QMGR_DELIVERY_H
#define QMGR_DELIVERY_H

#include "lib/conf/conf.h"
#include "lib/conf/master_cf.h"
#include "qmgr/sched.h"

/* conf: for the parameters of transports; services: how many requests each takes at a time. Both are kept. */
void delivery_init(const struct conf *, const struct master_cf *services);

/* Hooks of the scheduler. */
void delivery_limits(void *ctx, const char *transport, struct sched_limits *);
void delivery_start(void *ctx, struct sched_entry *);
void delivery_put_off(void *ctx, struct sched_entry *, const char *status, const char *reason);

#endif
