/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/pattern_literal.h"

#include <stdint.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"

enum { DEPTH_LIMIT = 20 };

struct parser {
    struct arena *arena;
    const char *at, *end;
    enum pattern_dialect dialect;
    bool failed; /* something that is not understood: nothing is known of the whole pattern */
};

static void parse_branches(struct parser *, unsigned depth, struct pattern_literals *);

static bool
more(const struct parser *p)
{
    return p->at < p->end && !p->failed;
}

static bool
next_is(const struct parser *p, char c)
{
    return p->at < p->end && *p->at == c;
}

/* ---- sets of texts ---- */

static size_t
shortest(const struct pattern_literals *set)
{
    size_t least = set->count ? set->text[0].len : 0;

    for (unsigned i = 1; i < set->count; i++)
        if (set->text[i].len < least)
            least = set->text[i].len;
    return least;
}

/* Of two sets that both must be met, the one that says more. */
static void
keep_better(struct pattern_literals *best, const struct pattern_literals *other)
{
    size_t a = shortest(best), b = shortest(other);

    if (b >= LITERAL_LEAST && (b > a || (b == a && other->count < best->count)))
        *best = *other;
}

/* The run of plain characters ends. */
static void
end_run(struct parser *p, struct buf *run, struct pattern_literals *best)
{
    struct pattern_literals one = {.count = 1};

    if (run->len >= LITERAL_LEAST) {
        one.text[0] = arena_slice(p->arena, buf_slice(run));
        text_lower_all((char *)(uintptr_t)one.text[0].ptr, one.text[0].len);
        keep_better(best, &one);
    }
    buf_clear(run);
}

/* ---- atoms ---- */

/* At "[:name:]" within brackets; what only looks like it is not understood. */
static void
skip_class(struct parser *p)
{
    char kind = p->at[1];

    p->at += 2;
    while (p->at < p->end && (text_is_alpha(*p->at) || *p->at == '^'))
        p->at++;
    if (p->at + 1 < p->end && p->at[0] == kind && p->at[1] == ']')
        p->at += 2;
    else
        p->failed = true;
}

/* [...]: at is behind the '['. */
static void
skip_bracket(struct parser *p)
{
    if (next_is(p, '^'))
        p->at++;
    if (next_is(p, ']'))
        p->at++;
    while (more(p) && *p->at != ']') {
        if (*p->at == '\\' && p->dialect == PATTERN_PERL) {
            p->at += 2;
        } else if (*p->at == '[' && p->at + 1 < p->end && memchr(":.=", p->at[1], 3)) {
            skip_class(p);
        } else {
            p->at++;
        }
    }
    if (p->at >= p->end)
        p->failed = true;
    p->at++;
}

enum quantity { ONCE, AT_LEAST_ONCE, MAYBE_NOT };

/* A quantifier, and what may follow it (which is laziness in one dialect and another quantifier in the other: then the
 * atom counts as one that may be missing). */
static enum quantity
take_quantifier(struct parser *p)
{
    enum quantity quantity = ONCE;

    while (more(p) && memchr("*+?{", *p->at, 4)) {
        quantity = *p->at == '+' && quantity == ONCE ? AT_LEAST_ONCE : MAYBE_NOT;
        if (*p->at++ != '{')
            continue;
        while (p->at < p->end && (text_is_digit(*p->at) || *p->at == ','))
            p->at++;
        if (!next_is(p, '}'))
            p->failed = true; /* a plain brace, perhaps */
        p->at++;
    }
    return quantity;
}

/* Behind a backslash: is it a plain character? Sets failed for what takes arguments. */
static bool
escape_is_plain(struct parser *p, char c)
{
    static const char posix_plain[] = ".[]\\()*+?{}|^$/-@:,;=!\"#%&~ ";
    static const char simple[] = "dDwWsSbBnrtA";

    if (p->dialect == PATTERN_POSIX) {
        if (memchr(posix_plain, c, sizeof posix_plain - 1))
            return true;
        p->failed = !memchr("wWsSbB<>", c, 8);
        return false;
    }
    if (text_is_alnum(c) || c == '_' || (c & 0x80)) {
        p->failed = !memchr(simple, c, sizeof simple - 1);
        return false;
    }
    return true;
}

/* At '(' : what is in the group. */
static void
parse_group(struct parser *p, unsigned depth, struct pattern_literals *inner)
{
    p->at++;
    inner->count = 0;
    if (p->dialect == PATTERN_PERL && next_is(p, '*'))
        p->failed = true;
    if (p->dialect == PATTERN_PERL && next_is(p, '?')) {
        if (p->at + 1 < p->end && p->at[1] == ':')
            p->at += 2;
        else
            p->failed = true;
    }
    if (depth == 0)
        p->failed = true;
    if (!p->failed)
        parse_branches(p, depth - 1, inner);
    if (!next_is(p, ')'))
        p->failed = true;
    p->at++;
}

/* A plain character: in *c. False: an atom of another kind, or none. */
static bool
take_character(struct parser *p, char *c)
{
    *c = *p->at++;
    if (*c != '\\')
        return !memchr(".^$", *c, 3) && !(*c & 0x80);
    if (p->at >= p->end) {
        p->failed = true;
        return false;
    }
    *c = *p->at++;
    return escape_is_plain(p, *c) && !p->failed;
}

/* ---- sequences and branches ---- */

static void
parse_atom(struct parser *p, unsigned depth, struct buf *run, struct pattern_literals *best)
{
    struct pattern_literals inner = {0};
    char c = '\0';
    bool plain = false;

    if (*p->at == '(') {
        end_run(p, run, best);
        parse_group(p, depth, &inner);
    } else if (*p->at == '[') {
        end_run(p, run, best);
        p->at++;
        skip_bracket(p);
    } else if (memchr("*+?{", *p->at, 4)) {
        p->failed = true; /* nothing that it could stand for */
        return;
    } else {
        plain = take_character(p, &c);
    }
    enum quantity quantity = take_quantifier(p);
    if (plain && quantity != MAYBE_NOT)
        buf_append_byte(run, c);
    if (!plain || quantity != ONCE)
        end_run(p, run, best);
    if (quantity != MAYBE_NOT)
        keep_better(best, &inner);
}

static void
parse_sequence(struct parser *p, unsigned depth, struct pattern_literals *best)
{
    struct buf run = {0};

    best->count = 0;
    while (more(p) && *p->at != '|' && *p->at != ')')
        parse_atom(p, depth, &run, best);
    end_run(p, &run, best);
    buf_release(&run);
}

static void
parse_branches(struct parser *p, unsigned depth, struct pattern_literals *all)
{
    struct pattern_literals one;
    bool known = true;

    all->count = 0;
    for (;;) {
        parse_sequence(p, depth, &one);
        known = known && one.count > 0 && all->count + one.count <= LITERALS_MAX;
        for (unsigned i = 0; known && i < one.count; i++)
            all->text[all->count++] = one.text[i];
        if (p->failed || !next_is(p, '|'))
            break;
        p->at++;
    }
    if (!known)
        all->count = 0;
}

void
pattern_literals(struct arena *arena, struct slice pattern, enum pattern_dialect dialect, struct pattern_literals *out)
{
    struct parser p = {.arena = arena, .at = pattern.ptr, .end = pattern.ptr + pattern.len, .dialect = dialect};

    parse_branches(&p, DEPTH_LIMIT, out);
    if (p.failed || p.at != p.end)
        out->count = 0;
}
