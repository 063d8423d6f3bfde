/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/addr_rewrite.h"

#include <string.h>
#include <strings.h>

#include "lib/mail/addr.h"
#include "lib/table/match_list.h"

enum {
    NESTING_LIMIT = 10
}; /* of canonical tables, as in Postfix: beyond it they go in circles, and the last result stays */

struct canonical {
    const char *parameter;
    struct maps *maps;
    unsigned roles;
};

struct masquerade {
    struct slice domain;
    bool is_exception;
};

struct addr_rewriter {
    const struct cleanup_settings *settings;
    struct addr_map_rules rules;
    struct canonical canonical[3]; /* in the order in which they act */
    struct maps *aliases, *sender_bcc, *recipient_bcc;
    struct masquerade *masquerade;
    unsigned masquerade_count, masquerade_roles;
    struct match_list *masquerade_exceptions;
    bool canonical_extension, alias_extension;
};

/* ---- making it ---- */

static int
parse_roles(const char *parameter, const char *text, unsigned *roles, struct err *err)
{
    static const struct {
        const char *word;
        enum addr_role role;
    } words[] = {
        {"envelope_sender", ADDR_ENVELOPE_SENDER},
        {"envelope_recipient", ADDR_ENVELOPE_RECIPIENT},
        {"header_sender", ADDR_HEADER_SENDER},
        {"header_recipient", ADDR_HEADER_RECIPIENT},
    };
    struct slice rest = slice_from(text), word;

    *roles = 0;
    while (slice_word(&rest, ", \t\r\n", &word)) {
        unsigned before = *roles;
        for (unsigned i = 0; i < ARRAY_LEN(words); i++)
            if (slice_equal_text_fold(word, words[i].word))
                *roles |= words[i].role;
        if (*roles == before)
            return err_set(err, ERR_SYNTAX, "%s: unknown class \"%.*s\"", parameter, SLICE_ARG(word));
    }
    return 0;
}

static int
open_canonical(struct arena *arena, const struct conf *conf, struct addr_rewriter *r, struct err *err)
{
    const struct cleanup_settings *s = r->settings;
    const struct {
        const char *parameter, *maps, *classes, *roles;
    } rows[] = {
        {"sender_canonical_maps", s->sender_canonical_maps, "sender_canonical_classes", s->sender_canonical_classes},
        {"recipient_canonical_maps", s->recipient_canonical_maps, "recipient_canonical_classes",
         s->recipient_canonical_classes},
        {"canonical_maps", s->canonical_maps, "canonical_classes", s->canonical_classes},
    };

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct canonical *c = &r->canonical[i];
        c->parameter = rows[i].parameter;
        c->maps = maps_new(arena, conf, rows[i].parameter, rows[i].maps, TABLE_FOLD_FIXED, err);
        if (!c->maps || parse_roles(rows[i].classes, rows[i].roles, &c->roles, err) < 0)
            return -1;
    }
    return 0;
}

static int
read_masquerade(struct arena *arena, const struct conf *conf, struct addr_rewriter *r, struct err *err)
{
    struct slice rest = slice_from(r->settings->masquerade_domains), word;

    r->masquerade = arena_array(arena, rest.len / 2 + 1, sizeof *r->masquerade);
    while (slice_word(&rest, ", \t\r\n", &word)) {
        struct masquerade *m = &r->masquerade[r->masquerade_count++];
        for (; word.len > 0 && *word.ptr == '!'; word = slice_make(word.ptr + 1, word.len - 1))
            m->is_exception = !m->is_exception;
        m->domain = word;
    }
    r->masquerade_exceptions =
        match_list_new(arena, conf, "masquerade_exceptions", r->settings->masquerade_exceptions, 0, err);
    if (!r->masquerade_exceptions)
        return -1;
    return parse_roles("masquerade_classes", r->settings->masquerade_classes, &r->masquerade_roles, err);
}

