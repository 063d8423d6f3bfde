/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/pattern_table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/table/pattern_filter.h"
#include "lib/table/pattern_rule.h"
#include "lib/table/pattern_sieve.h"

/* Making machine code of a pattern takes longer than hundreds of tries: it is for a few that are always tried. */
enum { NESTING_LIMIT = 100, OPTIMIZED_MOST = 100 };

/* Where the texts leave more rules than this to be tried, the sieve is asked, too. */
enum { SIEVE_FROM = 16 };

struct pattern_table {
    const struct pattern_engine *engine;
    struct arena *arena;
    void *context; /* the engine's */
    char *name;    /* "pcre:/etc/postfix/x" */
    unsigned flags;
    bool utf8;
    int fd;
    struct pattern_rule *rules;
    unsigned count, room;
    struct pattern_filter *filter;
    struct pattern_sieve *sieve;
    uint64_t *without_texts; /* rules that the filter knows nothing of */
    uint64_t *to_visit;      /* rules that are looked at also where their pattern can't match */
    unsigned open_ifs[NESTING_LIMIT], open_if_lines[NESTING_LIMIT], depth;
};

/* ---- making one ---- */

static struct pattern_rule *
new_rule(struct pattern_table *table)
{
    if (table->count == table->room) {
        table->room = table->room ? table->room * 2 : 64;
        table->rules = reallocarray(table->rules, table->room, sizeof *table->rules);
        if (!table->rules)
            fatal("out of memory");
    }
    struct pattern_rule *rule = &table->rules[table->count];
    *rule = (struct pattern_rule){0};
    return rule;
}

/* What the filter and the sieve can know of the pattern. */
static void
note_pattern(struct pattern_table *table, struct pattern_rule *rule, struct slice pattern)
{
    struct pattern_literals texts = {0};
    struct sieve_row row;

    if (rule->regex.plain_syntax && sieve_row_parse(pattern, rule->regex.dialect, rule->regex.lines, &row))
        pattern_sieve_add(table->sieve, &row, table->count);
    if (rule->regex.plain_syntax)
        pattern_literals(table->arena, pattern, rule->regex.dialect, &texts);
    for (unsigned i = 0; i < texts.count; i++)
        pattern_filter_add(table->filter, texts.text[i], table->count);
    rule->has_texts = texts.count > 0;
}

/* 1: the rule is there; 0: it is left out, with a warning. */
static int
compile(struct pattern_table *table, const struct table_lines *lines, const struct pattern_text *text,
        struct pattern_rule *rule, struct err *err)
{
    const char *why = NULL;

    rule->line = lines->number;
    rule->negated = text->negated;
    if (table->engine->compile(table->context, table->arena, text->pattern, text->flags, table->utf8, &rule->regex,
                               &why, err) < 0)
        return err_context(err, "%s map %s, line %u", table->engine->type, table->name, lines->number);
    if (!rule->regex.code)
        table_lines_warn(lines, "%s", why);
    return rule->regex.code != NULL;
}

static int
add_result(struct pattern_table *table, const struct table_lines *lines, struct slice line, struct err *err)
{
    struct pattern_rule *rule = new_rule(table);
    struct pattern_text text;

    if (pattern_text_parse(lines, table->engine, line, &text) < 0)
        return 0;
    if (text.rest.len == 0)
        table_lines_warn(lines, "no replacement text: using empty string");
    int compiled = compile(table, lines, &text, rule, err);
    if (compiled <= 0)
        return compiled;
    if (pattern_result_parse(lines, table->engine, table->arena, text.rest, rule) < 0) {
        table->engine->free_regex(&rule->regex);
        return 0;
    }
    if (rule->has_groups && (table->flags & TABLE_NO_REGSUB)) {
        table->engine->free_regex(&rule->regex);
        return err_set(err, ERR_PERM, "%s map %s, line %u: regular expression substitution is not allowed",
                       table->engine->type, table->name, lines->number);
    }
    note_pattern(table, rule, text.pattern);
    table->count++;
    return 0;
}

