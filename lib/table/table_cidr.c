/* SPDX-License-Identifier: Apache-2.0 */
/* cidr:file: networks, the first that holds the address decides; cidr_table(5). Networks stand in a tree; an IF is a condition of
 * the rules within; what is negated can't stand in a tree and is tried one by one. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/table/net_tree.h"
#include "lib/table/table_text.h"

enum { NO_RULE = UINT_MAX };

struct rule {
    struct net_prefix prefix;
    bool negated;
    unsigned within; /* the IF in which it stands; NO_RULE: none */
    unsigned line;
    const char *result; /* NULL: an IF */
};

struct cidr {
    struct arena *arena;
    const char *name;
    int fd;
    struct rule *rules;
    unsigned count, room;
    struct net_tree *tree;
    unsigned *negated, negated_count;
    unsigned within; /* while reading */
};

/* ---- making one ---- */

static struct rule *
add_rule(struct cidr *table)
{
    if (table->count == table->room) {
        table->room = table->room ? table->room * 2 : 256;
        table->rules = reallocarray(table->rules, table->room, sizeof *table->rules);
        if (!table->rules)
            fatal("out of memory");
    }
    return &table->rules[table->count++];
}

static bool
is_word(struct slice line, const char *word)
{
    size_t len = strlen(word);

    return slice_starts_with_fold(line, word) && (line.len == len || !text_is_alnum(line.ptr[len]));
}

/* "!pattern rest". */
static int
parse_pattern(struct table_lines *lines, struct slice text, struct rule *rule, struct slice *rest)
{
    struct err err;
    size_t len = 0;

    rule->negated = false;
    while (text.len > 0 && (text.ptr[0] == '!' || text_is_space(text.ptr[0]))) {
        rule->negated ^= text.ptr[0] == '!';
        text = slice_make(text.ptr + 1, text.len - 1);
    }
    while (len < text.len && !text_is_space(text.ptr[len]))
        len++;
    *rest = slice_trim(slice_make(text.ptr + len, text.len - len));
    if (len == 0) {
        table_lines_warn(lines, "no address pattern: skipping this rule");
        return -1;
    }
    if (net_prefix_parse(slice_make(text.ptr, len), &rule->prefix, &err) < 0) {
        table_lines_warn(lines, "%s: skipping this rule", err.text);
        return -1;
    }
    return 0;
}

static void
add_result(struct cidr *table, struct table_lines *lines, struct slice line)
{
    struct rule new = {.line = lines->number, .within = table->within};
    struct slice rest;

    if (parse_pattern(lines, line, &new, &rest) < 0)
        return;
    if (rest.len == 0)
        table_lines_warn(lines, "no replacement text: using empty string");
    new.result = arena_strndup(table->arena, rest.ptr, rest.len);
    *add_rule(table) = new;
}

static void
add_if(struct cidr *table, struct table_lines *lines, struct slice text)
{
    struct rule new = {.line = lines->number, .within = table->within};
    struct slice rest;

    if (parse_pattern(lines, text, &new, &rest) < 0)
        return;
    if (rest.len > 0) {
        table_lines_warn(lines, "extra text after IF statement: \"%.*s\": skipping this rule", SLICE_ARG(rest));
        table_lines_warn(lines, "do not prepend whitespace to statements between IF and ENDIF");
        return;
    }
    *add_rule(table) = new;
    table->within = table->count - 1;
}

static void
add_endif(struct cidr *table, struct table_lines *lines, struct slice rest)
{
    if (table->within == NO_RULE) {
        table_lines_warn(lines, "ENDIF without IF: skipping this rule");
        return;
    }
    if (rest.len > 0) {
        table_lines_warn(lines, "extra text after ENDIF: skipping this rule");
        return;
    }
    table->within = table->rules[table->within].within;
}

static void
add_line(struct cidr *table, struct table_lines *lines, struct slice line)
{
    if (is_word(line, "if"))
        add_if(table, lines, slice_make(line.ptr + 2, line.len - 2));
    else if (is_word(line, "endif"))
        add_endif(table, lines, slice_trim(slice_make(line.ptr + 5, line.len - 5)));
    else
        add_result(table, lines, line);
}

static void
complete(struct cidr *table, struct table_lines *lines)
{
    for (; table->within != NO_RULE; table->within = table->rules[table->within].within) {
        lines->number = table->rules[table->within].line;
        table_lines_warn(lines, "IF has no matching ENDIF");
    }
    table->tree = net_tree_new(table->arena);
    table->negated = arena_array(table->arena, table->count + 1, sizeof *table->negated);
    for (unsigned i = 0; i < table->count; i++) {
        const struct rule *rule = &table->rules[i];
        if (!rule->result)
            continue;
        if (rule->negated)
            table->negated[table->negated_count++] = i;
        else
            net_tree_add(table->tree, &rule->prefix, i);
    }
}

static void
cidr_close(void *state)
{
    struct cidr *table = state;
    struct arena *arena = table->arena;

    if (table->fd >= 0)
        close(table->fd);
    free(table->rules);
    arena_free(&arena);
}

static void *
cidr_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    struct arena *arena = arena_new();
    struct cidr *table = ARENA_NEW(arena, struct cidr);
    struct buf text = {0};
    struct table_lines lines;
    struct slice line;

    (void)conf, (void)flags;
    *table = (struct cidr){.arena = arena, .fd = -1, .within = NO_RULE};
    table->name = arena_strdup(arena, name);
    if (table_text_open(name, &text, &table->fd, err) < 0) {
        buf_release(&text);
        cidr_close(table);
        return NULL;
    }
    table_lines_begin(&lines, arena_printf(arena, "cidr map %s", name), buf_slice(&text));
    while (table_lines_next(&lines, &line))
        add_line(table, &lines, line);
    complete(table, &lines);
    table_lines_end(&lines);
    buf_release(&text);
    about->watch_fd = table->fd;
    return table;
}

/* ---- asking ---- */

struct search {
    const struct cidr *table;
    const struct net_prefix *address;
    unsigned best;
};

/* What is negated says nothing of the other family's addresses. */
static bool
holds(const struct rule *rule, const struct net_prefix *address)
{
    if (rule->negated && rule->prefix.is_ipv6 != address->is_ipv6)
        return false;
    return net_prefix_contains(&rule->prefix, address) != rule->negated;
}

static bool
conditions_hold(const struct search *s, unsigned within)
{
    for (; within != NO_RULE; within = s->table->rules[within].within) {
        const struct rule *rule = &s->table->rules[within];
        if (!holds(rule, s->address))
            return false;
    }
    return true;
}

/* True: another one of the same network might hold, which comes later. */
static bool
try_rule(void *ctx, unsigned index)
{
    struct search *s = ctx;

    if (index >= s->best)
        return false;
    if (!conditions_hold(s, s->table->rules[index].within))
        return true;
    s->best = index;
    return false;
}

static int
cidr_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    const struct cidr *table = state;
    struct net_prefix address;
    struct search s = {table, &address, NO_RULE};

    (void)err;
    if (!net_address_parse(key, &address))
        return 0;
    net_tree_find(table->tree, &address, try_rule, &s);
    for (unsigned i = 0; i < table->negated_count && table->negated[i] < s.best; i++)
        if (holds(&table->rules[table->negated[i]], &address))
            (void)try_rule(&s, table->negated[i]);
    if (s.best != NO_RULE)
        *value = arena_strdup(arena, table->rules[s.best].result);
    return 0;
}

const struct table_ops table_cidr = {
    .type = "cidr", .keys = TABLE_PATTERNS, .open = cidr_open, .close = cidr_close, .find = cidr_find};
