/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/pattern_sieve.h: says of many regular expressions at once which of them can't match a subject.
 *
 * Of each pattern a simpler one is made that matches whatever it matches, and more: a row of up to SIEVE_ELEMENTS sets of
 * bytes, of which each may be missing or stand many times. Such a row fits into a number, a bit for each place in it, and a
 * byte of the subject moves the bits of many patterns with a few operations (Navarro and Raffinot's extended Shift-And). The
 * state of a pattern is the set of elements that may come next; when the place behind the last element is in it, the pattern
 * may match. What the parser does not understand for certain leaves the pattern out: then it always has to be tried. */
#ifndef LIB_TABLE_PATTERN_SIEVE_H
#define LIB_TABLE_PATTERN_SIEVE_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "lib/table/pattern_literal.h"

enum { SIEVE_ELEMENTS = 30 };

struct sieve_element {
    uint64_t set[4]; /* of bytes; both cases of a letter, all from 128 on or none */
    bool optional, repeats;
};

struct sieve_row {
    struct sieve_element element[SIEVE_ELEMENTS];
    unsigned count;
    bool from_start, to_end; /* must begin and end where the subject does */
};

/* lines: '^' and '$' also match at line ends within the subject. False: not understood. */
bool sieve_row_parse(struct slice pattern, enum pattern_dialect, bool lines, struct sieve_row *);

struct pattern_sieve;

struct pattern_sieve *pattern_sieve_new(struct arena *);
void pattern_sieve_add(struct pattern_sieve *, const struct sieve_row *, unsigned rule);

/* When all are added. */
void pattern_sieve_complete(struct pattern_sieve *);

/* Clears the bits of rules that can't match. */
void pattern_sieve_strike(const struct pattern_sieve *, struct arena *, struct slice subject, uint64_t *bits);

#endif
