/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/expand.h"
#include "lib/conf/interfaces.h"
#include "lib/conf/main_cf.h"
#include "lib/conf/param.h"

/* Defaults that only this host, at this moment, can tell; made when first asked for. */
struct computed {
    const char *hostname, *domain, *networks;
    bool busy; /* being made: what it is made from must not ask for it */
};

struct setting {
    const char *name, *value;
    unsigned line; /* of main.cf; 0: set by -o */
};

struct conf {
    struct arena *arena;
    const char *directory;
    struct map *values; /* name to struct setting */
    const char *rename_from, *rename_to;
    struct computed *computed;
    char **warnings;
    unsigned warning_count;
};

static const struct setting *
find(const struct conf *conf, const char *name)
{
    return map_get_text(conf->values, name);
}

static void
put(struct conf *conf, const char *name, const char *value, unsigned line)
{
    struct setting *setting = ARENA_NEW(conf->arena, struct setting);
    *setting = (struct setting){arena_strdup(conf->arena, name), arena_strdup(conf->arena, value), line};
    map_put_text(conf->values, name, setting);
}

static void
add_warning(void *ctx, const char *text)
{
    struct conf *conf = ctx;
    char **all = arena_array(conf->arena, conf->warning_count + 1, sizeof(*all));
    if (conf->warning_count > 0)
        memcpy(all, conf->warnings, conf->warning_count * sizeof(*all));
    all[conf->warning_count++] = arena_strdup(conf->arena, text);
    conf->warnings = all;
}

const char *
conf_warning(const struct conf *conf, unsigned index)
{
    return index < conf->warning_count ? conf->warnings[index] : NULL;
}

/* What the program knows better than any file. */
bool
conf_is_read_only(const char *name)
{
    return strcmp(name, "process_id") == 0 || strcmp(name, "process_name") == 0 || strcmp(name, "service_name") == 0;
}

static void
warn_read_only(struct conf *conf, const char *name, const char *value)
{
    add_warning(conf, arena_printf(conf->arena, "%s/main.cf: read-only parameter assignment: %s=%s", conf->directory,
                                   name, value));
}

static int
add_entry(void *ctx, unsigned line, const char *name, const char *value, struct err *err)
{
    struct conf *conf = ctx;
    (void)err;
    if (conf_is_read_only(name)) {
        warn_read_only(conf, name, value);
        return 0;
    }
    const struct setting *old = find(conf, name);
    if (old && strcmp(old->value, value) != 0)
        add_warning(conf, arena_printf(conf->arena, "%s/main.cf, line %u: overriding earlier entry: %s=%s",
                                       conf->directory, line, name, old->value));
    put(conf, name, value, line);
    return 0;
}

static int
add_main_cf(struct conf *conf, struct slice content, struct err *err)
{
    struct main_cf_sink sink = {.entry = add_entry, .warning = add_warning, .ctx = conf};
    struct arena *scratch = arena_new();
    const char *path = arena_printf(scratch, "%s/main.cf", conf->directory);
    int result = main_cf_parse(scratch, path, content, &sink, err);
    arena_free(&scratch);
    return result;
}

struct conf *
conf_from_text(const char *directory, struct slice main_cf, struct err *err)
{
    struct arena *arena = arena_new();
    struct conf *conf = ARENA_NEW(arena, struct conf);
    conf->arena = arena;
    conf->directory = arena_strdup(arena, directory);
    conf->values = map_new();
    conf->computed = ARENA_NEW(arena, struct computed);
    if (add_main_cf(conf, main_cf, err) < 0) {
        conf_free(&conf);
        return NULL;
    }
    /* Where main.cf was found is where it is, whatever it says. */
    put(conf, "config_directory", directory, 0);
    return conf;
}

struct conf *
conf_load(const char *directory, struct err *err)
{
    if (!directory)
        directory = getenv("MAIL_CONFIG");
    if (!directory || !*directory)
        directory = DEF_CONFIG_DIR;

    struct arena *scratch = arena_new();
    struct conf *conf = NULL;
    struct slice content;
    if (cf_file_read(scratch, arena_printf(scratch, "%s/main.cf", directory), &content, err) == 0)
        conf = conf_from_text(directory, content, err);
    arena_free(&scratch);
    return conf;
}

void
conf_free(struct conf **conf)
{
    if (!*conf)
        return;
    struct arena *arena = (*conf)->arena;
    map_free(&(*conf)->values, NULL);
    arena_free(&arena);
    *conf = NULL;
}

int
conf_override(struct conf *conf, const char *name, const char *value, struct err *err)
{
    if (!*name || strpbrk(name, " \t\r\n="))
        return err_set(err, ERR_SYNTAX, "bad parameter name: \"%s\"", name);
    if (conf_is_read_only(name))
        warn_read_only(conf, name, value);
    else
        put(conf, name, value, 0);
    return 0;
}

