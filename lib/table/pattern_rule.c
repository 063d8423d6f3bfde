/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/pattern_rule.h"

#include <string.h>

#include "lib/base/text.h"

static struct slice
rest_from(struct slice text, size_t at)
{
    return slice_make(text.ptr + at, text.len - at);
}

int
pattern_text_parse(const struct table_lines *lines, const struct pattern_engine *engine, struct slice line,
                   struct pattern_text *out)
{
    size_t at = 0, start;

    out->negated = false;
    for (; at < line.len && (line.ptr[at] == '!' || text_is_space(line.ptr[at])); at++)
        out->negated ^= line.ptr[at] == '!';
    if (at == line.len) {
        table_lines_warn(lines, "no regexp: skipping this rule");
        return -1;
    }
    char delimiter = line.ptr[at++];
    for (start = at; at < line.len && line.ptr[at] != delimiter; at++)
        if (line.ptr[at] == '\\' && at + 1 < line.len)
            at++;
    if (at >= line.len) {
        table_lines_warn(lines, "no closing regexp delimiter \"%c\": %s this rule", delimiter,
                         engine->skips_to_exclamation ? "skipping" : "ignoring");
        return -1;
    }
    out->pattern = slice_make(line.ptr + start, at - start);
    start = ++at;
    while (at < line.len && !text_is_space(line.ptr[at]) && !(engine->skips_to_exclamation && line.ptr[at] == '!'))
        at++;
    out->flags = slice_make(line.ptr + start, at - start);
    out->rest = slice_trim(rest_from(line, at));
    return 0;
}

/* ---- results ---- */

struct result_parser {
    const struct table_lines *lines;
    struct arena *arena;
    struct pattern_rule *rule;
    struct pattern_piece **end;
};

static void
add_piece(struct result_parser *p, unsigned group, struct slice text)
{
    struct pattern_piece *piece = ARENA_NEW(p->arena, struct pattern_piece);

    if (group == 0 && text.len == 0)
        return;
    piece->group = group;
    piece->text = arena_slice(p->arena, text);
    *p->end = piece;
    p->end = &piece->next;
}

static int
add_group(struct result_parser *p, struct slice name)
{
    unsigned long long group = 0;

    if (slice_to_u64(name, UINT32_MAX, &group) < 0) {
        bool digits = true;
        for (size_t i = 0; i < name.len; i++)
            digits = digits && text_is_digit(name.ptr[i]);
        table_lines_warn(p->lines, digits ? "out of range replacement index \"%.*s\"" : "non-numeric replacement index \"%.*s\"",
                         SLICE_ARG(name));
        table_lines_warn(p->lines, "bad replacement syntax: skipping this rule");
        return -1;
    }
    if (p->rule->negated) {
        table_lines_warn(p->lines, "$number found in negative match replacement text: skipping this rule");
        return -1;
    }
    if (group < 1 || group > p->rule->regex.groups || group >= PATTERN_GROUPS_MAX) {
        table_lines_warn(p->lines, "out of range replacement index \"%llu\": skipping this rule", group);
        return -1;
    }
    p->rule->has_groups = true;
    add_piece(p, (unsigned)group, slice_make(NULL, 0));
    return 0;
}

/* Behind a '$': the name, and how many bytes it took; 0: malformed. */
static size_t
take_name(struct slice text, struct slice *name)
{
    char open = text.len ? text.ptr[0] : '\0', close = open == '{' ? '}' : open == '(' ? ')' : '\0';
    size_t len = 0;

    if (close) {
        const char *end = memchr(text.ptr, close, text.len);
        *name = slice_make(text.ptr + 1, end ? (size_t)(end - text.ptr - 1) : 0);
        return end && name->len > 0 ? name->len + 2 : 0;
    }
    while (len < text.len && (text_is_alnum(text.ptr[len]) || text.ptr[len] == '_'))
        len++;
    *name = slice_make(text.ptr, len);
    return len;
}

int
pattern_result_parse(const struct table_lines *lines, const struct pattern_engine *engine, struct arena *arena,
                     struct slice text, struct pattern_rule *rule)
{
    struct result_parser p = {lines, arena, rule, &rule->result};
    struct slice name;

    (void)engine;
    rule->result = NULL;
    while (text.len > 0) {
        const char *dollar = memchr(text.ptr, '$', text.len);
        size_t plain = dollar ? (size_t)(dollar - text.ptr) : text.len;
        add_piece(&p, 0, slice_make(text.ptr, plain));
        if (!dollar)
            break;
        text = rest_from(text, plain + 1);
        size_t taken = text.len && text.ptr[0] == '$' ? 1 : take_name(text, &name);
        if (taken == 0) {
            table_lines_warn(lines, "bad replacement syntax: skipping this rule");
            return -1;
        }
        if (text.ptr[0] == '$')
            add_piece(&p, 0, slice_make("$", 1));
        else if (add_group(&p, name) < 0)
            return -1;
        text = rest_from(text, taken);
    }
    return 0;
}

const char *
pattern_result_text(const struct pattern_rule *rule, const struct pattern_match *match, struct arena *arena)
{
    size_t len = 0;
    char *text, *at;

    for (const struct pattern_piece *piece = rule->result; piece; piece = piece->next) {
        len += piece->group ? match->group[piece->group].len : piece->text.len;
        if (len > (1 << 24))
            return NULL;
    }
    at = text = arena_alloc(arena, len + 1);
    for (const struct pattern_piece *piece = rule->result; piece; piece = piece->next) {
        struct slice part = piece->group ? match->group[piece->group] : piece->text;
        if (part.len > 0)
            memcpy(at, part.ptr, part.len);
        at += part.len;
    }
    return text;
}
