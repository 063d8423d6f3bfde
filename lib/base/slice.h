/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/slice.h: bytes with a length, owned by somebody else. All that comes from outside is held in slices, not in
 * NUL-ended text, until it has been checked to hold no NUL. A slice is a value; ptr may be NULL only if len is 0. */
#ifndef LIB_BASE_SLICE_H
#define LIB_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/compiler.h"

struct slice {
    const char *ptr;
    size_t len;
};

/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (s).ptr

struct slice slice_from(const char *text); /* NUL-ended text; NULL gives an empty slice */
struct slice slice_make(const void *ptr, size_t len);
bool slice_equal(struct slice, struct slice);
bool slice_equal_text(struct slice, const char *text);
bool slice_equal_fold(struct slice, struct slice); /* ASCII letters alike in both cases */
bool slice_equal_text_fold(struct slice, const char *text);
bool slice_starts_with_fold(struct slice, const char *text);
bool slice_has_byte(struct slice, char byte);

/* Without the leading and trailing ASCII blanks (space, tab, CR, LF, VT, FF). */
struct slice slice_trim(struct slice);

/* Cuts up to the first separator off *rest into *first, and the separator too. False when *rest was empty at entry
 * (a trailing separator gives no empty last piece). */
bool slice_cut(struct slice *rest, char separator, struct slice *first);

/* Skips bytes of `separators`, then cuts the word up to the next of them. False when no word is left. */
bool slice_word(struct slice *rest, const char *separators, struct slice *word);

/* The same for lists in main.cf: { } hold together what stands between them. */
bool slice_word_braced(struct slice *rest, const char *separators, struct slice *word);

/* Decimal digits only, no sign, no blanks, at most max. -1 if it is anything else. */
int slice_to_u64(struct slice, unsigned long long max, unsigned long long *out) MUST_USE;

#endif