void
conf_set_service_name(struct conf *conf, const char *name)
{
    put(conf, "service_name", name, 0);
}

const char *
conf_where(const struct conf *conf, struct arena *arena, const char *name)
{
    const struct setting *setting = find(conf, name);
    if (!setting || (setting->line == 0 && strcmp(name, "config_directory") == 0))
        return NULL;
    return setting->line > 0 ? arena_printf(arena, "%s/main.cf, line %u", conf->directory, setting->line)
                             : arena_printf(arena, "-o %s", name);
}

/* Puts the place of the setting before an error that its value made. */
static int
blame(const struct conf *conf, const char *name, struct err *err)
{
    const struct setting *setting = find(conf, name);
    if (setting && setting->line > 0)
        return err_context(err, "%s/main.cf, line %u", conf->directory, setting->line);
    return setting ? err_context(err, "-o %s", name) : -1;
}

const char *
conf_directory(const struct conf *conf)
{
    return conf->directory;
}

void
conf_rename(struct conf *conf, const char *from, const char *to)
{
    conf->rename_from = arena_strdup(conf->arena, from);
    conf->rename_to = arena_strdup(conf->arena, to);
}

static int
compare_settings(const void *a, const void *b)
{
    return strcmp(((const struct setting *)a)->name, ((const struct setting *)b)->name);
}

