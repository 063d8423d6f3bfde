/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/pattern_filter.h: finds, in one pass over a subject, which of many texts are in it, and so which rules of a
 * table may match. Of each text one run of three bytes, the one that is rarest among all, stands in a hash table; where the
 * subject has it, the whole text is compared. */
#ifndef LIB_TABLE_PATTERN_FILTER_H
#define LIB_TABLE_PATTERN_FILTER_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"

struct pattern_filter;

struct pattern_filter *pattern_filter_new(struct arena *);

/* The text is in lower case, at least LITERAL_LEAST bytes, and kept. */
void pattern_filter_add(struct pattern_filter *, struct slice text, unsigned rule);

/* When all are added. */
void pattern_filter_complete(struct pattern_filter *);

/* Sets the bit of each rule that has one of its texts in the subject. */
void pattern_filter_mark(const struct pattern_filter *, struct slice subject, uint64_t *bits);

#endif
