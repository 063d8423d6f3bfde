/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/restriction.h: what smtpd's access restrictions are called, for whoever reads their lists (restrictions.def). */
#ifndef LIB_CONF_RESTRICTION_H
#define LIB_CONF_RESTRICTION_H

#include <stdbool.h>

#include "lib/base/slice.h"

/* What follows a restriction in the list. */
enum access_argument { ARGUMENT_NONE, ARGUMENT_WORD, ARGUMENT_TABLE, ARGUMENT_POLICY };

struct restriction_name {
    const char *name;
    enum access_argument argument;
    const char *instead; /* Postfix gave it up: what to write in its place. Else NULL */
    bool not_yet;        /* it defers all mail that reaches it */
};

/* NULL: smtpd knows none of that name. In any case of letters. */
const struct restriction_name *restriction_find(struct slice name);

#endif
