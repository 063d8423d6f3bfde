/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/param.h: what the table of parameters (params.def) says about each. */
#ifndef LIB_CONF_PARAM_H
#define LIB_CONF_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/slice.h"

enum param_kind { PARAM_BOOL, PARAM_INT, PARAM_TIME, PARAM_STRING, PARAM_CHOICE, PARAM_RAW };

enum param_status {
    PARAM_WORKS,
    PARAM_NO_EFFECT, /* accepted, and never does anything; reason says why */
    PARAM_NOT_YET,   /* accepted, and will do something in a later version */
};

/* A row; the texts are constants. */
struct param {
    const char *name;
    const char *text;    /* the default, as in main.cf */
    const char *choices; /* PARAM_CHOICE: what it may be, separated by commas; else "" */
    const char *reason;  /* PARAM_NO_EFFECT: why; PARAM_NOT_YET: what is done until then, or "": nothing; else "" */
    enum param_kind kind;
    enum param_status status;
    char unit;         /* PARAM_TIME: s m h d w */
    int64_t low, high; /* PARAM_INT, and PARAM_TIME in its unit */
};

/* Rows are sorted by name. */
unsigned param_count(void);
struct param param_at(unsigned index);

/* The index of the row of that name, or -1. */
int param_find(struct slice name);

/* A transport's own value of a scheduler's parameter ("relay_destination_concurrency_limit"): the row that it falls
 * back to ("default_destination_concurrency_limit") and how long the transport's name is; or NULL. */
const char *param_family(struct slice name, size_t *transport_len);

/* The endings that make such names, "_destination_concurrency_limit" first, in the order of their names; NULL at the end. */
const char *param_family_suffix(unsigned index);

#endif
