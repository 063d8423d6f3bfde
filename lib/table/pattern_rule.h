/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/pattern_rule.h: one line of a table of regular expressions; for pattern_table.c. */
#ifndef LIB_TABLE_PATTERN_RULE_H
#define LIB_TABLE_PATTERN_RULE_H

#include "lib/table/pattern_table.h"
#include "lib/table/table_text.h"

/* A result in pieces: text, or the number of a group. */
struct pattern_piece {
    unsigned group; /* 0: text */
    struct slice text;
    struct pattern_piece *next;
};

struct pattern_rule {
    enum { RULE_RESULT, RULE_IF } kind;
    bool negated;
    bool has_texts; /* not worth trying where the filter did not mark it */
    unsigned end;   /* of an IF: the rule behind its ENDIF */
    unsigned line;
    struct pattern_regex regex;
    struct pattern_piece *result;
    bool has_groups; /* in the result */
};

/* "/pattern/flags rest". *rest is what stands behind. -1: the rule is left out; a warning was logged. */
struct pattern_text {
    bool negated;
    struct slice pattern, flags, rest;
};
int pattern_text_parse(const struct table_lines *, const struct pattern_engine *, struct slice line,
                       struct pattern_text *) MUST_USE;

/* $1, ${1}, $(1), $$. The pieces live in the arena. -1: left out, a warning was logged. */
int pattern_result_parse(const struct table_lines *, const struct pattern_engine *, struct arena *, struct slice text,
                         struct pattern_rule *) MUST_USE;

/* NULL: what is in the groups has more bytes than a result may have. */
const char *pattern_result_text(const struct pattern_rule *, const struct pattern_match *, struct arena *);

#endif
