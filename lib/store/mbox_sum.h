/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/mbox_sum.h: a sum of messages as they stand in an mbox, without the header fields in which programs keep their own state
 * (lib/store/mbox_parse.h): those may be changed at their place, and the sum stays.
 *
 * It tells what was written from zeros and from halves, not from what an enemy made. Fill with zeros, add in pieces of any size. */
#ifndef LIB_STORE_MBOX_SUM_H
#define LIB_STORE_MBOX_SUM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/slice.h"

enum { MBOX_SUM_HELD = 80 }; /* so far a field's name is looked for */

struct mbox_sum {
    uint64_t sum;
    bool in_header, in_line; /* in_line: it is known what the line is */
    bool is_own;             /* the field; its other lines too */
    size_t held;
    char start[MBOX_SUM_HELD]; /* of a line of which it is not known yet */
};

void mbox_sum_add(struct mbox_sum *, struct slice next);
uint64_t mbox_sum_end(struct mbox_sum *);

#endif
