/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/expand.h: the language of $names, as postconf(5) documents it.
 *
 *   $name  ${name}  $(name)                the value of name, itself expanded; empty if there is none
 *   ${name?text}  ${name?{text}}           text if the value is not empty
 *   ${name:text}  ${name:{text}}           text if the value is empty
 *   ${name?{text1}:{text2}}
 *   ${{text1} == {text2} ? {text3} : {text4}}   and != < <= > >=: as numbers if both are, else as texts;
 *                                          <level, ==level...: as compatibility levels ("3.6")
 *   $$                                     a dollar sign
 *
 * Values come from a callback, so that main.cf, reply templates and pipe(8) arguments share this. Text that came from
 * outside is never expanded. */
#ifndef LIB_CONF_EXPAND_H
#define LIB_CONF_EXPAND_H

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum {
    EXPAND_DEPTH_LIMIT = 100,    /* values within values */
    EXPAND_STEP_LIMIT = 100000,  /* values and branches of one text */
    EXPAND_SIZE_LIMIT = 1 << 20, /* bytes of a result */
};

/* Sets *value to the text of the name, to be expanded in turn; len 0 for a name that is not there. -1 fails the whole. */
struct expand_source {
    int (*value)(void *ctx, struct slice name, struct slice *value, struct err *);
    void *ctx;
    bool final;  /* values are put in as they are, not expanded in turn */
    bool strict; /* a name that is not there (ptr NULL) is an error, but in ${name?...} and ${name:...} */
};

/* Appends to out. -1: malformed text, or values that name each other in a circle. */
int expand_text(const struct expand_source *, struct slice text, struct buf *out, struct err *) MUST_USE;

/* Calls seen(ctx, name) for each name in the text, in all branches; malformed text is an error. */
int expand_names(struct slice text, void (*seen)(void *ctx, struct slice name), void *ctx, struct err *) MUST_USE;

/* -1, 0, 1: is compatibility level a before, at or after b. -1 and *err set if one of them is no level; order in *result. */
int expand_compare_levels(struct slice a, struct slice b, int *result, struct err *) MUST_USE;

#endif
