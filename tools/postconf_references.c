/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/expand.h"
#include "lib/conf/param.h"
#include "tools/postconf_names.h"

void
references_warn(struct references *refs, const char *text)
{
    struct arena *arena = refs->pc->arena;
    if (map_put_text(refs->told, text, refs))
        return;
    const char **all = arena_array(arena, refs->warning_count + 1, sizeof(*all));
    if (refs->warning_count > 0)
        memcpy(all, refs->warnings, refs->warning_count * sizeof(*all));
    all[refs->warning_count++] = arena_strdup(arena, text);
    refs->warnings = all;
}

/* --- parameters of transports --- */

static bool
is_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

/* Delivery agents have all the scheduler's parameters; what runs commands has a time limit. */
bool
postconf_has_family(const struct master_service *service, const char *suffix)
{
    static const char *const agents[] = {"error", "lmtp", "local", "pipe", "smtp", "virtual", NULL};
    static const char *const runners[] = {"pipe", "spawn", NULL};
    return is_one_of(service->fields[MASTER_CF_FIELDS - 1], strcmp(suffix, "_time_limit") == 0 ? runners : agents);
}

bool
postconf_is_service_parameter(const struct postconf *pc, const char *name)
{
    for (size_t i = 0; i < pc->master.count; i++) {
        const struct master_service *service = &pc->master.services[i];
        size_t len = strlen(service->name);
        if (strncmp(name, service->name, len) != 0)
            continue;
        for (unsigned j = 0; param_family_suffix(j); j++)
            if (strcmp(name + len, param_family_suffix(j)) == 0 && postconf_has_family(service, name + len))
                return true;
    }
    return false;
}

bool
postconf_is_known(const struct postconf *pc, const char *name)
{
    return param_find(slice_from(name)) >= 0 || postconf_is_service_parameter(pc, name);
}

/* --- what values mention --- */

/* A walk over one value. */
struct walk {
    struct references *refs;
    size_t service; /* whose -o value it is; pc->master.count: main.cf's */
};

static const char *
local_key(const struct references *refs, size_t service, const char *name)
{
    return arena_printf(refs->pc->arena, "%zu %s", service, name);
}

static bool
service_sets(const struct master_service *service, const char *name)
{
    for (size_t i = 0; i < service->option_count; i++)
        if (strcmp(service->options[i].name, name) == 0)
            return true;
    return false;
}

static bool
some_service_sets(const struct postconf *pc, const char *name)
{
    for (size_t i = 0; i < pc->master.count; i++)
        if (service_sets(&pc->master.services[i], name))
            return true;
    return false;
}

static void
note_reference(void *ctx, struct slice reference)
{
    struct walk *walk = ctx;
    struct references *refs = walk->refs;
    struct postconf *pc = refs->pc;
    bool in_main = walk->service == pc->master.count;
    const char *name = arena_strndup(pc->arena, reference.ptr, reference.len);
    if (postconf_is_known(pc, name))
        return;
    if (!in_main && service_sets(&pc->master.services[walk->service], name)) {
        map_put_text(refs->local, local_key(refs, walk->service, name), refs);
        return;
    }
    if (conf_is_set(pc->conf, name) || (in_main && some_service_sets(pc, name))) {
        map_put_text(refs->used, name, refs);
        return;
    }
    references_warn(refs, arena_printf(pc->arena, "%s/%s: undefined parameter: %s", pc->directory,
                                       in_main ? "main.cf" : "master.cf", name));
}

static void
macro_error(const char *text)
{
    log_warning("%s", text);
    fatal("macro processing error");
}

static void
note_classes(struct walk *walk, const char *value)
{
    struct postconf *pc = walk->refs->pc;
    struct err err;
    const char *names = conf_expand(pc->conf, pc->arena, value, &err);
    if (!names) {
        log_warning("%s", err.text);
        fatal("dictionary mail_dict: macro processing error");
    }
    struct slice rest = slice_from(names), word;
    while (slice_word(&rest, ", \t\r\n", &word))
        note_reference(walk, word);
}

static void
note_setting(struct walk *walk, const char *name, const char *value)
{
    struct err err;
    int index = param_find(slice_from(name));
    if (index >= 0 && param_at((unsigned)index).kind == PARAM_RAW)
        return; /* its $names are not parameters */
    if (expand_names(slice_from(value), note_reference, walk, &err) < 0 ||
        (index >= 0 && !conf_expand(walk->refs->pc->conf, walk->refs->pc->arena, value, &err)))
        macro_error(err.text);
    if (strcmp(name, "smtpd_restriction_classes") == 0)
        note_classes(walk, value);
}

static void
note_main_setting(void *ctx, const char *name, const char *value)
{
    note_setting(ctx, name, value);
}

/* What nothing uses names no tables either. */
static void
note_main_tables(void *ctx, const char *name, const char *value)
{
    struct references *refs = ctx;
    if (postconf_is_known(refs->pc, name) || references_is_used(refs, name))
        references_note_tables(refs, value);
}

/* So many defaults depend on the level that nothing can be shown without a valid one. */
static void
check_level(struct postconf *pc)
{
    struct err err;
    int order;
    const char *level = conf_expand(pc->conf, pc->arena, "$compatibility_level", &err);
    if (!level || expand_compare_levels(slice_from(level), slice_from("0"), &order, &err) < 0)
        macro_error(err.text);
}

void
references_collect(struct references *refs, struct postconf *pc)
{
    struct walk walk = {.refs = refs, .service = pc->master.count};
    *refs = (struct references){.pc = pc, .used = map_new(), .local = map_new(), .told = map_new()};
    check_level(pc);
    conf_each_setting(pc->conf, note_main_setting, &walk);
    for (walk.service = 0; walk.service < pc->master.count; walk.service++) {
        const struct master_service *service = &pc->master.services[walk.service];
        for (size_t i = 0; i < service->option_count; i++)
            note_setting(&walk, service->options[i].name, service->options[i].value);
    }
    conf_each_setting(pc->conf, note_main_tables, refs);
    for (size_t i = 0; i < pc->master.count; i++)
        for (size_t j = 0; j < pc->master.services[i].option_count; j++)
            references_note_tables(refs, pc->master.services[i].options[j].value);
}

void
references_release(struct references *refs)
{
    map_free(&refs->used, NULL);
    map_free(&refs->local, NULL);
    map_free(&refs->told, NULL);
}

bool
references_is_used(const struct references *refs, const char *name)
{
    return map_get_text(refs->used, name) != NULL;
}

bool
references_is_used_by(const struct references *refs, size_t service, const char *name)
{
    return map_get_text(refs->local, local_key(refs, service, name)) != NULL;
}
