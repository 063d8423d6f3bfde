/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/settings.h: fills the struct of a program's settings; the code that the build generates calls it. */
#ifndef LIB_CONF_SETTINGS_H
#define LIB_CONF_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/conf/conf.h"

/* Where the struct has the value of a row of the table. */
struct settings_field {
    uint16_t param, offset;
};

int settings_load(const struct conf *, struct arena *, const struct settings_field *, size_t count, void *settings,
                  struct err *) MUST_USE;

/* The same checks for one row, and no result: for `postfix check`. */
int settings_check(const struct conf *, struct arena *, unsigned param, struct err *) MUST_USE;

#endif
