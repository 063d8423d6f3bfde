/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a pattern matches, the sieve must let through: random patterns and subjects, beside the real engines. And it must
 * hold something back, or it would be of no use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/table/pattern_sieve.h"

#ifdef POSTERN_SANITIZERS
enum { ROUNDS = 24 };
#else
enum { ROUNDS = 150 };
#endif
enum { ROUNDS_IN_VALGRIND = 8, PATTERNS = 40, SUBJECTS = 60 };

static uint32_t
any(uint32_t below)
{
    static uint64_t state = 42;

    state = state * UINT64_C(6364136223846793005) + 1442695040888963407U;
    return (uint32_t)(state >> 33) % below;
}

static void
append_one_of(struct buf *out, const char *const *texts, size_t count)
{
    buf_append_text(out, texts[any((uint32_t)count)]);
}

static void
append_pattern(struct buf *out, bool perl, unsigned depth)
{
    static const char *const atoms[] = {"a", "b", "B", "1", "2", "\\.", ".", "@", "[ab]", "[^a1]", "[^A]", "[a-b1-2]", "[[:alpha:]]",
                                        "[^[:digit:]]", "[]a]", "[^]b]", "[.@]", "[[:space:]1]", "\\w", "\\W", "\\s", "\\b",
                                        "[[:upper:]]", "[^[:lower:]]", "[a-]"};
    static const char *const perl_atoms[] = {"\\d", "\\D", "[\\d.]", "[^\\w]", "\\n", "[\\w-]"};
    static const char *const quantities[] = {"", "", "", "", "*", "+", "?", "{2}", "{0}", "{1,3}", "{2,}", "{0,2}", "{9}", "{1,12}", "*?", "+?", "??"};

    for (uint32_t n = any(4) + 1; n > 0; n--) {
        if (depth > 0 && any(5) == 0) {
            buf_append_text(out, perl && any(2) ? "(?:" : "(");
            append_pattern(out, perl, depth - 1);
            if (any(2)) {
                buf_append_byte(out, '|');
                append_pattern(out, perl, depth - 1);
            }
            buf_append_byte(out, ')');
        } else if (perl && any(4) == 0) {
            append_one_of(out, perl_atoms, ARRAY_LEN(perl_atoms));
        } else {
            append_one_of(out, atoms, ARRAY_LEN(atoms));
        }
        append_one_of(out, quantities, ARRAY_LEN(quantities));
    }
}

static const char *
make_pattern(struct buf *out, bool perl)
{
    buf_clear(out);
    if (any(2))
        buf_append_byte(out, '^');
    append_pattern(out, perl, 2);
    if (any(2))
        buf_append_byte(out, '$');
    return buf_text(out);
}

struct engine {
    bool perl, lines;
    regex_t regex[PATTERNS];
    pcre2_code *code[PATTERNS];
};

static bool
compile(struct engine *e, unsigned i, const char *pattern)
{
    int error;
    size_t offset;

    if (!e->perl)
        return regcomp(&e->regex[i], pattern,
                       REG_EXTENDED | (any(2) ? REG_ICASE : 0) | (e->lines ? REG_NEWLINE : 0)) == 0;
    uint32_t flags = (any(2) ? PCRE2_CASELESS : 0) | (any(2) ? PCRE2_DOTALL : 0) | (e->lines ? PCRE2_MULTILINE : 0);
    e->code[i] = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, flags, &error, &offset, NULL);
    return e->code[i] != NULL;
}

static bool
matches(struct engine *e, unsigned i, const char *subject, pcre2_match_data *data)
{
    if (!e->perl)
        return regexec(&e->regex[i], subject, 0, NULL, 0) == 0;
    return pcre2_match(e->code[i], (PCRE2_SPTR)subject, strlen(subject), 0, 0, data, NULL) >= 0;
}

static void
release(struct engine *e, unsigned i)
{
    if (e->perl)
        pcre2_code_free(e->code[i]);
    else
        regfree(&e->regex[i]);
}

/* How many tries it saved. */
static unsigned
one_round(bool perl, bool lines, unsigned *understood)
{
    struct engine *e = calloc(1, sizeof *e);
    struct arena *arena = arena_new();
    struct pattern_sieve *sieve = pattern_sieve_new(arena);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    struct sieve_row row;
    struct buf text = {0};
    char *patterns[PATTERNS];
    unsigned count = 0, saved = 0;

    e->perl = perl;
    e->lines = lines;
    for (unsigned tries = 0; count < PATTERNS && tries < 10 * PATTERNS; tries++) {
        const char *pattern = make_pattern(&text, perl);
        if (!compile(e, count, pattern))
            continue;
        if (sieve_row_parse(slice_from(pattern), perl ? PATTERN_PERL : PATTERN_POSIX, lines, &row)) {
            pattern_sieve_add(sieve, &row, count);
            ++*understood;
        }
        patterns[count++] = arena_strdup(arena, pattern);
    }
    pattern_sieve_complete(sieve);
    for (unsigned s = 0; s < SUBJECTS; s++) {
        char subject[30] = {0};
        uint64_t bits = UINT64_MAX;
        for (uint32_t i = 0, len = any(sizeof subject); i < len; i++)
            subject[i] = "aabbAB1122.@ \n_x\xe9"[any(17)];
        pattern_sieve_strike(sieve, arena, slice_from(subject), &bits);
        for (unsigned i = 0; i < count; i++) {
            bool kept = bits >> i & 1;
            saved += !kept;
            if (!kept && matches(e, i, subject, data))
                fail_msg("%s matches \"%s\" and is held back", patterns[i], subject);
        }
    }
    for (unsigned i = 0; i < count; i++)
        release(e, i);
    pcre2_match_data_free(data);
    buf_release(&text);
    arena_free(&arena);
    free(e);
    return saved;
}

static void
test_nothing_that_matches_is_held_back(void **state)
{
    unsigned saved = 0, understood = 0, rounds = getenv("POSTERN_VALGRIND") ? ROUNDS_IN_VALGRIND : ROUNDS;

    (void)state;
    for (unsigned i = 0; i < rounds; i++)
        saved += one_round(i % 2, i % 8 > 5, &understood);
    assert_in_range(understood, rounds * PATTERNS / 2, rounds * PATTERNS);
    assert_in_range(saved, rounds * PATTERNS * SUBJECTS / 8, rounds * PATTERNS * SUBJECTS);
}

static void
test_what_is_not_understood(void **state)
{
    static const struct {
        const char *pattern;
        enum pattern_dialect dialect;
        bool understood;
    } rows[] = {{"a(b|c)*d", PATTERN_POSIX, true}, {"a|b", PATTERN_POSIX, false},   {"(?=a)b", PATTERN_PERL, false},
                {"(a)\\1", PATTERN_POSIX, false},  {"(a)\\1", PATTERN_PERL, false}, {"a^b", PATTERN_POSIX, false},
                {"a$b", PATTERN_PERL, false},      {"[[.a.]]", PATTERN_POSIX, false}, {"\\Qa\\E", PATTERN_PERL, false},
                {"[a", PATTERN_POSIX, false},      {"a\\", PATTERN_POSIX, true},    {"", PATTERN_POSIX, false},
                {"(a", PATTERN_POSIX, false},      {"a)", PATTERN_POSIX, false},    {"a{x", PATTERN_POSIX, false}};
    struct sieve_row row;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (sieve_row_parse(slice_from(rows[i].pattern), rows[i].dialect, false, &row) != rows[i].understood)
            fail_msg("%s", rows[i].pattern);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_that_matches_is_held_back),
                                              cmocka_unit_test(test_what_is_not_understood)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
