/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/courier_group.h: one process for many recipients of one message.
 *
 * A courier for each user costs a fork and syncs of its own, which is most of what a list of thousands of local members would cost. So
 * what is to be stored for different users out of one source in the same turn of the loop is gathered, and a *group process* does it:
 * the helper forks it into a user namespace of its own in which those users are mapped and nobody else. Root does not exist there,
 * nor any other user: whatever happens to the process, it can be nobody but a recipient of the message that it holds. It
 * takes the effective ids of one recipient after the other, writes to all mailboxes, syncs the file system once, and
 * answers for all.
 *
 * It does only what is simple: a mailbox that is locked, a .forward file, an error of any kind: nothing of that delivery is left, and
 * a courier of the user's own does it, which waits for locks and tells what is wrong. */
#ifndef LIB_STORE_COURIER_GROUP_H
#define LIB_STORE_COURIER_GROUP_H

#include "lib/store/courier_internal.h"

enum {
    COURIER_GROUP_LEAST = 4,          /* fewer are left to couriers */
    COURIER_GROUP_CONTENT = 32 << 20, /* the process holds the content in memory */
};

/* What the daemon sends: this, members with their jobs (struct msg_user_job), then the content in chunks. When the process
 * has all, and before it looks at a mailbox, it sends one byte. Answers come in the same order: courier_head and struct
 * msg_user_done; length 0: it is left to a courier. */
struct group_head {
    uint32_t count;
    uint32_t uid, gid; /* what the process is between recipients */
};
struct group_member {
    struct courier_ids ids;
    uint32_t length; /* of the job that follows */
};

/* Is it a job for a group? */
bool courier_group_takes(struct courier_ids, const struct msg_user_job *, const struct source *content);

/* 1: stored; *done lives in the arena. 0: to be done by a courier. -1: it is not known whether it was stored. */
int may_wait courier_group_call(struct arena *, struct courier_ids, const struct msg_user_job *, struct source *content,
                                usec_t deadline, const struct msg_user_done **done, struct err *) MUST_USE;

/* The process, which is root nowhere any more: never returns. */
void courier_group_work(int fd) NORETURN;

#endif
