/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/environment.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/conf/list.h"
#include "lib/conf/main_cf.h"

/* The parameter's list as "NAME=value" texts. Texts are copied: they outlive the environment that they come from. */
static char **
collect(const struct conf *conf, struct arena *arena, const char *parameter, size_t *count, struct err *err)
{
    char *list = conf_string(conf, arena, parameter, err);
    if (!list)
        return NULL;
    struct slice rest = slice_from(list), item;
    char **all = arena_array(arena, strlen(list) + 2, sizeof(*all));
    bool braced;
    int more;
    *count = 0;
    while ((more = list_next(&rest, &item, &braced, err)) > 0) {
        char *text = arena_strndup(arena, item.ptr, item.len);
        const char *name = text, *value = getenv(text);
        if (braced || strchr(text, '='))
            if (main_cf_split(arena, item, &name, &value, err) < 0)
                more = -1;
        if (more < 0)
            break;
        if (value)
            all[(*count)++] = arena_printf(arena, "%s=%s", name, value);
    }
    if (more < 0) {
        err_context(err, "parameter %s", parameter);
        return NULL;
    }
    return all;
}

char **
environment_imported(const struct conf *conf, struct arena *arena, size_t *count, struct err *err)
{
    return collect(conf, arena, "import_environment", count, err);
}

int
environment_import(const struct conf *conf, struct err *err)
{
    struct arena *arena = arena_new();
    size_t count = 0;
    char **all = environment_imported(conf, arena, &count, err);
    int result = all ? 0 : -1;
    if (all && clearenv() != 0)
        result = err_set(err, ERR_TEMP, "can't clear the environment");
    for (size_t i = 0; i < count && result == 0; i++) {
        char *value = strchr(all[i], '=');
        *value = 0;
        if (setenv(all[i], value + 1, 1) < 0)
            result = err_errno(err, "set environment variable %s", all[i]);
    }
    arena_free(&arena);
    return result;
}

char **
environment_export(const struct conf *conf, struct arena *arena, struct err *err)
{
    size_t count = 0;
    char **all = collect(conf, arena, "export_environment", &count, err);
    if (!all)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (strncmp(all[i], "PATH=", 5) == 0)
            return all;
    all[count] = arena_strdup(arena, "PATH=/usr/bin:/bin");
    return all;
}
