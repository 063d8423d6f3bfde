/* SPDX-License-Identifier: Apache-2.0 */
/* Which parameters there are besides the table's: those of transports (from master.cf), and those of the administrator's
 * own, which exist as long as some other value mentions them. And the warnings for what does not fit. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/conf/expand.h"
#include "lib/conf/param.h"
#include "tools/postconf.h"

/* What a walk over the values collects. */
struct references {
    struct postconf *pc;
    struct map *used;                     /* names that main.cf's values mention */
    struct map *told;                     /* warnings given, so that each comes once */
    const struct master_service *service; /* whose -o values are looked at; NULL: main.cf's */
};

static void
warn_once(struct references *refs, const char *text)
{
    if (!refs->pc->quiet && !map_put_text(refs->told, text, refs))
        log_warning("%s", text);
}

static const char *
path_of(struct references *refs)
{
    return arena_printf(refs->pc->arena, "%s/%s", refs->pc->directory, refs->service ? "master.cf" : "main.cf");
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
static bool
has_family(const struct master_service *service, const char *suffix)
{
    static const char *const agents[] = {"error", "lmtp", "local", "pipe", "smtp", "virtual", NULL};
    static const char *const runners[] = {"pipe", "spawn", NULL};
    if (service->type != SERVICE_UNIX)
        return false;
    return is_one_of(service->command, strcmp(suffix, "_time_limit") == 0 ? runners : agents);
}

static bool
is_service_parameter(const struct postconf *pc, const char *name)
{
    size_t len;
    if (!param_family(slice_from(name), &len))
        return false;
    for (size_t i = 0; i < pc->master.count; i++) {
        const struct master_service *service = &pc->master.services[i];
        if (strlen(service->name) == len && memcmp(service->name, name, len) == 0 && has_family(service, name + len))
            return true;
    }
    return false;
}

static bool
is_known(const struct postconf *pc, const char *name)
{
    return param_find(slice_from(name)) >= 0 || is_service_parameter(pc, name);
}

/* --- references --- */

static bool
service_sets(const struct master_service *service, const char *name)
{
    for (size_t i = 0; service && i < service->option_count; i++)
        if (strcmp(service->options[i].name, name) == 0)
            return true;
    return false;
}

static void
note_reference(void *ctx, struct slice name)
{
    struct references *refs = ctx;
    const char *text = arena_strndup(refs->pc->arena, name.ptr, name.len);
    map_put_text(refs->used, text, refs);
    if (!is_known(refs->pc, text) && !conf_is_set(refs->pc->conf, text) && !service_sets(refs->service, text))
        warn_once(refs, arena_printf(refs->pc->arena, "%s: undefined parameter: %s", path_of(refs), text));
}

/* Tables that are defined in main.cf itself: "ldap:accounts" is described by accounts_server_host and so on. */
static void
note_inline_tables(struct references *refs, const char *value)
{
    static const char *const types[] = {"ldap", "mysql", "pgsql", "sqlite", "memcache", NULL};
    struct slice rest = slice_from(value), word, type;
    while (slice_word(&rest, ", \t\r\n{}", &word)) {
        if (slice_starts_with_fold(word, "proxy:"))
            word = slice_make(word.ptr + 6, word.len - 6);
        struct slice name = word;
        if (!slice_cut(&name, ':', &type) || name.len == 0 || slice_has_byte(name, '/') ||
            !is_one_of(arena_strndup(refs->pc->arena, type.ptr, type.len), types))
            continue;
        map_put_text(refs->used, arena_printf(refs->pc->arena, "%.*s_*", SLICE_ARG(name)), refs);
    }
}

static void
note_value(struct references *refs, const char *value)
{
    struct err err;
    if (expand_names(slice_from(value), note_reference, refs, &err) < 0)
        warn_once(refs, err.text);
    note_inline_tables(refs, value);
}

static void
note_setting(void *ctx, const char *name, const char *value)
{
    struct references *refs = ctx;
    struct slice rest = slice_from(value), word;
    int index = param_find(slice_from(name));
    if (index >= 0 && param_at((unsigned)index).kind == PARAM_RAW)
        return; /* its $names are not parameters */
    note_value(refs, value);
    if (strcmp(name, "smtpd_restriction_classes") == 0)
        while (slice_word(&rest, ", \t\r\n", &word))
            note_reference(refs, word);
}

static bool
is_of_inline_table(struct references *refs, const char *name)
{
    for (const char *at = strchr(name, '_'); at; at = strchr(at + 1, '_'))
        if (map_get_text(refs->used, arena_printf(refs->pc->arena, "%.*s_*", (int)(at - name), name)))
            return true;
    return false;
}

static bool
is_used(struct references *refs, const char *name)
{
    return map_get_text(refs->used, name) || is_of_inline_table(refs, name);
}

static void
release(struct references *refs)
{
    map_free(&refs->used, NULL);
    map_free(&refs->told, NULL);
}

static struct references
collect(struct postconf *pc)
{
    struct references refs = {.pc = pc, .used = map_new(), .told = map_new()};
    conf_each_setting(pc->conf, note_setting, &refs);
    for (size_t i = 0; i < pc->master.count; i++) {
        refs.service = &pc->master.services[i];
        for (size_t j = 0; j < refs.service->option_count; j++)
            note_value(&refs, refs.service->options[j].value);
    }
    refs.service = NULL;
    return refs;
}

static void
warn_unused(void *ctx, const char *name, const char *value)
{
    struct references *refs = ctx;
    if (!is_known(refs->pc, name) && !is_used(refs, name))
        warn_once(refs, arena_printf(refs->pc->arena, "%s: unused parameter: %s=%s", path_of(refs), name, value));
}

void
postconf_warn(struct postconf *pc)
{
    for (unsigned i = 0; !pc->quiet && conf_warning(pc->conf, i); i++)
        log_warning("%s", conf_warning(pc->conf, i));
    struct references refs = collect(pc);
    conf_each_setting(pc->conf, warn_unused, &refs);
    for (size_t i = 0; i < pc->master.count; i++) {
        refs.service = &pc->master.services[i];
        for (size_t j = 0; j < refs.service->option_count; j++)
            if (!conf_is_set(pc->conf, refs.service->options[j].name))
                warn_unused(&refs, refs.service->options[j].name, refs.service->options[j].value);
    }
    release(&refs);
}

unsigned
postconf_class(struct postconf *pc, const char *name)
{
    if (param_find(slice_from(name)) >= 0)
        return CLASS_BUILTIN;
    if (is_service_parameter(pc, name))
        return CLASS_SERVICE;
    if (!conf_is_set(pc->conf, name))
        return 0;
    bool was_quiet = pc->quiet;
    pc->quiet = true;
    struct references refs = collect(pc);
    bool used = is_used(&refs, name);
    release(&refs);
    pc->quiet = was_quiet;
    return used ? CLASS_USER : 0;
}

/* --- all of them --- */

struct names {
    struct references *refs;
    struct map *set;
};

static void
add_user(void *ctx, const char *name, const char *value)
{
    struct names *names = ctx;
    (void)value;
    if (!is_known(names->refs->pc, name) && is_used(names->refs, name))
        map_put_text(names->set, name, names);
}

static void
add_names(struct names *names, unsigned classes)
{
    struct postconf *pc = names->refs->pc;
    if (classes & CLASS_BUILTIN)
        for (unsigned i = 0; i < param_count(); i++)
            map_put_text(names->set, param_at(i).name, names);
    if (classes & CLASS_SERVICE)
        for (size_t i = 0; i < pc->master.count; i++)
            for (unsigned j = 0; param_family_suffix(j); j++) {
                const char *name = arena_printf(pc->arena, "%s%s", pc->master.services[i].name, param_family_suffix(j));
                if (has_family(&pc->master.services[i], param_family_suffix(j)) && param_find(slice_from(name)) < 0)
                    map_put_text(names->set, name, names);
            }
    if (classes & CLASS_USER)
        conf_each_setting(pc->conf, add_user, names);
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void
postconf_each(struct postconf *pc, unsigned classes, void (*fn)(struct postconf *, const char *name))
{
    bool was_quiet = pc->quiet;
    pc->quiet = true; /* the warnings were given already */
    struct references refs = collect(pc);
    pc->quiet = was_quiet;
    struct names names = {.refs = &refs, .set = map_new()};
    add_names(&names, classes);

    size_t count = 0, position = 0;
    char **all = arena_array(pc->arena, map_count(names.set), sizeof(*all));
    struct slice key;
    void *value;
    while (map_next(names.set, &position, &key, &value))
        all[count++] = arena_strndup(pc->arena, key.ptr, key.len);
    qsort(all, count, sizeof(*all), compare_names);
    for (size_t i = 0; i < count; i++)
        fn(pc, all[i]);
    map_free(&names.set, NULL);
    release(&refs);
}
