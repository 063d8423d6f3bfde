/* SPDX-License-Identifier: Apache-2.0 */
/* The simpler pattern that pattern_sieve.h speaks of. Whatever is not understood fails; whatever is only half understood
 * becomes something that matches more. */
#include <string.h>

#include "lib/base/text.h"
#include "lib/table/pattern_sieve.h"

enum { DEPTH_LIMIT = 20, COPIES_MOST = 8 };

struct parser {
    const char *at, *end;
    enum pattern_dialect dialect;
    struct sieve_row *row;
    bool failed, is_full; /* is_full: there was no room for what follows */
};

static void parse_sequence(struct parser *, unsigned depth);

static bool
next_is(const struct parser *p, char c)
{
    return p->at < p->end && *p->at == c;
}

/* ---- sets ---- */

static void
set_all(uint64_t set[4])
{
    memset(set, 0xff, 4 * sizeof *set);
}

static void
set_add(uint64_t set[4], unsigned char c)
{
    set[c / 64] |= UINT64_C(1) << (c % 64);
}

static void
set_add_high(uint64_t set[4])
{
    set[2] = set[3] = UINT64_MAX;
}

static void
set_invert(uint64_t set[4])
{
    for (unsigned i = 0; i < 4; i++)
        set[i] = ~set[i];
}

/* Both cases, as most patterns don't tell them apart. */
static void
set_add_cases(uint64_t set[4])
{
    for (unsigned c = 'a'; c <= 'z'; c++) {
        unsigned upper = c - 'a' + 'A';
        if ((set[c / 64] >> (c % 64) & 1) || (set[upper / 64] >> (upper % 64) & 1)) {
            set_add(set, (unsigned char)c);
            set_add(set, (unsigned char)upper);
        }
    }
}

