/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/settings.h"

#include "lib/base/clock.h"
#include "lib/conf/param.h"

union value {
    bool flag;
    int64_t number;
    usec_t usec;
    const char *text;
};

static int
load_text(const struct conf *conf, struct arena *arena, const struct param *param, const char **text, struct err *err)
{
    if (param->kind == PARAM_RAW)
        *text = arena_strdup(arena, conf_raw(conf, param->name));
    else
        *text = conf_string(conf, arena, param->name, err);
    return *text ? 0 : -1;
}

static int
load(const struct conf *conf, struct arena *arena, const struct param *param, union value *value, struct err *err)
{
    switch (param->kind) {
    case PARAM_BOOL: return conf_bool(conf, param->name, &value->flag, err);
    case PARAM_INT: return conf_int(conf, param->name, &value->number, err);
    case PARAM_TIME: return conf_time(conf, param->name, &value->usec, err);
    default: return load_text(conf, arena, param, &value->text, err);
    }
}

int
settings_load(const struct conf *conf, struct arena *arena, const struct settings_field *fields, size_t count,
              void *settings, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct param param = param_at(fields[i].param);
        void *at = (char *)settings + fields[i].offset;
        union value value;
        if (load(conf, arena, &param, &value, err) < 0)
            return -1;
        switch (param.kind) {
        case PARAM_BOOL: *(bool *)at = value.flag; break;
        case PARAM_INT: *(int64_t *)at = value.number; break;
        case PARAM_TIME: *(usec_t *)at = value.usec; break;
        default: *(const char **)at = value.text;
        }
    }
    return 0;
}

int
settings_check(const struct conf *conf, struct arena *arena, unsigned index, struct err *err)
{
    struct param param = param_at(index);
    union value value;
    return load(conf, arena, &param, &value, err);
}
