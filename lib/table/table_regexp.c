/* SPDX-License-Identifier: Apache-2.0 */
/* regexp:file: POSIX regular expressions, by the C library. */
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/table/pattern_table.h"

/* The flags toggle: i and x are on to begin with. */
static int
parse_flags(struct arena *arena, struct slice text, int *flags, const char **why)
{
    *flags = REG_EXTENDED | REG_ICASE;
    for (size_t i = 0; i < text.len; i++) {
        switch (text.ptr[i]) {
        case 'i': *flags ^= REG_ICASE; break;
        case 'm': *flags ^= REG_NEWLINE; break;
        case 'x': *flags ^= REG_EXTENDED; break;
        default:
            *why = arena_printf(arena, "unknown regexp option \"%c\": skipping this rule", text.ptr[i]);
            return -1;
        }
    }
    return 0;
}

static int
regexp_compile(void *ctx, struct arena *arena, struct slice pattern, struct slice text, bool utf8,
               struct pattern_regex *regex, const char **why, struct err *err)
{
    char message[200];
    regex_t *code;
    int flags;

    (void)ctx, (void)utf8;
    if (parse_flags(arena, text, &flags, why) < 0)
        return 0;
    code = malloc(sizeof *code);
    if (!code)
        fatal("out of memory");
    int failed = regcomp(code, arena_strndup(arena, pattern.ptr, pattern.len), flags);
    if (failed == 0) {
        *regex = (struct pattern_regex){.code = code,
                                        .groups = (unsigned)code->re_nsub,
                                        .dialect = PATTERN_POSIX,
                                        .lines = (flags & REG_NEWLINE) != 0,
                                        .plain_syntax = (flags & REG_EXTENDED) != 0};
        return 0;
    }
    regerror(failed, code, message, sizeof message);
    free(code);
    *why = arena_printf(arena, "%s: skipping this rule", message);
    return failed == REG_ESPACE ? err_set(err, ERR_TEMP, "%s", message) : 0;
}

static int
regexp_match(void *ctx, const struct pattern_regex *regex, struct slice subject, struct pattern_match *match,
             struct err *err)
{
    regmatch_t groups[PATTERN_GROUPS_MAX];
    char message[200];
    size_t count = match ? regex->groups + 1 : 0;

    (void)ctx;
    if (count > PATTERN_GROUPS_MAX)
        count = PATTERN_GROUPS_MAX;
    int result = regexec(regex->code, subject.ptr, count, groups, 0);
    if (result == REG_NOMATCH)
        return 0;
    if (result != 0) {
        regerror(result, regex->code, message, sizeof message);
        return err_set(err, ERR_TEMP, "%s", message);
    }
    for (size_t i = 1; i < count; i++)
        match->group[i] = groups[i].rm_so < 0
                              ? slice_make(NULL, 0)
                              : slice_make(subject.ptr + groups[i].rm_so, (size_t)(groups[i].rm_eo - groups[i].rm_so));
    return 1;
}

static void
regexp_free(struct pattern_regex *regex)
{
    regfree(regex->code);
    free(regex->code);
}

static const struct pattern_engine engine = {.type = "regexp",
                                             .compile = regexp_compile,
                                             .match = regexp_match,
                                             .free_regex = regexp_free,
                                             .skips_to_exclamation = true};

static void *
regexp_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    return pattern_table_open(&engine, conf, name, flags, about, err);
}

const struct table_ops table_regexp = {.type = "regexp",
                                       .keys = TABLE_PATTERNS,
                                       .open = regexp_open,
                                       .close = pattern_table_close,
                                       .find = pattern_table_find};