void
conf_each_setting(const struct conf *conf, void (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
    struct arena *arena = arena_new();
    struct setting *all = arena_array(arena, map_count(conf->values), sizeof(*all));
    size_t position = 0, count = 0;
    struct slice key;
    void *value;
    while (map_next(conf->values, &position, &key, &value))
        all[count++] = *(const struct setting *)value;
    qsort(all, count, sizeof(*all), compare_settings);
    for (size_t i = 0; i < count; i++)
        fn(ctx, all[i].name, all[i].value);
    arena_free(&arena);
}

/* --- defaults that are found at run time --- */

static const char *
make_hostname(const struct conf *conf)
{
    char name[256] = "";
    if (gethostname(name, sizeof(name) - 1) < 0 || !*name)
        return "localhost.localdomain";
    text_lower_all(name, strlen(name));
    if (strchr(name, '.'))
        return arena_strdup(conf->arena, name);
    const struct setting *domain = find(conf, "mydomain");
    return arena_printf(conf->arena, "%s.%s", name,
                        domain && !strchr(domain->value, '$') ? domain->value : "localdomain");
}

static const char *
make_domain(const struct conf *conf)
{
    struct err err;
    char *hostname = conf_string(conf, conf->arena, "myhostname", &err);
    char *dot = hostname ? strchr(hostname, '.') : NULL;
    return dot && dot[1] ? dot + 1 : "localdomain";
}

static const char *
make_networks(const struct conf *conf)
{
    struct err err;
    char *networks = interfaces_networks(conf, conf->arena, &err);
    if (networks)
        return networks;
    log_warning("mynetworks: can't find this host's networks: %s", err.text);
    return "127.0.0.1/32 [::1]/128";
}

static const char *
compute(const struct conf *conf, const char **slot, const char *(*make)(const struct conf *))
{
    if (!*slot) {
        if (conf->computed->busy)
            return "";
        conf->computed->busy = true;
        *slot = make(conf);
        conf->computed->busy = false;
    }
    return *slot;
}

/* text is "@...@", whole. */
static const char *
computed_default(const struct conf *conf, const char *text)
{
    if (strcmp(text, "@hostname@") == 0)
        return compute(conf, &conf->computed->hostname, make_hostname);
    if (strcmp(text, "@domain@") == 0)
        return compute(conf, &conf->computed->domain, make_domain);
    if (strcmp(text, "@networks@") == 0)
        return compute(conf, &conf->computed->networks, make_networks);
    if (strcmp(text, "@pid@") == 0)
        return arena_printf(conf->arena, "%ld", (long)getpid());
    if (strcmp(text, "@program@") == 0)
        return program_invocation_short_name;
    return text;
}

/* --- looking up --- */

static const char *
raw(const struct conf *conf, struct slice name)
{
    const struct setting *setting = map_get(conf->values, name);
    const char *text;
    if (setting)
        return setting->value;
    int index = param_find(name);
    if (index >= 0) {
        text = param_at((unsigned)index).text;
        return *text == '@' ? computed_default(conf, text) : text;
    }
    size_t transport_len;
    const char *fallback = param_family(name, &transport_len);
    return fallback ? raw(conf, slice_from(fallback)) : NULL;
}

const char *
conf_raw(const struct conf *conf, const char *name)
{
    return raw(conf, slice_from(name));
}

bool
conf_is_set(const struct conf *conf, const char *name)
{
    return find(conf, name) != NULL;
}

static int
source_value(void *ctx, struct slice name, struct slice *value, struct err *err)
{
    const char *text = raw(ctx, name);
    (void)err;
    *value = slice_from(text);
    return 0;
}

static char *
expand_from(const struct expand_source *source, struct arena *arena, const char *text, struct err *err)
{
    struct buf out = {0};
    char *result = NULL;
    if (expand_text(source, slice_from(text), &out, err) == 0)
        result = arena_strndup(arena, out.ptr ? out.ptr : "", out.len);
    buf_release(&out);
    return result;
}

char *
conf_expand(const struct conf *conf, struct arena *arena, const char *text, struct err *err)
{
    struct expand_source source = {.value = source_value, .ctx = (void *)(uintptr_t)conf};
    return strchr(text, '$') ? expand_from(&source, arena, text, err) : arena_strdup(arena, text);
}

/* As if nothing of main.cf counted that the default of name mentions but compatibility_level, which is the newest. */
static int
newest_value(void *ctx, struct slice name, struct slice *value, struct err *err)
{
    if (!slice_equal_text(name, "compatibility_level"))
        return source_value(ctx, name, value, err);
    *value = slice_from("999");
    return 0;
}

int
conf_old_default(const struct conf *conf, struct arena *arena, const char *name, const char **value, struct err *err)
{
    struct expand_source newest = {.value = newest_value, .ctx = (void *)(uintptr_t)conf};
    int index = param_find(slice_from(name));
    const char *text = index >= 0 ? param_at((unsigned)index).text : "";
    *value = NULL;
    if (conf_is_set(conf, name) || !strstr(text, "$compatibility_level"))
        return 0;
    const char *now = conf_string(conf, arena, name, err), *then = now ? expand_from(&newest, arena, text, err) : NULL;
    if (!then)
        return -1;
    if (strcmp(now, then) != 0)
        *value = now;
    return 0;
}

/* The name under which a typed question is answered. */
static const char *
renamed(const struct conf *conf, struct arena *arena, const char *name)
{
    size_t len = conf->rename_from ? strlen(conf->rename_from) : 0;
    if (len == 0 || strncmp(name, conf->rename_from, len) != 0)
        return name;
    char *other = arena_printf(arena, "%s%s", conf->rename_to, name + len);
    return param_find(slice_from(other)) >= 0 ? other : name;
}

static int
check_choice(const struct param *param, const char *value, struct err *err)
{
    struct slice words = slice_from(param->choices), word;
    if (!*value)
        return 0;
    while (slice_cut(&words, ',', &word))
        if (slice_equal_text(word, value))
            return 0;
    return err_set(err, ERR_SYNTAX, "bad value: %s = %s (known: %s)", param->name, value, param->choices);
}

char *
conf_string(const struct conf *conf, struct arena *arena, const char *name, struct err *err)
{
    name = renamed(conf, arena, name);
    const char *text = conf_raw(conf, name);
    if (!text) {
        err_set(err, ERR_PERM, "%s: unknown parameter", name);
        return NULL;
    }
    char *value = conf_expand(conf, arena, text, err);
    if (!value) {
        err_context(err, "parameter %s", name);
        blame(conf, name, err);
        return NULL;
    }
    int index = param_find(slice_from(name));
    if (index >= 0) {
        struct param param = param_at((unsigned)index);
        if (param.kind == PARAM_CHOICE && check_choice(&param, value, err) < 0) {
            blame(conf, name, err);
            return NULL;
        }
    }
    return value;
}

/* --- typed --- */

static int
parse_number(const char *text, int64_t *value)
{
    char *end;
    if (!text_is_digit(*text) && !(*text == '-' && text_is_digit(text[1])))
        return -1;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || *end)
        return -1;
    *value = number;
    return 0;
}

static usec_t
unit_length(char unit)
{
    switch (text_lower(unit)) {
    case 's': return SECONDS(1);
    case 'm': return SECONDS(60);
    case 'h': return SECONDS(3600);
    case 'd': return SECONDS(86400);
    case 'w': return SECONDS(604800);
    default: return 0;
    }
}

static int
parse_time(const char *text, char default_unit, usec_t *value)
{
    unsigned long long number;
    size_t digits = strspn(text, "0123456789");
    usec_t unit = unit_length(text[digits] ? text[digits] : default_unit);
    if (unit == 0 || (text[digits] && text[digits + 1]) ||
        slice_to_u64(slice_make(text, digits), INT64_MAX, &number) < 0)
        return -1;
    return __builtin_mul_overflow((usec_t)number, unit, value) ? -1 : 0;
}

