/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/queue_id.h: queue ids, short ("4F1A2100001") and long, as ../shared/dropin/queue-file.md section 2 says. In
 * place of the inode number stands a number that no other message of this queue had (journal_ids in journal.h). */
#ifndef LIB_MAIL_QUEUE_ID_H
#define LIB_MAIL_QUEUE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/slice.h"

enum { QUEUE_ID_SIZE = 64 };

/* text holds QUEUE_ID_SIZE bytes. */
void queue_id_format(usec_t wall, uint64_t number, bool long_form, char *text);

/* 1 to 255 letters, digits, '_': safe as a file name. */
bool queue_id_is_valid(struct slice);

/* Path below the queue directory: "deferred/4/4F1A2100001" with the hashing that hash_queue_names and hash_queue_depth
 * ask for; hashed: does `queue` stand in hash_queue_names? */
char *queue_id_path(struct arena *, const char *queue, const char *id, bool hashed, unsigned depth);

#endif
