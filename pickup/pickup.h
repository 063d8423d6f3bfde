/* SPDX-License-Identifier: Apache-2.0 */
/* pickup/pickup.h: pickup(8): takes what postdrop left in maildrop/ to cleanup.
 *
 * main.c looks for files; drop.c reads one, which anybody may have made, as far as it is not checked; submit.c gives it
 * to cleanup and removes it when it is durable there. A file is read twice: the recipients may stand behind the content.
 * Many files are under way at the same time, so that they share cleanup's sync. */
#ifndef PICKUP_PICKUP_H
#define PICKUP_PICKUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/conf/settings_pickup.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_record.h"
#include "lib/mail/submit.h"
#include "lib/mail/wire.h"

struct pickup {
    struct pickup_settings settings;
    uid_t owner; /* of the queue: who requeued what it owns */
    int maildrop; /* the directory */
    struct submitter *submitter;
    unsigned submit_flags; /* receive_override_options */
};
extern struct pickup pickup;

/* drop.c: a file in maildrop/. */
struct drop {
    struct arena *arena;
    const char *name;
    int fd;
    uid_t uid;
    bool is_requeued; /* by postsuper: it is the mail system's own, and may hold more */
    struct envelope envelope;
    uint64_t content; /* where it begins */
    /* the content's reader */
    struct queue_cursor cursor;
    struct wire_state wire;
    bool ended;
};

/* Checks the open file and reads its envelope. ERR_SYNTAX: it is no message. */
int drop_read(struct drop *, const struct stat *, struct err *) MUST_USE;

/* Begins with the content; then pieces of it in wire form, appended to out: up to about `size` bytes. Nothing appended: the
 * end. */
int drop_content_begin(struct drop *, struct err *) MUST_USE;
int drop_content(struct drop *, size_t size, struct buf *out, struct err *) MUST_USE;

/* submit.c: gives it to cleanup. True: the file is needed no more. False: it stays for another time. What cannot be
 * delivered is returned to its sender. */
bool may_wait submit_drop(struct drop *);

#endif