static bool
is_word(char c)
{
    return text_is_alnum(c) || c == '_';
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool
is_hex(char c)
{
    return text_is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
is_printed(char c)
{
    return c > ' ' && c < 127;
}

static bool
is_control(char c)
{
    return (c >= 0 && c < ' ') || c == 127;
}

static bool
is_punctuation(char c)
{
    return is_printed(c) && !text_is_alnum(c);
}

static bool
is_printed_or_space(char c)
{
    return c == ' ' || is_printed(c);
}

static void
set_add_class(uint64_t set[4], bool (*has)(char))
{
    for (unsigned c = 0; c < 128; c++)
        if (has((char)c))
            set_add(set, (unsigned char)c);
}

/* \d and its like. False: not one of them. */
static bool
set_add_escape(uint64_t set[4], char letter, enum pattern_dialect dialect)
{
    uint64_t inverted[4] = {0};

    switch (letter) {
    case 'w': set_add_class(set, is_word); break;
    case 's': set_add_class(set, text_is_space); break;
    case 'W': set_add_class(inverted, is_word); break;
    case 'S': set_add_class(inverted, text_is_space); break;
    case 'd': set_add_class(set, text_is_digit); break;
    case 'D': set_add_class(inverted, text_is_digit); break;
    case 'n': set_add(set, '\n'); break;
    case 'r': set_add(set, '\r'); break;
    case 't': set_add(set, '\t'); break;
    default: return false;
    }
    if (memchr("WSD", letter, 3)) {
        set_invert(inverted);
        for (unsigned i = 0; i < 4; i++)
            set[i] |= inverted[i];
    }
    set_add_high(set);
    return dialect == PATTERN_PERL || memchr("wsWS", letter, 4);
}

/* ---- atoms ---- */

/* At "[:name:]" within brackets; in inverted ones the set must not have too much in it. */
static void
parse_named_class(struct parser *p, bool inverted, uint64_t set[4])
{
    static const struct {
        const char *name;
        bool (*has)(char);
    } rows[] = {{"alpha", text_is_alpha}, {"digit", text_is_digit}, {"alnum", text_is_alnum}, {"space", text_is_space},
                {"upper", text_is_alpha}, {"lower", text_is_alpha}, {"blank", is_blank},      {"xdigit", is_hex},
                {"punct", is_punctuation}, {"graph", is_printed},   {"print", is_printed_or_space}, {"cntrl", is_control},
                {"word", is_word}};
    struct slice rest = slice_make(p->at + 2, (size_t)(p->end - p->at) - 2);
    size_t len = 0;

    while (len < rest.len && text_is_alpha(rest.ptr[len]))
        len++;
    p->failed = true;
    if (len + 1 >= rest.len || rest.ptr[len] != ':' || rest.ptr[len + 1] != ']')
        return;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (slice_equal_text(slice_make(rest.ptr, len), rows[i].name)) {
            set_add_class(set, rows[i].has);
            p->failed = inverted && memchr("ul", rest.ptr[0], 2);
        }
    set_add_high(set);
    p->at += 2 + len + 2;
}

/* One character within brackets. False: a class was added. */
static bool
parse_member(struct parser *p, bool inverted, uint64_t set[4], unsigned char *c)
{
    if (*p->at == '[' && p->at + 1 < p->end && memchr(":.=", p->at[1], 3)) {
        if (p->at[1] == ':')
            parse_named_class(p, inverted, set);
        else
            p->failed = true;
        return false;
    }
    *c = (unsigned char)*p->at++;
    if (*c != '\\' || p->dialect != PATTERN_PERL)
        return true;
    if (p->at >= p->end) {
        p->failed = true;
        return false;
    }
    char letter = *p->at++;
    if (set_add_escape(set, letter, p->dialect))
        return false;
    p->failed = p->failed || text_is_alnum(letter);
    *c = (unsigned char)letter;
    return true;
}

/* [...]: at is behind the '['. */
static void
parse_bracket(struct parser *p, uint64_t set[4])
{
    bool inverted = next_is(p, '^'), first = true;
    unsigned char from, to;

    p->at += inverted;
    for (; p->at < p->end && !p->failed && (first || *p->at != ']'); first = false) {
        if (!parse_member(p, inverted, set, &from))
            continue;
        to = from;
        if (next_is(p, '-') && p->at + 1 < p->end && p->at[1] != ']') {
            p->at++;
            if (!parse_member(p, inverted, set, &to))
                p->failed = true;
        }
        for (unsigned c = from; c <= to; c++)
            set_add(set, (unsigned char)c);
        if (from >= 128 || to >= 128)
            set_add_high(set);
    }
    if (!next_is(p, ']'))
        p->failed = true;
    p->at++;
    if (inverted) {
        /* A letter is out only if no case of it can be meant. */
        set_invert(set);
        set_add_high(set);
    }
    set_add_cases(set);
}

/* Behind a backslash. False: it stands for no character. */
static bool
parse_escape(struct parser *p, uint64_t set[4])
{
    static const char posix_plain[] = ".[]\\()*+?{}|^$/-@:,;=!\"#%&~ ";
    char c = *p->at++;

    if (set_add_escape(set, c, p->dialect))
        return true;
    if (memchr("bB<>A", c, 5) && (p->dialect == PATTERN_PERL ? text_is_alpha(c) : c != 'A'))
        return false;
    if (p->dialect == PATTERN_POSIX ? !memchr(posix_plain, c, sizeof posix_plain - 1) : is_word(c) || (c & 0x80))
        p->failed = true;
    memset(set, 0, 4 * sizeof *set);
    set_add(set, (unsigned char)c);
    return true;
}

/* ---- quantifiers ---- */

struct quantity {
    unsigned least, most; /* most UINT32_MAX: any number */
};

static unsigned
take_number(struct parser *p)
{
    unsigned n = 0;

    if (p->at >= p->end || !text_is_digit(*p->at))
        p->failed = true;
    while (p->at < p->end && text_is_digit(*p->at) && n < 100000)
        n = n * 10 + (unsigned)(*p->at++ - '0');
    return n;
}

/* At '{' */
static struct quantity
take_interval(struct parser *p)
{
    struct quantity q;

    p->at++;
    q.least = q.most = take_number(p);
    if (next_is(p, ',')) {
        p->at++;
        q.most = next_is(p, '}') ? UINT32_MAX : take_number(p);
    }
    if (!next_is(p, '}'))
        p->failed = true;
    p->at++;
    return q;
}

/* A quantifier; one that another follows (which is laziness in one dialect, a quantifier again in the other) may mean any. */
static struct quantity
take_quantity(struct parser *p)
{
    static const struct quantity any = {0, UINT32_MAX};
    struct quantity q = {1, 1};

    for (bool first = true; p->at < p->end && !p->failed && memchr("*+?{", *p->at, 4); first = false) {
        char c = *p->at;
        q = c == '{' ? take_interval(p) : any;
        p->at += c != '{';
        if (c == '+')
            q.least = 1;
        if (c == '?')
            q.most = 1;
        if (!first)
            q = any;
    }
    return q;
}

/* ---- rows ---- */

static void
add_element(struct parser *p, const uint64_t set[4], bool optional, bool repeats)
{
    struct sieve_row *row = p->row;

    if (row->count == SIEVE_ELEMENTS)
        p->is_full = true;
    if (p->is_full)
        return;
    struct sieve_element *element = &row->element[row->count++];
    memcpy(element->set, set, sizeof element->set);
    element->optional = optional;
    element->repeats = repeats;
}

static void
add_elements(struct parser *p, const uint64_t set[4], struct quantity q)
{
    bool endless = q.most > q.least + COPIES_MOST || q.least > COPIES_MOST;
    unsigned least = q.least < COPIES_MOST ? q.least : COPIES_MOST;

    if (q.most < q.least) {
        p->failed = true;
        return;
    }
    for (unsigned i = 0; i < least; i++)
        add_element(p, set, false, endless && i + 1 == least);
    if (endless && least == 0)
        add_element(p, set, true, true);
    for (unsigned i = q.least; !endless && i < q.most; i++)
        add_element(p, set, true, false);
}

/* What stands from `from` on becomes one set, and how many of it there are at least. */
static void
fold_elements(struct parser *p, unsigned from, uint64_t set[4], unsigned *least)
{
    unsigned needed = 0;

    for (unsigned i = from; i < p->row->count; i++) {
        needed += !p->row->element[i].optional;
        for (unsigned j = 0; j < 4; j++)
            set[j] |= p->row->element[i].set[j];
    }
    *least = needed < *least ? needed : *least;
    p->row->count = from;
}

/* At '(': one branch without a quantifier is as if there were no group; else it is any text of the bytes in it. */
static void
parse_group(struct parser *p, unsigned depth)
{
    unsigned from = p->row->count, least = UINT32_MAX;
    uint64_t set[4] = {0};

    p->at++;
    if (p->dialect == PATTERN_PERL && (next_is(p, '*') || next_is(p, '?'))) {
        p->failed = p->failed || p->end - p->at < 2 || memcmp(p->at, "?:", 2) != 0;
        p->at += 2;
    }
    if (depth == 0)
        p->failed = true;
    if (!p->failed)
        parse_sequence(p, depth - 1);
    bool is_one = !next_is(p, '|');
    while (!p->failed && next_is(p, '|')) {
        fold_elements(p, from, set, &least);
        p->at++;
        parse_sequence(p, depth - 1);
    }
    if (p->failed || !next_is(p, ')')) {
        p->failed = true;
        return;
    }
    p->at++;
    struct quantity q = take_quantity(p);
    if (is_one && q.least == 1 && q.most == 1)
        return;
    fold_elements(p, from, set, &least);
    least = least > COPIES_MOST ? COPIES_MOST : least;
    q.least = q.least > COPIES_MOST ? COPIES_MOST : q.least;
    if (set[0] | set[1] | set[2] | set[3])
        add_elements(p, set, (struct quantity){least * q.least, UINT32_MAX});
}

static void
parse_atom(struct parser *p, unsigned depth)
{
    uint64_t set[4] = {0};
    bool stands_for_one = true;
    char c = *p->at++;

    if (c == '(') {
        p->at--;
        parse_group(p, depth);
        return;
    }
    if (memchr("*+?{^$", c, 6)) {
        p->failed = true;
    } else if (c == '[') {
        parse_bracket(p, set);
    } else if (c == '.') {
        set_all(set);
    } else if (c == '\\' && p->at < p->end) {
        stands_for_one = parse_escape(p, set);
    } else {
        set_add(set, (unsigned char)c);
        if (c & 0x80)
            set_add_high(set);
    }
    set_add_cases(set);
    struct quantity q = take_quantity(p);
    if (stands_for_one)
        add_elements(p, set, q);
}

/* Up to the end, '|', or ')'. */
static void
parse_sequence(struct parser *p, unsigned depth)
{
    while (p->at < p->end && !p->failed && *p->at != '|' && *p->at != ')')
        parse_atom(p, depth);
}

bool
sieve_row_parse(struct slice pattern, enum pattern_dialect dialect, bool lines, struct sieve_row *row)
{
    struct parser p = {.at = pattern.ptr, .end = pattern.ptr + pattern.len, .dialect = dialect, .row = row};
    bool ends = false;

    *row = (struct sieve_row){.from_start = !lines};
    if (next_is(&p, '^'))
        p.at++;
    else
        row->from_start = false;
    if (p.end > p.at && p.end[-1] == '$') { /* unless a backslash stands before it */
        const char *back = p.end - 1;
        while (back > p.at && back[-1] == '\\')
            back--;
        ends = (p.end - 1 - back) % 2 == 0;
    }
    p.end -= ends;
    parse_sequence(&p, DEPTH_LIMIT);
    row->to_end = ends && !lines && !p.is_full;
    return !p.failed && p.at == p.end && row->count > 0;
}
