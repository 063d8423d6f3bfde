/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/pattern_literal.h: which texts must stand in whatever matches a regular expression.
 *
 * Most patterns of a mail server's tables have plain text in them. Looking for all those texts at once in one pass over the
 * subject leaves few patterns to try. What the parser here does not understand for certain gives no text, and such a pattern
 * is always tried: so the first match is the same as without. */
#ifndef LIB_TABLE_PATTERN_LITERAL_H
#define LIB_TABLE_PATTERN_LITERAL_H

#include "lib/base/arena.h"
#include "lib/base/slice.h"

enum pattern_dialect { PATTERN_POSIX, PATTERN_PERL };

enum { LITERALS_MAX = 12, LITERAL_LEAST = 3 };

/* Whatever matches has at least one of these in it (in any case of ASCII letters; they are in lower case here). */
struct pattern_literals {
    unsigned count; /* 0: nothing is known */
    struct slice text[LITERALS_MAX];
};

/* The texts live in the arena. */
void pattern_literals(struct arena *, struct slice pattern, enum pattern_dialect, struct pattern_literals *);

#endif
