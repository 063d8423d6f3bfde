/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/addr_list.h: the addresses in a header's value or on a command line (RFC 5322 section 3.4, obsolete and sloppy forms
 * too), without limit to their number. Names and comments are left out, groups give their members. */
#ifndef LIB_MAIL_ADDR_LIST_H
#define LIB_MAIL_ADDR_LIST_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"

/* Takes the next address off *rest: raw form, in the arena; "" for <>. False at the end. Whatever cannot be understood as
 * an address is taken as a local part, so that no recipient vanishes unseen. */
bool addr_list_next(struct arena *, struct slice *rest, const char **address);

#endif
