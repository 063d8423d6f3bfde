/* SPDX-License-Identifier: Apache-2.0 */
/* A recursive descent over the text, into branches and values. Depth counts both, so neither a circle of values nor
 * deep nesting can exhaust the stack; names in branches that are not taken are not looked up. */
#include "lib/conf/expand.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "lib/base/text.h"

struct expander {
    const struct expand_source *source;
    void (*seen)(void *ctx, struct slice name); /* only collect names */
    void *seen_ctx;
    struct err *err;
    struct slice text; /* being expanded, whole: for messages */
    unsigned depth;
    unsigned steps; /* texts expanded so far: values that use each other twice would take for ever */
};

static int expand(struct expander *, struct slice text, struct buf *out) MUST_USE;

static bool
is_name_byte(char c)
{
    return text_is_alnum(c) || c == '_';
}

static void
skip_blanks(struct slice *s)
{
    while (s->len > 0 && text_is_space(*s->ptr)) {
        s->ptr++;
        s->len--;
    }
}

static void
skip(struct slice *s, size_t n)
{
    s->ptr += n;
    s->len -= n;
}

/* *s begins with the opening bracket: cuts what is inside off into *inside, and the brackets too. False: not closed. */
static bool
cut_brackets(struct slice *s, char open, char close, struct slice *inside)
{
    unsigned level = 0;
    for (size_t i = 0; i < s->len; i++) {
        if (s->ptr[i] == open)
            level++;
        else if (s->ptr[i] == close && --level == 0) {
            *inside = slice_make(s->ptr + 1, i - 1);
            skip(s, i + 1);
            return true;
        }
    }
    return false;
}

static int
expected(struct expander *e, const char *what, struct slice at)
{
    return err_set(e->err, ERR_SYNTAX, "\"%s\" expected at: \"...>>>%.*s\"", what, SLICE_ARG(at));
}

/* *s stands behind "?" or ":": the text to take, in braces or up to the end. braced tells which. */
static int
cut_branch(struct expander *e, struct slice *s, struct slice *branch, bool *braced)
{
    struct slice rest = *s;
    skip_blanks(&rest);
    *braced = rest.len > 0 && *rest.ptr == '{';
    if (!*braced) {
        *branch = *s;
        *s = slice_make(NULL, 0);
        return 0;
    }
    if (!cut_brackets(&rest, '{', '}', branch))
        return err_set(e->err, ERR_SYNTAX, "unbalanced braces: \"%.*s\"", SLICE_ARG(*s));
    skip_blanks(&rest);
    *s = rest;
    return 0;
}

struct branches {
    struct slice yes, no;
    bool has_yes, has_no;
};

/* *s stands behind the name or the comparison. */
static int
parse_branches(struct expander *e, struct slice s, struct branches *b)
{
    bool braced;
    *b = (struct branches){.has_yes = false};
    skip_blanks(&s);
    if (s.len > 0 && *s.ptr == '?') {
        skip(&s, 1);
        b->has_yes = true;
        if (cut_branch(e, &s, &b->yes, &braced) < 0)
            return -1;
        if (s.len > 0 && *s.ptr != ':')
            return expected(e, ":", s);
    }
    if (s.len > 0 && *s.ptr == ':') {
        skip(&s, 1);
        b->has_no = true;
        if (cut_branch(e, &s, &b->no, &braced) < 0)
            return -1;
    }
    if (s.len > 0)
        return err_set(e->err, ERR_SYNTAX, "attribute name syntax error at: \"...>>>%.*s\"", SLICE_ARG(s));
    return 0;
}

static bool
is_number(struct slice s)
{
    unsigned long long value;
    return slice_to_u64(s, LONG_MAX, &value) == 0;
}

