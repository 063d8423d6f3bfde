/* SPDX-License-Identifier: Apache-2.0 */
/* imap/thread.h: messages as conversations (RFC 5256 section 3): by subject and by references; and by
 * references alone, the thread with the newest mail last (REFS, as Dovecot has it). */
#ifndef IMAP_THREAD_H
#define IMAP_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"

/* What threading knows of a message. */
struct thread_message {
    uint32_t uid;
    int64_t sent;
    struct slice subject; /* base subject */
    bool is_reply;
    struct slice id;          /* its Message-ID, "" if none */
    struct slice *references; /* oldest first; the parent last */
    unsigned reference_count;
};

struct thread_node {
    struct thread_message *message; /* NULL: a parent that is not here */
    struct thread_node *parent, *child, *next;
    struct thread_node **at; /* what points to it among its parent's children */
    int64_t latest;          /* in thread_by_refs(): when the last of it and of all below it was sent */
};

/* The roots, chained by next, in the arena. */
struct thread_node *thread_by_subject(struct arena *, struct thread_message *, size_t count);
struct thread_node *thread_by_references(struct arena *, struct thread_message *, size_t count);
struct thread_node *thread_by_refs(struct arena *, struct thread_message *, size_t count);

#endif
