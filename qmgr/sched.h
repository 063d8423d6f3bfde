/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/sched.h: which recipients are delivered next. Pure: it neither waits nor does I/O, and is told the time.
 *
 *   transport  a delivery service of master.cf; transports take turns
 *   queue      a destination of a transport (or a recipient, where only one goes into a request), with its concurrency window
 *   job        a message as far as one transport has to do with it
 *   peer       a job as far as one queue has to do with it
 *   entry      recipients of a peer that go into one request
 *
 * Jobs of a transport are served in the order of their ranks: first come, first served, but a job that is about to
 * occupy the transport for long lets smaller ones pass. For each slot_cost entries that it has sent off it earns a
 * slot; a waiting job preempts it if its own entries, less the discount and the loan, fit what was earned. The
 * preempting job gets the lowest rank of all, so preemptions stack up and come undone by themselves.
 *
 * Each queue keeps its peers in the order of ranks. The queues of a transport that have something to send and a free
 * place in their window stand in a heap, ordered by the rank of their first peer and, within a job, by who was served
 * longest ago. So choosing costs the logarithm of the number of destinations, however many messages wait.
 *
 * A queue's window grows with successes and shrinks with failures. When failed_cohort_limit cohorts (a cohort is
 * one window full of requests) have failed in a row, the destination is dead until dead_time has passed: its
 * entries, and all that are added meanwhile, come back through put_off() without an attempt.
 *
 * Life of an entry: sched_add() makes it; sched_run() gives it to deliver() or put_off(); the caller ends it with
 * sched_finish(), sched_finish_put_off() or gives it back with sched_retry(). Its memory is the message's arena. */
#ifndef QMGR_SCHED_H
#define QMGR_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "qmgr/window.h"

struct sched;
struct sched_transport;
struct sched_queue;
struct sched_peer;

/* What is configured for a transport. */
struct sched_limits {
    unsigned request_limit; /* requests outstanding; 0: any number */
    struct window_limits window;
    unsigned memory_limit;    /* recipients in memory, for sched_room() */
    unsigned recipient_limit; /* in one request; 0: none. With 1, a queue is a recipient, not a next hop */
    usec_t rate_delay;        /* between deliveries to one destination, one at a time; 0: none */
    usec_t transport_rate_delay;
    unsigned slot_cost; /* 0: no preemption */
    unsigned slot_loan;
    unsigned slot_discount; /* percent */
    unsigned minimum_slots;
    usec_t dead_time;
};

/* Embedded in the caller's message; zero-filled at first. */
struct sched_message {
    struct list jobs;
    struct arena *arena; /* for jobs; NULL: the one given to sched_add(). Set it if that does not live as long */
    bool one_each;       /* each recipient gets a request of its own */
    bool tries_dead;     /* dead destinations that it goes to get another chance */
    unsigned open;       /* entries not yet ended: waiting, or given to deliver() or put_off() */
};

struct sched_entry {
    struct list link; /* waiting in its peer; free for the caller between deliver() and the end */
    struct sched_message *message;
    struct sched_peer *peer;
    unsigned attempts; /* by sched_retry() */
    unsigned count;
    uint32_t *recipients; /* the caller's numbers */
};

/* What happens outside. deliver() and put_off() may call any function below but sched_run(). */
struct sched_hooks {
    /* Called once for each transport, when it is first named. */
    void (*limits)(void *ctx, const char *transport, struct sched_limits *);
    void (*deliver)(void *ctx, struct sched_entry *);
    /* The destination is dead: the recipients are to be deferred for this reason. */
    void (*put_off)(void *ctx, struct sched_entry *, const char *status, const char *reason);
};

struct sched *sched_new(const struct sched_hooks *, void *ctx);
void sched_free(struct sched **); /* nothing may be waiting any more */

/* Where a recipient goes. Texts are copied where they are kept. */
struct sched_target {
    const char *transport, *nexthop, *address;
    uint32_t recipient;
};

/* Takes up a message, or more recipients of it, which get the place of its earlier ones in the order of messages. The
 * order of targets may be changed. The arena may go when nothing is open. */
void sched_add(struct sched *, struct sched_message *, struct arena *, struct sched_target *, unsigned count,
               usec_t now);

/* Gives out what can be given out now. Call after each of the other calls, or once at the end of a turn. */
void sched_run(struct sched *, usec_t now);

/* When sched_run() should be called even if nothing else happens; 0: never. */
usec_t sched_next_wakeup(const struct sched *);

/* How the destination behaved. */
enum sched_outcome {
    SCHED_OK,
    SCHED_BUSY, /* it would take less at a time */
    SCHED_DEAD, /* it could not be reached at all */
    SCHED_UNKNOWN,
};

/* An entry that deliver() got has ended. status ("4.4.1") and reason: of SCHED_DEAD. */
void sched_finish(struct sched *, struct sched_entry *, enum sched_outcome, const char *status, const char *reason,
                  usec_t now);
void sched_finish_put_off(struct sched *, struct sched_entry *);

/* An entry that deliver() got could not be handed over, or nothing is known of it: it goes back to the front of its
 * queue, and the transport pauses. */
void sched_retry(struct sched *, struct sched_entry *, usec_t pause, usec_t now);

/* The transport can't be reached: all that waits for it, and what is added until that time, is put off. */
void sched_fail_transport(struct sched *, const char *transport, const char *status, const char *reason, usec_t now,
                          usec_t dead_time);

/* Ends all entries of the message that still wait. Those given out stay. */
void sched_withdraw(struct sched *, struct sched_message *);

/* Forgets what made destinations dead or transports pause. */
void sched_revive(struct sched *);

/* Drops queues that have been empty for a while. Call now and then. */
void sched_sweep(struct sched *, usec_t now);

const char *sched_entry_transport(const struct sched_entry *);
const char *sched_entry_nexthop(const struct sched_entry *);

/* Does more wait for the entry's queue? Then the agent had better keep the connection. */
bool sched_entry_has_followers(const struct sched_entry *);

/* How many recipients more may be in memory for the transports of this message; INT_MAX: nothing is known of it yet. */
unsigned sched_room(const struct sched_message *);

/* For tests and dumps: the window of a queue, 0 if it is dead, -1 if there is none. */
int sched_window(struct sched *, const char *transport, const char *queue);

#endif
