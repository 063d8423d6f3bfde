/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/main_cf.h: the entries of a main.cf, as they stand there. */
#ifndef LIB_CONF_MAIN_CF_H
#define LIB_CONF_MAIN_CF_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Cuts "name = value" (blanks around both allowed): both in the arena. "{ name = value }" is the same; inside the braces
 * the value may begin and end with anything. */
int main_cf_split(struct arena *, struct slice text, const char **name, const char **value, struct err *) MUST_USE;

/* What parsing tells of each entry, in the order of the file, and of what it can only warn about ("..., line 3: ..."). */
struct main_cf_sink {
    int (*entry)(void *ctx, unsigned line, const char *name, const char *value, struct err *);
    void (*warning)(void *ctx, const char *text); /* may be NULL */
    void *ctx;
};

/* content: of the file at path (used in messages). Texts handed to the sink are in the arena. */
int main_cf_parse(struct arena *, const char *path, struct slice content, const struct main_cf_sink *,
                  struct err *) MUST_USE;

/* How main.cf is edited: a change of one name. */
enum main_cf_action { MAIN_CF_SET, MAIN_CF_COMMENT_OUT, MAIN_CF_REMOVE };
struct main_cf_change {
    const char *name, *value; /* value: for MAIN_CF_SET */
    enum main_cf_action action;
    unsigned found; /* set by main_cf_edit(): how many entries it was */
};

/* The changed text: comments, order and all other entries stay as they are; a name that is there several times is set in
 * each place, as Postfix does it; a new one goes to the end. */
void main_cf_edit(struct slice content, struct main_cf_change *, size_t count, struct buf *out);

#endif
