/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/measure.h: what is to be known of a content's bytes, found in one pass over its wire form, in pieces cut
 * anywhere. */
#ifndef CLEANUP_MEASURE_H
#define CLEANUP_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/slice.h"

/* Zero-filled at the start. */
struct measure {
    uint64_t wire_length;   /* bytes in wire form */
    uint64_t record_length; /* what they take as records of a queue file: what size= shows */
    uint64_t longest_line;  /* bytes, line end not counted */
    unsigned flags;         /* CONTENT_... */
    uint64_t line;          /* bytes of the line that has begun, its LF not counted */
    bool stuffed;           /* it began with a dot that is not part of it */
    bool in_body;
    char last; /* byte seen last */
};

void measure_add(struct measure *, struct slice wire);

/* Does the content so far end with a complete line (or is there none)? */
bool measure_is_at_line_start(const struct measure *);

#endif
