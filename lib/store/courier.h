/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/courier.h: delivery as a user: for local and virtual.
 *
 * Three processes. The *daemon* (local, virtual) runs as mail_owner: it takes requests, looks up aliases, and hands a message on.
 * The *helper*, forked from it at its start, before it has read anything, keeps root and does two things: it forks
 * couriers, and it says whose a file is; it reads fixed structs from the daemon only. A *courier* becomes the user (groups,
 * uid, gid; nothing can be won back) before it reads anything; it does one job after the other for this user, gets the
 * content of the message at hand and never more, and ends when the daemon closes its socket, some seconds after its last
 * job. Jobs and answers are messages (USER_... in lib/mail/messages.h); the content follows a job in chunks (u32 length,
 * bytes; length 0 ends it, COURIER_BROKEN: it broke off).
 *
 * Without root there is nothing to become: all couriers work as the user who runs the mail system. */
#ifndef LIB_STORE_COURIER_H
#define LIB_STORE_COURIER_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/mail/messages.h"
#include "lib/mail/source.h"

struct courier_ids {
    uid_t uid;
    gid_t gid;
};

/* In prepare(), as root if that is there: forks the helper. limit: couriers at once; idle: how long one stays without a job. */
int courier_prepare(unsigned limit, usec_t idle, struct err *) MUST_USE;

/* Are couriers what they are asked to be? False when the mail system runs without root. */
bool courier_can_change_user(void);

/* Gives a job to a courier of these ids: one that is there and idle, or a new one; waits when there are too many. content may be
 * NULL. *done lives in the arena. -1: the courier could not be had or ended in the midst of it: defer. */
int may_wait courier_call(struct arena *, struct courier_ids, const struct msg_user_job *, struct source *content,
                          usec_t deadline, const struct msg_user_done **done, struct err *) MUST_USE;

/* Whose is the file? As root sees it. *found false: there is no such file. */
struct courier_stat {
    uid_t uid;
    gid_t gid;
    mode_t mode;
};
int courier_stat(const char *path, bool *found, struct courier_stat *, struct err *) MUST_USE;

#endif
