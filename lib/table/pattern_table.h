/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/pattern_table.h: tables of regular expressions, as regexp_table(5) and pcre_table(5) describe them; what differs
 * between the two is an engine. */
#ifndef LIB_TABLE_PATTERN_TABLE_H
#define LIB_TABLE_PATTERN_TABLE_H

#include "lib/table/pattern_literal.h"
#include "lib/table/table_text.h"
#include "lib/table/table_type.h"

enum { PATTERN_GROUPS_MAX = 100 };

struct pattern_match {
    struct slice group[PATTERN_GROUPS_MAX]; /* 0 is unused; ptr NULL: the group took no part */
};

struct pattern_regex {
    void *code;
    unsigned groups;
    enum pattern_dialect dialect;
    bool plain_syntax; /* texts may be looked for: no flag changes what the pattern's characters mean */
    bool lines;        /* '^' and '$' also match at line ends within the subject */
};

struct pattern_engine {
    const char *type; /* "pcre" */

    /* flags: the letters behind the pattern. NULL in regex->code: *why (in the arena) says why not; err is for what is
     * wrong with the machine and not with the pattern. */
    int (*compile)(void *ctx, struct arena *, struct slice pattern, struct slice flags, bool utf8,
                   struct pattern_regex *regex, const char **why, struct err *err);

    /* 1: matches, with *match filled (unless NULL); 0: not; -1: an error. subject ends in a NUL. */
    int (*match)(void *ctx, const struct pattern_regex *, struct slice subject, struct pattern_match *match,
                 struct err *err);
    void (*free_regex)(struct pattern_regex *);

    /* Makes matching faster at some cost now; NULL: nothing can be done. */
    void (*optimize)(void *ctx, const struct pattern_regex *);

    void *(*context_new)(void);
    void (*context_free)(void *ctx);
    bool skips_to_exclamation; /* an '!' ends the flags */
};

void *pattern_table_open(const struct pattern_engine *, const struct conf *, const char *name, unsigned flags,
                         struct table_about *, struct err *);
void pattern_table_close(void *state);
int pattern_table_find(void *state, struct arena *, struct slice key, const char **value, struct err *);

#endif
