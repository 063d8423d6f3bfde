/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/source_conf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/conf/cf_file.h"

struct source_conf {
    const char *type, *name;
    struct map *values;
    struct arena *arena;
};

static void
release_map(void *map)
{
    struct map *gone = map;

    map_free(&gone, NULL);
}

static bool
is_known(const char *const *parameters, struct slice name)
{
    for (; *parameters; parameters++)
        if (slice_equal_text(name, *parameters))
            return true;
    return false;
}

static int
take_line(struct source_conf *s, const struct cf_line *line, const char *const *parameters, struct err *err)
{
    struct slice rest = line->text, name;

    if (line->orphan || !memchr(rest.ptr, '=', rest.len))
        return err_set(err, ERR_PERM, "%s, line %u: \"name = value\" is expected", s->name, line->number);
    slice_cut(&rest, '=', &name);
    name = slice_trim(name);
    rest = slice_trim(rest);
    if (!is_known(parameters, name))
        log_warning("%s, line %u: unused parameter: %.*s", s->name, line->number, SLICE_ARG(name));
    map_put(s->values, name, arena_strndup(s->arena, rest.ptr ? rest.ptr : "", rest.len));
    return 0;
}

static int
load_file(struct source_conf *s, const char *const *parameters, int *fd, struct err *err)
{
    struct slice content;
    struct cf_line line;
    unsigned number = 0;

    if (cf_file_read(s->arena, s->name, &content, err) < 0)
        return -1;
    while (cf_line_next(s->arena, &content, &number, &line))
        if (take_line(s, &line, parameters, err) < 0)
            return -1;
    *fd = open(s->name, O_RDONLY | O_CLOEXEC);
    return *fd < 0 ? err_errno(err, "open %s", s->name) : 0;
}

static int
load_main_cf(struct source_conf *s, const struct conf *conf, const char *const *parameters, struct err *err)
{
    bool any = false;

    for (; *parameters; parameters++) {
        char *full = arena_printf(s->arena, "%s_%s", s->name, *parameters);
        char *value;

        if (!conf_is_set(conf, full))
            continue;
        value = conf_expand(conf, s->arena, conf_raw(conf, full), err);
        if (!value)
            return -1;
        map_put_text(s->values, *parameters, value);
        any = true;
    }
    return any ? 0 : err_set(err, ERR_PERM, "%s:%s: main.cf has no parameter %s_...", s->type, s->name, s->name);
}

struct source_conf *
source_conf_load(struct arena *arena, const struct conf *conf, const char *type, const char *name,
                 const char *const *parameters, int *fd, struct err *err)
{
    struct source_conf *s = ARENA_NEW(arena, struct source_conf);
    int result;

    *fd = -1;
    s->arena = arena;
    s->type = type;
    s->name = arena_strdup(arena, name);
    s->values = map_new();
    arena_defer(arena, release_map, s->values);
    if (name[0] == '/' || name[0] == '.')
        result = load_file(s, parameters, fd, err);
    else
        result = load_main_cf(s, conf, parameters, err);
    return result < 0 ? NULL : s;
}

const char *
source_conf_get(const struct source_conf *s, const char *parameter)
{
    return map_get_text(s->values, parameter);
}

const char *
source_conf_text(const struct source_conf *s, const char *parameter, const char *otherwise)
{
    const char *value = source_conf_get(s, parameter);

    return value ? value : otherwise;
}

void
source_conf_default(struct source_conf *s, const char *parameter, const char *value)
{
    if (!source_conf_get(s, parameter))
        map_put_text(s->values, parameter, arena_strdup(s->arena, value));
}

int
source_conf_number(const struct source_conf *s, const char *parameter, unsigned otherwise, unsigned least,
                   unsigned most, unsigned *number, struct err *err)
{
    const char *text = source_conf_get(s, parameter);
    unsigned long long n = otherwise;

    if (text && *text && (slice_to_u64(slice_from(text), most, &n) < 0 || n < least))
        return err_set(err, ERR_PERM, "%s: bad numerical configuration: %s = %s", s->name, parameter, text);
    *number = (unsigned)n;
    return 0;
}

int
source_conf_time(const struct source_conf *s, const char *parameter, unsigned otherwise, unsigned *seconds,
                 struct err *err)
{
    static const struct {
        char unit;
        unsigned seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    struct slice text = slice_from(source_conf_text(s, parameter, ""));
    unsigned long long n;
    unsigned factor = 1;

    *seconds = otherwise;
    if (text.len == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (text.ptr[text.len - 1] == units[i].unit)
            factor = units[i].seconds;
    if (!text_is_digit(text.ptr[text.len - 1]))
        text.len--;
    if (slice_to_u64(text, 10000, &n) < 0)
        return err_set(err, ERR_PERM, "%s: bad time: %s = %s", s->name, parameter, source_conf_get(s, parameter));
    *seconds = (unsigned)n * factor;
    return 0;
}

int
source_conf_bool(const struct source_conf *s, const char *parameter, bool otherwise, bool *out, struct err *err)
{
    struct slice text = slice_from(source_conf_text(s, parameter, ""));

    *out = otherwise;
    if (text.len == 0)
        return 0;
    *out = slice_equal_text_fold(text, "yes");
    if (*out || slice_equal_text_fold(text, "no"))
        return 0;
    return err_set(err, ERR_PERM, "%s: bad boolean configuration: %s = %s", s->name, parameter, text.ptr);
}