static int
add_if(struct pattern_table *table, const struct table_lines *lines, struct slice line, struct err *err)
{
    struct pattern_rule *rule = new_rule(table);
    struct pattern_text text;

    if (pattern_text_parse(lines, table->engine, line, &text) < 0)
        return 0;
    if (text.rest.len > 0)
        table_lines_warn(lines, "ignoring extra text after IF statement: \"%.*s\"", SLICE_ARG(text.rest));
    if (text.rest.len > 0)
        table_lines_warn(lines, "do not prepend whitespace to statements between IF and ENDIF");
    if (table->depth == NESTING_LIMIT)
        return err_set(err, ERR_SYNTAX, "%s map %s, line %u: IF nested too deeply", table->engine->type, table->name,
                       lines->number);
    int compiled = compile(table, lines, &text, rule, err);
    if (compiled <= 0)
        return compiled;
    rule->kind = RULE_IF;
    note_pattern(table, rule, text.pattern);
    table->open_if_lines[table->depth] = lines->number;
    table->open_ifs[table->depth++] = table->count++;
    return 0;
}

static void
add_endif(struct pattern_table *table, const struct table_lines *lines, struct slice rest)
{
    if (table->depth == 0) {
        table_lines_warn(lines, "ignoring ENDIF without matching IF");
        return;
    }
    if (rest.len > 0)
        table_lines_warn(lines, "ignoring extra text after ENDIF");
    table->rules[table->open_ifs[--table->depth]].end = table->count;
}

static bool
is_word(struct slice line, const char *word)
{
    size_t len = strlen(word);

    return slice_starts_with_fold(line, word) && (line.len == len || !text_is_alnum(line.ptr[len]));
}

static int
add_line(struct pattern_table *table, const struct table_lines *lines, struct slice line, struct err *err)
{
    if (!text_is_alnum(line.ptr[0]))
        return add_result(table, lines, line, err);
    if (is_word(line, "if"))
        return add_if(table, lines, slice_make(line.ptr + 2, line.len - 2), err);
    if (is_word(line, "endif"))
        add_endif(table, lines, slice_trim(slice_make(line.ptr + 5, line.len - 5)));
    else
        table_lines_warn(lines, "ignoring unrecognized request");
    return 0;
}

