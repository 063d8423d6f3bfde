/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/effects.h: what access tables and policy services asked to be done with the message: hold it, throw it away, send it
 * elsewhere. Kept for the transaction; what is said before MAIL counts for every message of the session. */
#ifndef SMTPD_EFFECTS_H
#define SMTPD_EFFECTS_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/mail/messages.h"

enum { EFFECTS_LINES = 100 /* so many PREPEND are kept */ };

struct effects_line {
    const char *text;
    struct effects_line *next;
};

struct effects {
    bool hold, discard;
    const char *filter, *redirect; /* NULL: none; the last counts */
    const char *bcc;               /* likewise */
    struct effects_line *prepend;  /* header lines, in order */
    unsigned prepend_count;
};

/* header: "Name: value"; line ends in it become continuation lines. */
void effects_prepend(struct effects *, struct arena *, const char *header);

/* Copies with all texts. */
void effects_copy(struct effects *, struct arena *, const struct effects *from);

/* Appends the prepended header lines in wire form. */
void effects_append_headers(const struct effects *, struct buf *out);

/* Into the envelope; a BCC becomes one more recipient, in memory of the arena. */
void effects_apply(const struct effects *, struct arena *, struct envelope *);

#endif
