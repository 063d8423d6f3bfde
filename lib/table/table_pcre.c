/* SPDX-License-Identifier: Apache-2.0 */
/* pcre:file: Perl-compatible regular expressions, by PCRE2, compiled to machine code where that is possible. Limits on time
 * and memory make a pattern that goes astray an error (the caller defers), never a "no". */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/table/pattern_table.h"

enum {
    MATCH_LIMIT = 1000000, /* steps */
    DEPTH_LIMIT = 250000,
    HEAP_LIMIT = 64 << 10, /* KiB */
    JIT_STACK_FIRST = 32 << 10,
    JIT_STACK_MOST = 4 << 20,
};

struct context {
    pcre2_match_context *limits;
    pcre2_jit_stack *stack; /* not the task's own, which is small; NULL: none to be had */
    pcre2_match_data *data;
};

static void *
context_new(void)
{
    struct context *ctx = calloc(1, sizeof *ctx);

    if (ctx)
        ctx->limits = pcre2_match_context_create(NULL);
    if (ctx)
        ctx->data = pcre2_match_data_create(PATTERN_GROUPS_MAX, NULL);
    if (!ctx || !ctx->limits || !ctx->data)
        fatal("out of memory");
    pcre2_set_match_limit(ctx->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(ctx->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(ctx->limits, HEAP_LIMIT);
    ctx->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MOST, NULL);
    if (ctx->stack)
        pcre2_jit_stack_assign(ctx->limits, NULL, ctx->stack);
    return ctx;
}

static void
context_free(void *state)
{
    struct context *ctx = state;

    pcre2_match_data_free(ctx->data);
    pcre2_match_context_free(ctx->limits);
    if (ctx->stack)
        pcre2_jit_stack_free(ctx->stack);
    free(ctx);
}

/* i and s are on to begin with; each letter toggles. */
static int
parse_flags(struct arena *arena, struct slice text, uint32_t *flags, const char **why)
{
    static const struct {
        char letter;
        uint32_t flag;
    } rows[] = {{'i', PCRE2_CASELESS}, {'m', PCRE2_MULTILINE}, {'s', PCRE2_DOTALL},   {'x', PCRE2_EXTENDED},
                {'A', PCRE2_ANCHORED}, {'U', PCRE2_UNGREEDY},  {'E', PCRE2_DOLLAR_ENDONLY}, {'X', 0}};

    *flags = PCRE2_CASELESS | PCRE2_DOTALL;
    for (size_t i = 0; i < text.len; i++) {
        size_t row = 0;
        while (row < ARRAY_LEN(rows) && rows[row].letter != text.ptr[i])
            row++;
        if (row == ARRAY_LEN(rows)) {
            *why = arena_printf(arena, "unknown regexp option \"%c\": skipping this rule", text.ptr[i]);
            return -1;
        }
        *flags ^= rows[row].flag;
    }
    return 0;
}

static int
pcre_compile(void *ctx, struct arena *arena, struct slice pattern, struct slice text, bool utf8,
             struct pattern_regex *regex, const char **why, struct err *err)
{
    uint32_t flags, groups = 0;
    int error;
    size_t offset;
    char message[200];

    (void)ctx;
    if (parse_flags(arena, text, &flags, why) < 0)
        return 0;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, flags | (utf8 ? PCRE2_UTF : 0), &error,
                                     &offset, NULL);
    if (!code) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        *why = arena_printf(arena, "error in regex at offset %zu: %s", offset, message);
        return error == PCRE2_ERROR_NOMEMORY || error == 121 ? err_set(err, ERR_TEMP, "%s", message) : 0;
    }
    (void)pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
    *regex = (struct pattern_regex){.code = code,
                                    .groups = groups,
                                    .dialect = PATTERN_PERL,
                                    .lines = (flags & PCRE2_MULTILINE) != 0,
                                    .plain_syntax = !(flags & PCRE2_EXTENDED) && !(utf8 && text_has_8bit(pattern))};
    return 0;
}

static int
pcre_match(void *state, const struct pattern_regex *regex, struct slice subject, struct pattern_match *match,
           struct err *err)
{
    struct context *ctx = state;
    char message[200];
    int result = pcre2_match(regex->code, (PCRE2_SPTR)subject.ptr, subject.len, 0, 0, ctx->data, ctx->limits);

    if (result == PCRE2_ERROR_NOMATCH)
        return 0;
    if (result < 0) {
        pcre2_get_error_message(result, (PCRE2_UCHAR *)message, sizeof message);
        return err_set(err, ERR_TEMP, "%s", message);
    }
    if (!match)
        return 1;
    /* A result of 0: more groups than there is room for; those that are there are right. */
    const size_t *pairs = pcre2_get_ovector_pointer(ctx->data);
    size_t count = result == 0 ? PATTERN_GROUPS_MAX : (size_t)result;
    for (size_t i = 1; i < PATTERN_GROUPS_MAX; i++)
        match->group[i] = i >= count || pairs[2 * i] == PCRE2_UNSET
                              ? slice_make(NULL, 0)
                              : slice_make(subject.ptr + pairs[2 * i], pairs[2 * i + 1] - pairs[2 * i]);
    return 1;
}

static void
pcre_optimize(void *ctx, const struct pattern_regex *regex)
{
    if (((struct context *)ctx)->stack)
        (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* without it, it is slower */
}

static void
pcre_free(struct pattern_regex *regex)
{
    pcre2_code_free(regex->code);
}

static const struct pattern_engine engine = {.type = "pcre",
                                             .compile = pcre_compile,
                                             .match = pcre_match,
                                             .free_regex = pcre_free,
                                             .optimize = pcre_optimize,
                                             .context_new = context_new,
                                             .context_free = context_free};

static void *
pcre_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    return pattern_table_open(&engine, conf, name, flags, about, err);
}

const struct table_ops table_pcre = {.type = "pcre",
                                     .keys = TABLE_PATTERNS,
                                     .open = pcre_open,
                                     .close = pattern_table_close,
                                     .find = pattern_table_find};