static int
compare_texts(struct slice a, struct slice b)
{
    unsigned long long x, y;
    if (is_number(a) && is_number(b) && slice_to_u64(a, LONG_MAX, &x) == 0 && slice_to_u64(b, LONG_MAX, &y) == 0)
        return x < y ? -1 : x > y;
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

/* "3", "3.6", "3.6.1" as three numbers. */
static int
parse_level(struct slice text, unsigned long long level[3], struct err *err)
{
    struct slice rest = text, word;
    unsigned n = 0;
    level[0] = level[1] = level[2] = 0;
    while (slice_cut(&rest, '.', &word))
        if (n == 3 || slice_to_u64(word, 999, &level[n++]) < 0)
            return err_set(err, ERR_SYNTAX, "malformed compatibility level syntax: \"%.*s\"", SLICE_ARG(text));
    if (n == 0 || (text.len > 0 && text.ptr[text.len - 1] == '.'))
        return err_set(err, ERR_SYNTAX, "malformed compatibility level syntax: \"%.*s\"", SLICE_ARG(text));
    return 0;
}

int
expand_compare_levels(struct slice a, struct slice b, int *result, struct err *err)
{
    unsigned long long x[3], y[3];
    if (parse_level(a, x, err) < 0 || parse_level(b, y, err) < 0)
        return -1;
    *result = 0;
    for (unsigned i = 0; i < 3 && *result == 0; i++)
        *result = x[i] < y[i] ? -1 : x[i] > y[i];
    return 0;
}

static const struct operator
{
    const char *text;
    bool less, equal, more; /* the orders for which it holds */
}
operators[] = {
    /* longer ones first */
    {"==", false, true, false}, {"!=", true, false, true}, {"<=", true, true, false},
    {">=", false, true, true},  {"<", true, false, false}, {">", false, false, true},
};

static const struct operator* cut_operator(struct slice *s)
{
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        size_t len = strlen(operators[i].text);
        if (s->len >= len && memcmp(s->ptr, operators[i].text, len) == 0) {
            skip(s, len);
            return &operators[i];
        }
    }
    return NULL;
}

static int
cut_operand(struct expander *e, struct slice *s, struct buf *out)
{
    struct slice inside;
    skip_blanks(s);
    if (s->len == 0 || *s->ptr != '{')
        return expected(e, "{", *s);
    if (!cut_brackets(s, '{', '}', &inside))
        return err_set(e->err, ERR_SYNTAX, "unbalanced braces: \"%.*s\"", SLICE_ARG(*s));
    skip_blanks(s);
    return expand(e, inside, out);
}

static int
compare_operands(struct expander *e, struct slice *s, struct buf *left, struct buf *right, bool *holds)
{
    int order;
    if (cut_operand(e, s, left) < 0)
        return -1;
    const struct operator* operator= cut_operator(s);
    if (!operator)
        return expected(e, "==\" or \"!=\" or \"<\" or \"<=\" or \">=\" or \">", *s);
    bool by_level = slice_starts_with_fold(*s, "level");
    if (by_level)
        skip(s, 5);
    if (cut_operand(e, s, right) < 0)
        return -1;
    if (e->seen)
        order = 0;
    else if (!by_level)
        order = compare_texts(buf_slice(left), buf_slice(right));
    else if (expand_compare_levels(buf_slice(left), buf_slice(right), &order, e->err) < 0)
        return -1;
    *holds = order < 0 ? operator->less : order> 0 ? operator->more : operator->equal;
    return 0;
}

static int
take_branch(struct expander *e, const struct branches *b, bool yes, struct buf *out)
{
    if (e->seen) {
        if (b->has_yes && expand(e, b->yes, out) < 0)
            return -1;
        return b->has_no ? expand(e, b->no, out) : 0;
    }
    if (yes)
        return b->has_yes ? expand(e, b->yes, out) : 0;
    return b->has_no ? expand(e, b->no, out) : 0;
}

/* ${{a} == {b} ? {x} : {y}}; without branches: "true" or nothing. */
static int
expand_comparison(struct expander *e, struct slice s, struct buf *out)
{
    struct buf left = {0}, right = {0};
    struct branches b;
    bool holds = false;
    int result = compare_operands(e, &s, &left, &right, &holds);

    buf_release(&left);
    buf_release(&right);
    if (result < 0 || parse_branches(e, s, &b) < 0)
        return -1;
    if (!b.has_yes && !b.has_no) {
        if (holds)
            buf_append_text(out, "true");
        return 0;
    }
    return take_branch(e, &b, holds, out);
}

static int
expand_value(struct expander *e, struct slice name, bool needed, struct buf *out)
{
    struct slice value = {0};
    if (e->seen) {
        e->seen(e->seen_ctx, name);
        return 0;
    }
    if (e->depth == EXPAND_DEPTH_LIMIT)
        return err_set(e->err, ERR_SYNTAX, "unreasonable macro call nesting: \"%.*s\"", SLICE_ARG(name));
    if (e->source->value(e->source->ctx, name, &value, e->err) < 0)
        return -1;
    if (needed && e->source->strict && !value.ptr)
        return err_set(e->err, ERR_SYNTAX, "undefined $name");
    if (e->source->final) {
        buf_append_slice(out, value);
        return 0;
    }
    return expand(e, value, out);
}

