/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/param_table.h: the form in which the build puts params.def into the program; only param.c looks at it. */
#ifndef LIB_CONF_PARAM_TABLE_H
#define LIB_CONF_PARAM_TABLE_H

#include <stdint.h>

#include "lib/conf/param.h"

struct param_row {
    uint32_t name, text, choices, reason; /* offsets into param_texts */
    uint8_t kind, status;
    char unit;
    int64_t low, high;
};

extern const char *const param_texts;
extern const struct param_row param_rows[];
extern const unsigned param_row_count;

#endif
