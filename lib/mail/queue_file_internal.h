/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/queue_file_internal.h: what reader and writer of queue files share. */
#ifndef LIB_MAIL_QUEUE_FILE_INTERNAL_H
#define LIB_MAIL_QUEUE_FILE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/mail/queue_file.h"
#include "lib/run/msg.h"

/* Where the writer puts an attribute. */
enum queue_attribute_place { BEFORE_SENDER, AFTER_SENDER, IN_EXTRACTED };

/* An A record of the message as a whole: it has the name of a field of struct envelope. */
struct queue_attribute {
    const char *name;
    enum queue_attribute_place place;
    bool last_wins; /* of several, the last counts; else the first */
};
extern const struct queue_attribute queue_attributes[];
extern const unsigned queue_attribute_count;

/* The field of type_envelope with that name; NULL if there is none. */
const struct msg_field *queue_field(const char *name);

/* The record type of a recipient's status, and back (-1: not a recipient's type). */
unsigned char queue_recipient_type(int64_t status);
int queue_recipient_status(unsigned char type);

enum {
    QUEUE_FLAG_MIXED = 1,
    QUEUE_FLAGS_KNOWN = 31, /* bits 1 to 4: what recipients want to be told */
    QUEUE_LINE_LIMIT = 2048,
};

#endif
