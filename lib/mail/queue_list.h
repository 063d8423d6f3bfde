/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/queue_list.h: what mailq shows of a message, and the form in which showq(8) sends it.
 *
 * On public/showq the server sends, unasked, for each message: name NUL value NUL of queue_name, queue_id, time, size,
 * forced_expire, sender, and for each recipient original_recipient (if it differs), recipient and reason; an empty name (one NUL) ends the message, and one
 * more empty name the list. Programs that are not ours read it, too. */
#ifndef LIB_MAIL_QUEUE_LIST_H
#define LIB_MAIL_QUEUE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/mail/queue_dir.h"

struct queue_list_recipient {
    const char *address, *reason; /* quoted form; reason "": none is known */
};

struct queue_list_message {
    const char *queue, *id, *sender; /* quoted form; MAILER-DAEMON for the null sender */
    int64_t time, size;
    bool forced_expire;
    struct queue_list_recipient *recipients;
    size_t recipient_count;
};

/* Reads what is to be shown of a file. *found false: it has gone, or is not complete. Blocks. */
int queue_list_read(const struct queue_dir *, struct arena *, const char *queue, const char *id,
                    struct queue_list_message *, bool *found, struct err *) MUST_USE;

void queue_list_encode(const struct queue_list_message *, struct buf *out);
void queue_list_encode_end(struct buf *out);

/* Takes a message off the front of bytes: 1; 0: there is not all of it yet; 2: the end of the list; -1: malformed. Texts
 * are copied to the arena. *used gets how many bytes it took. */
int queue_list_decode(struct arena *, struct slice bytes, size_t *used, struct queue_list_message *,
                      struct err *) MUST_USE;

/* Form for people, and one JSON object in a line. */
struct queue_list_totals {
    unsigned messages;
    int64_t bytes;
};
void queue_list_print(const struct queue_list_message *, bool long_ids, struct queue_list_totals *, struct buf *out);
void queue_list_print_end(const struct queue_list_totals *, struct buf *out);
void queue_list_print_json(const struct queue_list_message *, struct buf *out);

#endif