struct addr_rewriter *
addr_rewriter_new(struct arena *arena, const struct conf *conf, const struct cleanup_settings *s, struct err *err)
{
    struct addr_rewriter *r = ARENA_NEW(arena, struct addr_rewriter);

    r->settings = s;
    r->canonical_extension = addr_map_propagates(s->propagate_unmatched_extensions, "canonical");
    r->alias_extension = addr_map_propagates(s->propagate_unmatched_extensions, "virtual");
    if (addr_map_rules_load(arena, conf, &r->rules, err) < 0 || open_canonical(arena, conf, r, err) < 0 ||
        read_masquerade(arena, conf, r, err) < 0 ||
        !(r->aliases = maps_new(arena, conf, "virtual_alias_maps", s->virtual_alias_maps, TABLE_FOLD_FIXED, err)) ||
        !(r->sender_bcc = maps_new(arena, conf, "sender_bcc_maps", s->sender_bcc_maps, TABLE_FOLD_FIXED, err)) ||
        !(r->recipient_bcc = maps_new(arena, conf, "recipient_bcc_maps", s->recipient_bcc_maps, TABLE_FOLD_FIXED, err)))
        return NULL;
    return r;
}

const struct addr_map_rules *
addr_rewriter_rules(const struct addr_rewriter *r)
{
    return &r->rules;
}

bool
addr_rewriter_has_maps(const struct addr_rewriter *r, enum addr_role role)
{
    for (unsigned i = 0; i < ARRAY_LEN(r->canonical); i++)
        if ((r->canonical[i].roles & role) && !maps_is_empty(r->canonical[i].maps))
            return true;
    return r->masquerade_count > 0 && (r->masquerade_roles & role);
}

bool
addr_rewriter_has_aliases(const struct addr_rewriter *r)
{
    return !maps_is_empty(r->aliases);
}

/* ---- canonical ---- */

/* What comes out of a table is asked for again, until no table knows it. */
static int may_wait
apply_canonical(struct arena *arena, const struct addr_rewriter *r, const struct canonical *c, const char **address,
                const char **warned, struct err *err)
{
    const char *first = *address, *const * results;
    unsigned count;

    for (unsigned i = 0; i < NESTING_LIMIT; i++) {
        if (addr_map_find(arena, &r->rules, c->maps, *address, r->canonical_extension, &results, &count, err) < 0)
            return -1;
        if (count == 0)
            return 0;
        if (count > 1 && warned)
            *warned = arena_printf(arena, "multi-valued %s entry for %s", c->parameter, *address);
        bool is_same = strcasecmp(results[0], *address) == 0;
        *address = results[0];
        if (is_same)
            return 0;
    }
    if (warned)
        *warned = arena_printf(arena, "unreasonable %s map nesting for %s", c->parameter, first);
    return 0;
}

/* ---- masquerading ---- */

static bool
is_below(struct slice domain, struct slice parent)
{
    return domain.len > parent.len && parent.len > 0 && domain.ptr[domain.len - parent.len - 1] == '.' &&
           slice_equal_fold(slice_make(domain.ptr + domain.len - parent.len, parent.len), parent);
}

static int may_wait
apply_masquerade(struct arena *arena, const struct addr_rewriter *r, const char **address, struct err *err)
{
    struct slice local, domain;
    bool is_exempt = false;

    addr_split(*address, &local, &domain);
    if (domain.len == 0)
        return 0;
    if (!match_list_is_empty(r->masquerade_exceptions) &&
        match_list_text(r->masquerade_exceptions, local, &is_exempt, err) < 0)
        return -1;
    for (unsigned i = 0; i < r->masquerade_count && !is_exempt; i++) {
        const struct masquerade *m = &r->masquerade[i];
        bool same = slice_equal_fold(domain, m->domain);
        if (!same && !is_below(domain, m->domain))
            continue;
        if (!same && !m->is_exception)
            *address = arena_printf(arena, "%.*s@%.*s", SLICE_ARG(local), SLICE_ARG(m->domain));
        return 0;
    }
    return 0;
}