/* s: what stands in ${...}. */
static int
expand_braced(struct expander *e, struct slice s, struct slice whole, struct buf *out)
{
    struct branches b;
    struct slice name;

    skip_blanks(&s);
    if (s.len > 0 && *s.ptr == '{')
        return expand_comparison(e, s, out);
    name = slice_make(s.ptr, 0);
    while (name.len < s.len && is_name_byte(s.ptr[name.len]))
        name.len++;
    if (name.len == 0)
        return err_set(e->err, ERR_SYNTAX, "empty macro name: \"%.*s\"", SLICE_ARG(whole));
    skip(&s, name.len);
    skip_blanks(&s);
    if (s.len > 0 && *s.ptr != '?' && *s.ptr != ':')
        return err_set(e->err, ERR_SYNTAX, "attribute name syntax error at: \"...%.*s>>>%.*s\"", SLICE_ARG(name),
                       SLICE_ARG(s));
    if (parse_branches(e, s, &b) < 0)
        return -1;
    if (!b.has_yes && !b.has_no)
        return expand_value(e, name, true, out);

    struct buf value = {0};
    if (expand_value(e, name, false, &value) < 0) {
        buf_release(&value);
        return -1;
    }
    bool yes = value.len > 0;
    buf_release(&value);
    return take_branch(e, &b, yes, out);
}

/* *s begins with "$". */
static int
expand_dollar(struct expander *e, struct slice *s, struct buf *out)
{
    struct slice whole = *s, inside;
    skip(s, 1);
    if (s->len > 0 && *s->ptr == '$') {
        buf_append_byte(out, '$');
        skip(s, 1);
        return 0;
    }
    if (s->len > 0 && (*s->ptr == '{' || *s->ptr == '(')) {
        if (!cut_brackets(s, *s->ptr, *s->ptr == '{' ? '}' : ')', &inside))
            return err_set(e->err, ERR_SYNTAX, "truncated macro reference: \"%.*s\"", SLICE_ARG(e->text));
        whole.len -= s->len;
        return expand_braced(e, inside, whole, out);
    }
    inside = slice_make(s->ptr, 0);
    while (inside.len < s->len && is_name_byte(s->ptr[inside.len]))
        inside.len++;
    if (inside.len == 0)
        return err_set(e->err, ERR_SYNTAX, "empty macro name: \"%.*s\"", SLICE_ARG(e->text));
    skip(s, inside.len);
    return expand_value(e, inside, true, out);
}

static int
expand(struct expander *e, struct slice text, struct buf *out)
{
    struct slice outer = e->text;
    int result = 0;
    if (e->depth == EXPAND_DEPTH_LIMIT || ++e->steps > EXPAND_STEP_LIMIT)
        return err_set(e->err, ERR_SYNTAX, "unreasonable macro call nesting: \"%.*s\"", SLICE_ARG(text));
    e->depth++;
    e->text = text;
    while (text.len > 0 && result == 0) {
        const char *dollar = memchr(text.ptr, '$', text.len);
        size_t plain = dollar ? (size_t)(dollar - text.ptr) : text.len;
        if (out->len + plain > EXPAND_SIZE_LIMIT)
            result = err_set(e->err, ERR_SYNTAX, "value is too long");
        else
            buf_append(out, text.ptr, plain);
        skip(&text, plain);
        if (result == 0 && text.len > 0)
            result = expand_dollar(e, &text, out);
    }
    e->depth--;
    e->text = outer;
    return result;
}

int
expand_text(const struct expand_source *source, struct slice text, struct buf *out, struct err *err)
{
    struct expander e = {.source = source, .err = err};
    return expand(&e, text, out);
}

int
expand_names(struct slice text, void (*seen)(void *ctx, struct slice name), void *ctx, struct err *err)
{
    struct expander e = {.seen = seen, .seen_ctx = ctx, .err = err};
    struct buf scratch = {0};
    int result = expand(&e, text, &scratch);
    buf_release(&scratch);
    return result;
}
