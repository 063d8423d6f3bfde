/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix check` says of settings and services; `postfix start` asks for the part that must be right. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/conf/master_cf.h"
#include "lib/conf/param.h"
#include "lib/conf/settings.h"
#include "tools/postfix_command.h"

#define NEWEST_LEVEL "3.11"

struct settings_walk {
    struct control *c;
    bool tell_effects;
    int result;
};

static const char *
where(struct control *c, const char *name)
{
    const char *place = conf_where(c->conf, c->arena, name);
    return place ? place : arena_printf(c->arena, "%s/main.cf", conf_directory(c->conf));
}

static void
check_setting(void *ctx, const char *name, const char *value)
{
    struct settings_walk *walk = ctx;
    struct err err;
    int index = param_find(slice_from(name));
    (void)value;
    if (index < 0)
        return;
    struct param param = param_at((unsigned)index);
    if (settings_check(walk->c->conf, walk->c->arena, (unsigned)index, &err) < 0) {
        say_fatal("%s", err.text);
        walk->result = -1;
    }
    if (walk->tell_effects && param.status == PARAM_NO_EFFECT)
        say_warning("%s: parameter %s has no effect: %s", where(walk->c, name), name, param.detail);
    if (walk->tell_effects && param.status == PARAM_NOT_YET && strcmp(conf_raw(walk->c->conf, name), param.text) != 0)
        say_warning("%s: parameter %s has no effect yet", where(walk->c, name), name);
}

/* The same for a service's own settings, which count for its processes only. */
static void
check_options(const struct master_cf *master)
{
    for (size_t i = 0; i < master->count; i++) {
        const struct master_service *service = &master->services[i];
        for (size_t j = 0; j < service->option_count; j++) {
            int index = param_find(slice_from(service->options[j].name));
            if (index < 0)
                continue;
            struct param param = param_at((unsigned)index);
            if (param.status != PARAM_WORKS)
                say_warning("%s, line %u: service %s: parameter %s has no effect%s%s", master->path, service->line,
                            service->name, param.name, param.status == PARAM_NOT_YET ? " yet" : ": ", param.detail);
        }
    }
}

/* Defaults that newer versions changed, and that compatibility_level keeps. */
static void
check_old_defaults(struct control *c)
{
    bool any = false;
    for (unsigned i = 0; i < param_count(); i++) {
        struct param param = param_at(i);
        const char *value;
        struct err err;
        if (conf_old_default(c->conf, c->arena, param.name, &value, &err) < 0 || !value)
            continue;
        say("using backwards-compatible default setting %s=%s", param.name, *value ? value : "(empty)");
        any = true;
    }
    if (any)
        say("to use the new defaults: \"postconf compatibility_level=%s\" and \"postfix reload\"", NEWEST_LEVEL);
}

/* A configuration made for more programs than there are still starts. */
static void
check_programs(struct control *c, const struct master_cf *master, bool each)
{
    const char *missing = "";
    for (size_t i = 0; i < master->count; i++) {
        const struct master_service *service = &master->services[i];
        const char *path = arena_printf(c->arena, "%s/%s", c->settings.daemon_directory, service->command);
        if (*service->command == '/' || access(path, X_OK) == 0)
            continue;
        if (each)
            say_warning("%s: line %u: service %s: can't run %s: %s", master->path, service->line, service->name, path,
                        strerror(errno));
        missing = arena_printf(c->arena, "%s %s/%s", missing, service->name, master_type_name(service->type));
    }
    if (*missing && !each)
        say_warning("services without a program:%s", missing);
}

static int
check_services(struct control *c, bool tell_all)
{
    struct master_cf master;
    struct err err;
    if (master_cf_load(c->conf, c->arena, &master, &err) < 0) {
        say_fatal("%s", err.text);
        return -1;
    }
    for (size_t i = 0; tell_all && i < master.warning_count; i++)
        say_warning("%s", master.warnings[i]);
    check_programs(c, &master, tell_all);
    if (tell_all)
        check_options(&master);
    return 0;
}

int
check_settings(struct control *c, bool tell_effects)
{
    struct settings_walk walk = {.c = c, .tell_effects = tell_effects};
    for (unsigned i = 0; tell_effects && conf_warning(c->conf, i); i++)
        say_warning("%s", conf_warning(c->conf, i));
    conf_each_setting(c->conf, check_setting, &walk);
    if (check_services(c, tell_effects) < 0)
        walk.result = -1;
    if (tell_effects)
        check_old_defaults(c);
    return walk.result;
}
