/* SPDX-License-Identifier: Apache-2.0 */
/* postconf's work on master.cf: services (-M), their fields (-F) and their parameters (-P), shown and edited.
 *
 * An edit decides for each service of the file whether its lines stay, go, become comments or are written anew, and
 * then copies the file line by line; comments stay where they are. What comes out is parsed before it replaces the file. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/main_cf.h"
#include "tools/postconf.h"

static const char *const field_names[MASTER_CF_FIELDS] = {
    "service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command",
};

/* "service/type/rest": NULL for what is not given. */
struct pattern {
    const char *service, *type, *rest;
    const char *whole;
};

static struct pattern
parse_pattern(struct arena *arena, const char *text)
{
    struct pattern pattern = {.whole = text};
    char *copy = arena_strdup(arena, text);
    pattern.service = strsep(&copy, "/");
    pattern.type = strsep(&copy, "/");
    pattern.rest = copy;
    return pattern;
}

static bool
matches(const char *pattern, const char *text)
{
    return !pattern || strcmp(pattern, "*") == 0 || strcmp(pattern, text) == 0;
}

static bool
pattern_matches(const struct pattern *pattern, const struct master_service *service)
{
    return matches(pattern->service, service->name) && matches(pattern->type, master_type_name(service->type));
}

/* --- showing --- */

static void
show_all(struct postconf *pc, char **patterns,
         bool (*show)(struct postconf *, const struct master_service *, const struct pattern *))
{
    static const struct pattern any = {.whole = "*"};
    if (!*patterns)
        for (size_t i = 0; i < pc->master.count; i++)
            show(pc, &pc->master.services[i], &any);
    for (; *patterns; patterns++) {
        struct pattern pattern = parse_pattern(pc->arena, *patterns);
        bool found = false;
        for (size_t i = 0; i < pc->master.count; i++)
            if (pattern_matches(&pattern, &pc->master.services[i]) && show(pc, &pc->master.services[i], &pattern))
                found = true;
        if (!found)
            log_warning("unmatched request: \"%s\"", *patterns);
    }
}

static bool
show_service(struct postconf *pc, const struct master_service *service, const struct pattern *pattern)
{
    struct buf out = {0};
    (void)pattern;
    master_service_print(service, pc->fold, &out);
    fputs(buf_text(&out), stdout);
    buf_release(&out);
    return true;
}

/* The command with its arguments, as they would stand in the file. */
static const char *
command_text(struct postconf *pc, const struct master_service *service)
{
    struct master_service bare = *service;
    struct buf out = {0};
    for (unsigned i = 0; i < MASTER_CF_FIELDS - 1; i++)
        bare.fields[i] = "";
    master_service_print(&bare, false, &out);
    struct slice text = slice_trim(buf_slice(&out));
    const char *result = arena_strndup(pc->arena, text.ptr, text.len);
    buf_release(&out);
    return result;
}

static const char *
full_name(struct postconf *pc, const struct master_service *service, const char *rest)
{
    return arena_printf(pc->arena, "%s/%s/%s", service->name, master_type_name(service->type), rest);
}

static bool
show_fields(struct postconf *pc, const struct master_service *service, const struct pattern *pattern)
{
    bool found = false;
    for (unsigned i = 0; i < MASTER_CF_FIELDS; i++) {
        if (!matches(pattern->rest, field_names[i]))
            continue;
        postconf_print(pc, full_name(pc, service, field_names[i]),
                       i == MASTER_CF_FIELDS - 1 ? command_text(pc, service) : service->fields[i]);
        found = true;
    }
    return found;
}

/* -x: the service's own settings come first. */
static const char *
service_value(struct postconf *pc, const struct master_service *service, const char *value)
{
    struct err err;
    if (!pc->expand)
        return value;
    for (size_t i = 0; i < service->option_count; i++)
        if (conf_override(pc->conf, service->options[i].name, service->options[i].value, &err) < 0)
            fatal("%s", err.text);
    return postconf_value(pc, value);
}

/* Of two settings of one name the last one counts. */
static const char *
last_value(const struct master_service *service, const char *name)
{
    const char *value = "";
    for (size_t i = 0; i < service->option_count; i++)
        if (strcmp(service->options[i].name, name) == 0)
            value = service->options[i].value;
    return value;
}

static int
compare_options(const void *a, const void *b)
{
    return strcmp(((const struct master_option *)a)->name, ((const struct master_option *)b)->name);
}

/* In the order of names. */
static bool
show_parameters(struct postconf *pc, const struct master_service *service, const struct pattern *pattern)
{
    bool found = false;
    size_t count = service->option_count;
    struct master_option *sorted = arena_array(pc->arena, count, sizeof(*sorted));
    if (count > 0)
        memcpy(sorted, service->options, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare_options);
    for (size_t i = 0; i < count; i++) {
        bool again = i + 1 < count && strcmp(sorted[i].name, sorted[i + 1].name) == 0;
        if (again || !matches(pattern->rest, sorted[i].name))
            continue;
        const char *value = last_value(service, sorted[i].name);
        postconf_print(pc, full_name(pc, service, sorted[i].name), service_value(pc, service, value));
        found = true;
    }
    return found;
}