static int
check_range(const char *name, const char *text, int64_t value, int64_t low, int64_t high, struct err *err)
{
    if (value < low)
        return err_set(err, ERR_SYNTAX, "invalid %s parameter value %s < %lld", name, text, (long long)low);
    if (value > high)
        return err_set(err, ERR_SYNTAX, "invalid %s parameter value %s > %lld", name, text, (long long)high);
    return 0;
}

/* Multiplies a limit of a range, keeping "none" none. */
static int64_t
scaled(int64_t limit, usec_t unit)
{
    int64_t result;
    if (limit == INT64_MIN || limit == INT64_MAX)
        return limit;
    return __builtin_mul_overflow(limit, unit, &result) ? INT64_MAX : result;
}

/* The row that says how to read the parameter: its own, or that of its family's fallback. */
static int
row_of(const char *name, struct param *param, struct err *err)
{
    size_t transport_len;
    int index = param_find(slice_from(name));
    if (index < 0) {
        const char *fallback = param_family(slice_from(name), &transport_len);
        index = fallback ? param_find(slice_from(fallback)) : -1;
    }
    if (index < 0)
        return err_set(err, ERR_PERM, "%s: unknown parameter", name);
    *param = param_at((unsigned)index);
    return 0;
}

/* Asks for the parameter's text and its row; then convert() makes the value. */
static int
typed(const struct conf *conf, const char *name,
      int (*convert)(const struct param *, const char *name, const char *text, void *value, struct err *), void *value,
      struct err *err)
{
    struct arena *arena = arena_new();
    struct param param;
    int result = -1;
    name = renamed(conf, arena, name);
    const char *text = conf_string(conf, arena, name, err);
    if (text && row_of(name, &param, err) == 0) {
        result = convert(&param, name, text, value, err);
        if (result < 0)
            blame(conf, name, err);
    }
    arena_free(&arena);
    return result;
}

static int
convert_int(const struct param *param, const char *name, const char *text, void *value, struct err *err)
{
    int64_t number;
    if (parse_number(text, &number) < 0)
        return err_set(err, ERR_SYNTAX, "bad numerical configuration: %s = %s", name, text);
    *(int64_t *)value = number;
    if (param->kind != PARAM_INT)
        return 0;
    return check_range(name, text, number, param->low, param->high, err);
}

static int
convert_bool(const struct param *param, const char *name, const char *text, void *value, struct err *err)
{
    (void)param;
    *(bool *)value = strcasecmp(text, "yes") == 0;
    if (*(bool *)value || strcasecmp(text, "no") == 0)
        return 0;
    return err_set(err, ERR_SYNTAX, "bad boolean configuration: %s = %s (it must be yes or no)", name, text);
}

static int
convert_time(const struct param *param, const char *name, const char *text, void *value, struct err *err)
{
    usec_t usec;
    char unit = param->kind == PARAM_TIME ? param->unit : 's';
    if (parse_time(text, unit, &usec) < 0)
        return err_set(err, ERR_SYNTAX, "parameter %s: bad time value or unit: %s (a number and one of s, m, h, d, w)",
                       name, text);
    *(usec_t *)value = usec;
    if (param->kind != PARAM_TIME)
        return 0;
    usec_t length = unit_length(unit);
    if (usec < scaled(param->low, length) || usec > scaled(param->high, length))
        return err_set(err, ERR_SYNTAX, "invalid %s: %s (must be %lld%c or %s)", name, text,
                       (long long)(usec < scaled(param->low, length) ? param->low : param->high), unit,
                       usec < scaled(param->low, length) ? "more" : "less");
    return 0;
}

int
conf_int(const struct conf *conf, const char *name, int64_t *value, struct err *err)
{
    return typed(conf, name, convert_int, value, err);
}

int
conf_bool(const struct conf *conf, const char *name, bool *value, struct err *err)
{
    return typed(conf, name, convert_bool, value, err);
}

int
conf_time(const struct conf *conf, const char *name, int64_t *usec, struct err *err)
{
    return typed(conf, name, convert_time, usec, err);
}

static int
family(const struct conf *conf, const char *transport, const char *suffix,
       int (*ask)(const struct conf *, const char *name, int64_t *, struct err *), int64_t *value, struct err *err)
{
    struct arena *arena = arena_new();
    int result = ask(conf, arena_printf(arena, "%s%s", transport, suffix), value, err);
    arena_free(&arena);
    return result;
}

int
conf_family_int(const struct conf *conf, const char *transport, const char *suffix, int64_t *value, struct err *err)
{
    return family(conf, transport, suffix, conf_int, value, err);
}

int
conf_family_time(const struct conf *conf, const char *transport, const char *suffix, int64_t *usec, struct err *err)
{
    return family(conf, transport, suffix, conf_time, usec, err);
}
