/* SPDX-License-Identifier: Apache-2.0 */
/* tools/json.h: JSON as the commands print it: one object in a line, members in the order in which they are put. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include "lib/base/buf.h"

/* Appends {, or a comma and the member's name and ": "; then the value is put. */
void json_begin(struct buf *);
void json_name(struct buf *, const char *name);
void json_end(struct buf *); /* } and a newline */

/* A text in quotes. Bytes that are no UTF-8 become U+FFFD. */
void json_text(struct buf *, const char *text);

/* A member whose value is a text. */
void json_member(struct buf *, const char *name, const char *text);

#endif
