/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix check` says of settings and services; `postfix start` asks for the part that must be right. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/conf/master_cf.h"
#include "lib/conf/param.h"
#include "tools/postfix_values.h"

#define NEWEST_LEVEL "3.11"

struct settings_walk {
    struct scope scope;
    bool tell_effects;
    int result;
};

static void
tell_effect(const struct scope *scope, const char *name)
{
    struct param param = param_at((unsigned)param_find(slice_from(name)));
    if (param.status == PARAM_NO_EFFECT)
        say_warning("%s: parameter %s has no effect: %s", scope_place(scope, name), name, param.reason);
    if (param.status == PARAM_NOT_YET && strcmp(conf_raw(scope->conf, name), param.text) != 0)
        say_warning("%s: parameter %s %s%s", scope_place(scope, name), name,
                    *param.reason ? "does not work yet: " : "has no effect yet", param.reason);
}

static void
check_setting(void *ctx, const char *name, const char *value)
{
    struct settings_walk *walk = ctx;
    (void)value;
    bool typed = check_typed_value(&walk->scope, name) == 0;
    if (!typed)
        walk->result = -1;
    if (!walk->tell_effects)
        return;
    if (param_find(slice_from(name)) >= 0)
        tell_effect(&walk->scope, name);
    if (typed && check_special_value(&walk->scope, name) < 0)
        walk->result = -1;
    check_table_value(&walk->scope, name);
}

/* A service's own settings, which count for its processes only. -1: some can't be used. */
static int
check_options(struct control *c, const struct master_cf *master, const struct master_service *service)
{
    struct settings_walk walk = {.scope = {.c = c, .master = master, .service = service}, .tell_effects = true};
    struct err err;
    if (service->option_count == 0)
        return 0;
    struct conf *conf = conf_load(conf_directory(c->conf), &err);
    if (!conf) {
        say_fatal("%s", err.text);
        return -1;
    }
    conf_set_service_name(conf, service->name);
    for (size_t i = 0; i < service->option_count; i++)
        if (conf_override(conf, service->options[i].name, service->options[i].value, &err) < 0) {
            say_fatal("%s, line %u: service %s: %s", master->path, service->line, service->name, err.text);
            walk.result = -1;
        }
    walk.scope.conf = conf;
    for (size_t i = 0; i < service->option_count; i++)
        if (!conf_is_read_only(service->options[i].name))
            check_setting(&walk, service->options[i].name, service->options[i].value);
    conf_free(&conf);
    return walk.result;
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
    if (!c->settings.daemon_directory)
        return; /* what the command needs could not be read */
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

/* -1: master.cf can't be used. */
static int
check_services(struct control *c, const struct master_cf *master, bool tell_all)
{
    int result = 0;
    check_programs(c, master, tell_all);
    for (size_t i = 0; tell_all && i < master->warning_count; i++)
        say_warning("%s", master->warnings[i]);
    for (size_t i = 0; tell_all && i < master->count; i++)
        if (check_options(c, master, &master->services[i]) < 0)
            result = -1;
    return result;
}

int
check_settings(struct control *c, bool tell_effects)
{
    struct settings_walk walk = {.scope = {.c = c, .conf = c->conf}, .tell_effects = tell_effects};
    struct master_cf master;
    struct err err;
    for (unsigned i = 0; tell_effects && conf_warning(c->conf, i); i++)
        say_warning("%s", conf_warning(c->conf, i));
    if (master_cf_load(c->conf, c->arena, &master, &err) == 0) {
        walk.scope.master = &master;
    } else {
        say_fatal("%s", err.text);
        walk.result = -1;
    }
    conf_each_setting(c->conf, check_setting, &walk);
    if (walk.scope.master && check_services(c, &master, tell_effects) < 0)
        walk.result = -1;
    if (tell_effects)
        check_old_defaults(c);
    return walk.result;
}
