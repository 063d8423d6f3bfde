/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/journal_internal.h: what journal.c and journal_large.c share. */
#ifndef LIB_MAIL_JOURNAL_INTERNAL_H
#define LIB_MAIL_JOURNAL_INTERNAL_H

#include "lib/mail/journal.h"
#include "lib/mail/journal_segment.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

/* The life of a segment: made or renewed (in the pool) -> ready -> current -> sealed -> all released -> idle, to be
 * renewed, or removed. A segment is on one list; the pool works on one that is on none (working). */
struct journal {
    struct journal_settings settings;
    int dir_fd;
    uint32_t last_number;
    struct journal_counts counts;

    struct journal_segment *current;
    struct journal_segment *working; /* being made or renewed */
    struct list ready, sealed, idle;
    unsigned in_use; /* of ordinary size, on whatever list */

    struct list queue; /* struct append: to be committed */
    size_t waiting;    /* bytes in queue and batch */
    struct list batch; /* being committed */
    bool committing;
    struct journal_segment *committing_to;
    struct err commit_err; /* set by the pool's thread when it fails */
    int commit_result;
    struct iovec *iovs;
    unsigned iov_room;

    struct err make_err;
    int make_result;

    bool large_is_syncing; /* a journal_large has an early sync under way */

    struct loop_hook hook;
    struct task_cond idle_cond; /* nothing of ours runs in the pool any more */
};

/* A segment all of whose images are released, or that never had one, on no list: what becomes of it? */
void journal_dispose(struct journal *, struct journal_segment *);

#endif
