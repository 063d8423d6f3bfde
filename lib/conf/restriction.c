/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/restriction.h"

#include "lib/base/check.h"

static const struct restriction_name names[] = {
    {"warn_if_reject", ARGUMENT_NONE, NULL, false},
#define RESTRICTION(name, check, argument, help)              {name, argument, NULL, false},
#define RESTRICTION_OLD(name, check, argument, help, instead) {name, argument, instead, false},
#define RESTRICTION_NOT_YET(name, check, argument, help)      {name, argument, NULL, true},
#include "lib/conf/restrictions.def"
#undef RESTRICTION
};

const struct restriction_name *
restriction_find(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_text_fold(name, names[i].name))
            return &names[i];
    return NULL;
}