static void
complete(struct pattern_table *table, struct table_lines *lines)
{
    unsigned optimized = 0;

    while (table->depth > 0) {
        lines->number = table->open_if_lines[--table->depth];
        table_lines_warn(lines, "IF has no matching ENDIF");
        table->rules[table->open_ifs[table->depth]].end = table->count;
    }
    pattern_filter_complete(table->filter);
    pattern_sieve_complete(table->sieve);
    table->without_texts = arena_array(table->arena, table->count / 64 + 1, sizeof *table->without_texts);
    table->to_visit = arena_array(table->arena, table->count / 64 + 1, sizeof *table->to_visit);
    for (unsigned i = 0; i < table->count; i++) {
        const struct pattern_rule *rule = &table->rules[i];
        if (!rule->has_texts && table->engine->optimize && optimized++ < OPTIMIZED_MOST)
            table->engine->optimize(table->context, &rule->regex);
        if (!rule->has_texts)
            table->without_texts[i / 64] |= UINT64_C(1) << (i % 64);
        if (rule->kind == RULE_IF || rule->negated)
            table->to_visit[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

void *
pattern_table_open(const struct pattern_engine *engine, const struct conf *conf, const char *name, unsigned flags,
                   struct table_about *about, struct err *err)
{
    struct arena *arena = arena_new();
    struct pattern_table *table = ARENA_NEW(arena, struct pattern_table);
    struct buf text = {0};
    struct table_lines lines;
    struct slice line;

    (void)conf;
    *table = (struct pattern_table){.engine = engine, .arena = arena, .flags = flags, .fd = -1};
    table->name = arena_strdup(arena, name);
    table->utf8 = !(flags & TABLE_NO_UTF8);
    table->context = engine->context_new ? engine->context_new() : NULL;
    table->filter = pattern_filter_new(arena);
    table->sieve = pattern_sieve_new(arena);
    int result = table_text_open(name, &text, &table->fd, err);
    table_lines_begin(&lines, arena_printf(arena, "%s map %s", engine->type, name), buf_slice(&text));
    while (result == 0 && table_lines_next(&lines, &line))
        result = add_line(table, &lines, line, err);
    complete(table, &lines);
    table_lines_end(&lines);
    buf_release(&text);
    about->watch_fd = table->fd;
    if (result == 0)
        return table;
    pattern_table_close(table);
    return NULL;
}

void
pattern_table_close(void *state)
{
    struct pattern_table *table = state;
    struct arena *arena = table->arena;

    for (unsigned i = 0; i < table->count; i++)
        table->engine->free_regex(&table->rules[i].regex);
    if (table->engine->context_free)
        table->engine->context_free(table->context);
    if (table->fd >= 0)
        close(table->fd);
    free(table->rules);
    arena_free(&arena);
}

/* ---- asking ---- */

/* The first rule from index on that is to be looked at. */
static unsigned
next_rule(const struct pattern_table *table, const uint64_t *bits, unsigned index)
{
    while (index < table->count) {
        uint64_t word = bits[index / 64] >> (index % 64);
        if (word)
            return index + (unsigned)__builtin_ctzll(word);
        index = (index / 64 + 1) * 64;
    }
    return table->count;
}

struct search {
    struct pattern_table *table;
    struct slice subject;
    const uint64_t *possible; /* rules whose patterns may match */
    struct pattern_match *match;
};

static int
rule_applies(const struct search *s, unsigned index, struct err *err)
{
    const struct pattern_rule *rule = &s->table->rules[index];
    int matches = 0;

    if (s->possible[index / 64] >> (index % 64) & 1)
        matches = s->table->engine->match(s->table->context, &rule->regex, s->subject,
                                          rule->has_groups ? s->match : NULL, err);
    if (matches < 0)
        return err_context(err, "%s map %s, line %u", s->table->engine->type, s->table->name, rule->line);
    return matches != (int)rule->negated;
}

/* Sets the bits of rules whose patterns may match. */
static void
find_possible(const struct pattern_table *table, struct arena *arena, struct slice key, uint64_t *bits)
{
    size_t words = table->count / 64 + 1;
    int count = 0;

    /* In caseless UTF-8 a letter outside ASCII may match one inside. */
    if (table->utf8 && text_has_8bit(key)) {
        memset(bits, 0xff, words * sizeof *bits);
        return;
    }
    memcpy(bits, table->without_texts, words * sizeof *bits);
    pattern_filter_mark(table->filter, key, bits);
    for (size_t i = 0; i < words; i++)
        count += __builtin_popcountll(bits[i]);
    if (count > SIEVE_FROM)
        pattern_sieve_strike(table->sieve, arena, key, bits);
}

int
pattern_table_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct pattern_table *table = state;
    size_t words = table->count / 64 + 1;
    uint64_t *bits = arena_array(arena, words, 2 * sizeof *bits), *possible = bits + words;
    struct search s = {.table = table, .subject = arena_slice(arena, key), .possible = possible};

    s.match = ARENA_NEW(arena, struct pattern_match);
    find_possible(table, arena, key, possible);
    for (size_t i = 0; i < words; i++)
        bits[i] = possible[i] | table->to_visit[i];
    for (unsigned i = next_rule(table, bits, 0); i < table->count; i = next_rule(table, bits, i)) {
        const struct pattern_rule *rule = &table->rules[i];
        int applies = rule_applies(&s, i, err);
        if (applies < 0)
            return -1;
        if (applies && rule->kind == RULE_RESULT) {
            *value = pattern_result_text(rule, s.match, arena);
            return *value ? 0
                          : err_set(err, ERR_PERM, "%s map %s, line %u: the result is too long", table->engine->type,
                                    table->name, rule->line);
        }
        i = applies || rule->kind == RULE_RESULT ? i + 1 : rule->end;
    }
    return 0;
}