/* --- editing --- */

enum fate { STAYS, COMMENTED_OUT, REMOVED, REWRITTEN };

struct editing {
    struct postconf *pc;
    struct cf_edit file;
    enum fate *fates;      /* of each service in pc->master */
    const char **new_text; /* REWRITTEN: its lines */
    struct buf added;      /* services for the end of the file */
};

static void
begin(struct editing *e, struct postconf *pc)
{
    struct err err;
    *e = (struct editing){.pc = pc};
    const char *path = arena_printf(pc->arena, "%s/master.cf", pc->directory);
    if (cf_edit_begin(&e->file, pc->arena, path, &err) < 0 ||
        master_cf_parse(pc->conf, pc->arena, path, e->file.content, &pc->master, &err) < 0)
        fatal("%s", err.text);
    e->fates = arena_array(pc->arena, pc->master.count, sizeof(*e->fates));
    e->new_text = arena_array(pc->arena, pc->master.count, sizeof(*e->new_text));
}

static void
put_line(struct buf *out, const char *before, struct slice line)
{
    buf_append_text(out, before);
    buf_append_slice(out, line);
    buf_append_byte(out, '\n');
}

static void
copy_lines(struct editing *e, struct buf *out)
{
    struct slice rest = e->file.content, line;
    size_t next = 0, current = 0; /* services: the next that begins, the one that the line belongs to */
    while (cf_physical_next(&rest, &line)) {
        bool comment = cf_is_comment(line), first = !comment && !cf_is_continuation(line);
        if (first)
            current = next++;
        check(comment || current < e->pc->master.count);
        enum fate fate = comment ? STAYS : e->fates[current];
        if (fate == STAYS)
            put_line(out, "", line);
        else if (fate == COMMENTED_OUT)
            put_line(out, "#", line);
        else if (fate == REWRITTEN && first)
            buf_append_text(out, e->new_text[current]);
    }
    buf_append_slice(out, buf_slice(&e->added));
}

static void
commit(struct editing *e)
{
    struct buf out = {0};
    struct master_cf result;
    struct err err;
    copy_lines(e, &out);
    if (master_cf_parse(e->pc->conf, e->pc->arena, e->pc->master.path, buf_slice(&out), &result, &err) < 0 ||
        cf_edit_commit(&e->file, buf_slice(&out), &err) < 0)
        fatal("%s", err.text);
    buf_release(&out);
    buf_release(&e->added);
}

static const char *
printed(struct postconf *pc, const struct master_service *service)
{
    struct buf out = {0};
    master_service_print(service, true, &out);
    const char *text = arena_strndup(pc->arena, out.ptr, out.len);
    buf_release(&out);
    return text;
}

static void
split_or_die(struct postconf *pc, const char *text, struct pattern *pattern, const char **value)
{
    struct err err;
    const char *name;
    if (main_cf_split(pc->arena, slice_from(text), &name, value, &err) < 0)
        fatal("%s", err.text);
    if (strpbrk(*value, "\r\n"))
        fatal("-e, -X, or -# accepts no multi-line input");
    *pattern = parse_pattern(pc->arena, name);
}

/* -Me service/type=line */
static void
set_service(struct editing *e, const struct pattern *pattern, const char *line)
{
    struct postconf *pc = e->pc;
    struct master_cf one;
    struct err err;
    if (master_cf_parse(pc->conf, pc->arena, pc->master.path, slice_from(line), &one, &err) < 0)
        fatal("%s in \"%s\"", err.text, line);
    if (one.count != 1)
        fatal("bad field count: \"%s\"", line);
    const char *text = printed(pc, &one.services[0]);
    for (size_t i = 0; i < pc->master.count; i++)
        if (pattern_matches(pattern, &pc->master.services[i])) {
            e->fates[i] = REWRITTEN;
            e->new_text[i] = text;
            return;
        }
    buf_append_text(&e->added, text);
}

static void
edit_services(struct postconf *pc, char **requests)
{
    struct editing e;
    begin(&e, pc);
    for (; *requests; requests++) {
        struct pattern pattern = parse_pattern(pc->arena, *requests);
        const char *line = "";
        if (pc->action == POSTCONF_EDIT)
            split_or_die(pc, *requests, &pattern, &line);
        else if (strchr(*requests, '='))
            fatal("-MX or -M# wants service_name/type only: \"%s\"", *requests);
        if (!pattern.type || pattern.rest)
            fatal("-Me, -MX or -M# requires service_name/type");
        if (pc->action == POSTCONF_EDIT) {
            set_service(&e, &pattern, line);
            continue;
        }
        for (size_t i = 0; i < pc->master.count; i++)
            if (pattern_matches(&pattern, &pc->master.services[i]))
                e.fates[i] = pc->action == POSTCONF_REMOVE ? REMOVED : COMMENTED_OUT;
    }
    commit(&e);
}

