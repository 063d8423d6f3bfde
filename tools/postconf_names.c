/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/postconf_names.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/conf/param.h"

/* --- warnings --- */

enum { NEAR_NAME_LIMIT = 64 };

static unsigned
smallest(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters must be put in, taken out or changed to make a name of the other: the usual table, row by row. */
static unsigned
distance(const char *a, const char *b)
{
    unsigned row[NEAR_NAME_LIMIT + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > NEAR_NAME_LIMIT || b_len > NEAR_NAME_LIMIT)
        return NEAR_NAME_LIMIT;
    for (unsigned j = 0; j <= b_len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_len];
}

const char *
postconf_nearest(const char *name)
{
    size_t len = strlen(name);
    unsigned best = len < 6 ? 2 : len < 15 ? 3 : 4; /* must be less than this */
    const char *nearest = NULL;
    for (unsigned i = 0; i < param_count(); i++) {
        const char *other = param_at(i).name;
        unsigned d = distance(name, other);
        if (d < best) {
            best = d;
            nearest = other;
        }
    }
    return nearest;
}

static void
warn_unused(struct postconf *pc, const char *file, const char *name, const char *value)
{
    const char *nearest = postconf_nearest(name);
    log_warning("%s/%s: unused parameter: %s=%s", pc->directory, file, name, value);
    if (nearest)
        log_warning("%s/%s: is %s meant to be %s?", pc->directory, file, name, nearest);
}

static void
check_main_setting(void *ctx, const char *name, const char *value)
{
    struct references *refs = ctx;
    if (!postconf_is_known(refs->pc, name) && !references_is_used(refs, name))
        warn_unused(refs->pc, "main.cf", name, value);
}

/* Of two settings of one name only the last one counts. */
static bool
is_set_again(const struct master_service *service, size_t option)
{
    for (size_t i = option + 1; i < service->option_count; i++)
        if (strcmp(service->options[i].name, service->options[option].name) == 0)
            return true;
    return false;
}

static void
check_options(struct references *refs)
{
    struct postconf *pc = refs->pc;
    for (size_t i = 0; i < pc->master.count; i++)
        for (size_t j = 0; j < pc->master.services[i].option_count; j++) {
            const struct master_option *option = &pc->master.services[i].options[j];
            bool used = is_set_again(&pc->master.services[i], j) || postconf_is_known(pc, option->name) ||
                        references_is_used_by(refs, i, option->name) || references_is_used(refs, option->name);
            const char *key = arena_printf(pc->arena, "%s=%s", option->name, option->value);
            if (conf_is_read_only(option->name))
                log_warning("%s/master.cf: read-only parameter assignment: %s", pc->directory, key);
            else if (!used && !map_put_text(refs->told, key, refs))
                warn_unused(pc, "master.cf", option->name, option->value);
        }
}

void
postconf_warn(struct postconf *pc, bool about_main_cf)
{
    struct references refs;
    references_collect(&refs, pc);
    for (size_t i = 0; !pc->quiet && i < refs.warning_count; i++)
        log_warning("%s", refs.warnings[i]);
    if (!pc->quiet && about_main_cf)
        conf_each_setting(pc->conf, check_main_setting, &refs);
    if (!pc->quiet)
        check_options(&refs);
    references_release(&refs);
}

/* --- which there are --- */

unsigned
postconf_class(struct postconf *pc, const char *name)
{
    if (param_find(slice_from(name)) >= 0)
        return CLASS_BUILTIN;
    if (postconf_is_service_parameter(pc, name))
        return CLASS_SERVICE;
    if (!conf_is_set(pc->conf, name))
        return 0;
    struct references refs;
    references_collect(&refs, pc);
    bool used = references_is_used(&refs, name);
    references_release(&refs);
    return used ? CLASS_USER : 0;
}

struct names {
    struct references *refs;
    struct map *set;
};

static void
add_user(void *ctx, const char *name, const char *value)
{
    struct names *names = ctx;
    (void)value;
    if (!postconf_is_known(names->refs->pc, name) && references_is_used(names->refs, name))
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
                if (postconf_has_family(&pc->master.services[i], param_family_suffix(j)) &&
                    param_find(slice_from(name)) < 0)
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
    struct references refs;
    references_collect(&refs, pc);
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
    references_release(&refs);
}
