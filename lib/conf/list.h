/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/list.h: lists as parameters hold them: items divided by blanks or commas, where { } keeps an item together
 * that holds either: "a, b { c d }" has the items a, b and "c d". */
#ifndef LIB_CONF_LIST_H
#define LIB_CONF_LIST_H

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Takes the next item off *rest: 1; 0 at the end; -1 for a brace without its partner, or text right behind "}". Of an item in
 * braces, *item is what stands inside, without the blanks at its ends; *braced (may be NULL) tells. */
int list_next(struct slice *rest, struct slice *item, bool *braced, struct err *) MUST_USE;

/* The index of the brace that closes the one which text begins with; text.len if there is none. */
size_t list_find_close(struct slice text);

#endif