int may_wait
addr_rewriter_map(struct arena *arena, const struct addr_rewriter *r, const char *address, enum addr_role role,
                  const char **result, const char **warned, struct err *err)
{
    *result = address;
    if (!*address)
        return 0;
    for (unsigned i = 0; i < ARRAY_LEN(r->canonical); i++)
        if ((r->canonical[i].roles & role) && !maps_is_empty(r->canonical[i].maps) &&
            apply_canonical(arena, r, &r->canonical[i], result, warned, err) < 0)
            return -1;
    if (r->masquerade_count > 0 && (r->masquerade_roles & role))
        return apply_masquerade(arena, r, result, err);
    return 0;
}

/* ---- virtual aliases ---- */

struct expansion {
    struct arena *arena;
    const struct addr_rewriter *r;
    const char *recipient; /* for messages */
    const char **list;
    unsigned count, room;
};

static void
append(struct expansion *x, const char *address)
{
    if (x->count == x->room) {
        x->room = x->room ? x->room * 2 : 8;
        const char **larger = arena_array(x->arena, x->room, sizeof *larger);
        if (x->count)
            memcpy(larger, x->list, x->count * sizeof *larger);
        x->list = larger;
    }
    x->list[x->count++] = address;
}

/* A limit of 0 is none. */
static bool
exceeds(int64_t n, int64_t limit)
{
    return limit > 0 && n > limit;
}

/* Follows one address as long as tables know it; of several results the others wait at the end of the list. An address
 * that is among its own results stays. */
static int may_wait
follow(struct expansion *x, unsigned place, struct err *err)
{
    const struct cleanup_settings *s = x->r->settings;
    const char *const *results;
    unsigned count;

    for (int64_t depth = 0;; depth++) {
        const char *asked = x->list[place];
        bool is_own_result = false;
        if (addr_map_find(x->arena, &x->r->rules, x->r->aliases, asked, x->r->alias_extension, &results, &count, err) <
            0)
            return -1;
        if (count == 0)
            return 0;
        if (depth >= s->virtual_alias_recursion_limit)
            return err_set(err, ERR_PERM, "unreasonable virtual_alias_maps map nesting for %s", x->recipient);
        for (unsigned i = 0; i < count; i++) {
            if (exceeds((int64_t)strlen(results[i]), s->virtual_alias_address_length_limit))
                return err_set(err, ERR_PERM, "unreasonable virtual_alias_maps result %.100s... in expansion of %s",
                               results[i], x->recipient);
            if (strcasecmp(results[i], asked) == 0)
                is_own_result = true;
        }
        if (exceeds((int64_t)x->count + count - 1, s->virtual_alias_expansion_limit))
            return err_set(err, ERR_PERM, "unreasonable virtual_alias_maps map expansion size for %s", x->recipient);
        x->list[place] = is_own_result ? asked : results[0];
        for (unsigned i = is_own_result ? 0 : 1; i < count; i++)
            if (!is_own_result || strcasecmp(results[i], asked) != 0)
                append(x, results[i]);
        if (is_own_result)
            return 0;
    }
}

int may_wait
addr_rewriter_expand(struct arena *arena, const struct addr_rewriter *r, const char *recipient,
                     const char *const **results, unsigned *count, struct err *err)
{
    struct expansion x = {.arena = arena, .r = r, .recipient = recipient};

    append(&x, recipient);
    for (unsigned i = 0; i < x.count && !maps_is_empty(r->aliases); i++)
        if (follow(&x, i, err) < 0)
            return -1;
    *results = x.list;
    *count = x.count;
    return 0;
}

/* ---- copies ---- */

int may_wait
addr_rewriter_bcc(struct arena *arena, const struct addr_rewriter *r, const char *address, enum addr_role role,
                  const char **copy_to, struct err *err)
{
    const char *const *results;
    unsigned count;

    *copy_to = NULL;
    if (addr_map_find(arena, &r->rules, role == ADDR_ENVELOPE_SENDER ? r->sender_bcc : r->recipient_bcc, address, false,
                      &results, &count, err) < 0)
        return -1;
    if (count > 0)
        *copy_to = results[0];
    return 0;
}
