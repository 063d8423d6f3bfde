/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/text.h: small work on text that several layers need. */
#ifndef LIB_BASE_TEXT_H
#define LIB_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/compiler.h"
#include "lib/base/slice.h"

/* ASCII classes that no locale changes. */
bool text_is_space(char);
bool text_is_digit(char);
bool text_is_alpha(char);
bool text_is_alnum(char);
char text_lower(char);

/* A copy to free(). Without memory the program ends. */
char *text_copy(const char *);

/* In place. */
void text_lower_all(char *text, size_t len);

/* In place: control characters (below 32, and 127) become replacement. Bytes from 128 stay if they are valid UTF-8
 * or keep_8bit is set, else become replacement. */
void text_printable(char *text, size_t len, char replacement, bool keep_8bit);

bool text_is_utf8(struct slice);
bool text_has_8bit(struct slice);

/* RFC 3461 section 4: xtext. Decoding fails on malformed text and on encoded control characters and NUL. */
void text_xtext_encode(struct slice, struct buf *out);
int text_xtext_decode(struct slice, struct buf *out) MUST_USE;

/* The value of a hexadecimal digit in either case; -1: it is none. */
int text_hex_digit(char);

#endif