/* The changed service is printed anew: its fields, its command and arguments. */
static void
rewrite(struct editing *e, size_t index)
{
    e->fates[index] = REWRITTEN;
    e->new_text[index] = printed(e->pc, &e->pc->master.services[index]);
}

static void
set_field(struct postconf *pc, struct master_service *service, unsigned field, const char *value)
{
    static char *none[] = {NULL};
    struct err err;
    service->fields[field] = value;
    if (field == MASTER_CF_FIELDS - 1) {
        /* The whole command, arguments and all, is in the value. */
        service->args = none;
        service->arg_count = service->option_count = 0;
    }
    struct master_cf one;
    const char *line = printed(pc, service);
    if (master_cf_parse(pc->conf, pc->arena, pc->master.path, slice_from(line), &one, &err) < 0 || one.count != 1)
        fatal("invalid %s field \"%s\"", field_names[field], value);
    *service = one.services[0];
}

static void
edit_fields(struct postconf *pc, char **requests)
{
    struct editing e;
    begin(&e, pc);
    for (; *requests; requests++) {
        struct pattern pattern;
        const char *value;
        unsigned field = 0;
        split_or_die(pc, *requests, &pattern, &value);
        if (!pattern.rest)
            fatal("-F requires service_name/type/attribute: \"%s\"", *requests);
        while (field < MASTER_CF_FIELDS && strcmp(field_names[field], pattern.rest) != 0)
            field++;
        if (field == MASTER_CF_FIELDS)
            fatal("invalid service attribute name: \"%s\"", pattern.rest);
        if (!*value)
            fatal("missing value: \"%s\"", *requests);
        for (size_t i = 0; i < pc->master.count; i++)
            if (pattern_matches(&pattern, &pc->master.services[i])) {
                set_field(pc, &pc->master.services[i], field, value);
                rewrite(&e, i);
            }
    }
    commit(&e);
}

/* Takes "-o", "name=..." out of the arguments; returns where it stood, or the end. */
static size_t
remove_option(struct master_service *service, const char *name)
{
    size_t len = strlen(name), place = service->arg_count;
    for (size_t i = 0; i + 1 < service->arg_count; i++) {
        const char *setting = service->args[i + 1];
        if (strcmp(service->args[i], "-o") != 0 || strncmp(setting, name, len) != 0 || setting[len] != '=')
            continue;
        memmove(&service->args[i], &service->args[i + 2], (service->arg_count - i - 1) * sizeof(*service->args));
        service->arg_count -= 2;
        place = i--;
    }
    return place > service->arg_count ? service->arg_count : place;
}

static void
set_option(struct postconf *pc, struct master_service *service, const char *name, const char *value)
{
    size_t place = remove_option(service, name);
    char **args = arena_array(pc->arena, service->arg_count + 3, sizeof(*args));
    memcpy(args, service->args, place * sizeof(*args));
    args[place] = arena_strdup(pc->arena, "-o");
    args[place + 1] = arena_printf(pc->arena, "%s=%s", name, value);
    memcpy(&args[place + 2], &service->args[place], (service->arg_count - place) * sizeof(*args));
    service->args = args;
    service->arg_count += 2;
}

static void
edit_parameters(struct postconf *pc, char **requests)
{
    struct editing e;
    if (pc->action == POSTCONF_COMMENT_OUT)
        fatal("with option -P, do not specify -#");
    begin(&e, pc);
    for (; *requests; requests++) {
        struct pattern pattern = parse_pattern(pc->arena, *requests);
        const char *value = NULL;
        if (pc->action == POSTCONF_EDIT)
            split_or_die(pc, *requests, &pattern, &value);
        if (!pattern.rest)
            fatal("-P requires service_name/type/parameter: \"%s\"", *requests);
        for (size_t i = 0; i < pc->master.count; i++) {
            struct master_service *service = &pc->master.services[i];
            if (!pattern_matches(&pattern, service))
                continue;
            if (value)
                set_option(pc, service, pattern.rest, value);
            else
                remove_option(service, pattern.rest);
            rewrite(&e, i);
        }
    }
    commit(&e);
}

void
postconf_master_services(struct postconf *pc, char **patterns)
{
    if (pc->action == POSTCONF_SHOW)
        show_all(pc, patterns, show_service);
    else
        edit_services(pc, patterns);
}

void
postconf_master_fields(struct postconf *pc, char **patterns)
{
    if (pc->action == POSTCONF_SHOW)
        show_all(pc, patterns, show_fields);
    else
        edit_fields(pc, patterns);
}

void
postconf_master_parameters(struct postconf *pc, char **patterns)
{
    if (pc->action == POSTCONF_SHOW)
        show_all(pc, patterns, show_parameters);
    else
        edit_parameters(pc, patterns);
}
