/* SPDX-License-Identifier: Apache-2.0 */
/* postconf's work on master.cf: services (-M), their fields (-F) and their parameters (-P), shown and edited.
 *
 * An edit decides for each service of the file whether its lines stay, go, become comments or are written anew, and
 * then copies the file line by line; comments stay. What comes out is parsed before it replaces the file. */
#include <stdio.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/expand.h"
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
    return matches(pattern->service, service->name) && matches(pattern->type, service->fields[1]);
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

/* Whose $names are asked for. */
struct scope {
    const struct postconf *pc;
    const struct master_service *service;
};

/* The service's own settings come first; what runs it tells its names, whatever a file says. */
static int
scope_value(void *ctx, struct slice name, struct slice *value, struct err *err)
{
    const struct scope *scope = ctx;
    const struct master_service *service = scope->service;
    const char *command = service->fields[MASTER_CF_FIELDS - 1], *slash = strrchr(command, '/');
    (void)err;
    if (slice_equal_text(name, "service_name")) {
        *value = slice_from(service->name);
        return 0;
    }
    if (slice_equal_text(name, "process_name")) {
        *value = slice_from(slash ? slash + 1 : command);
        return 0;
    }
    for (size_t i = service->option_count; i > 0; i--)
        if (slice_equal_text(name, service->options[i - 1].name) && !conf_is_read_only(service->options[i - 1].name)) {
            *value = slice_from(service->options[i - 1].value);
            return 0;
        }
    *value = slice_from(conf_raw(scope->pc->conf, arena_strndup(scope->pc->arena, name.ptr, name.len)));
    return 0;
}

/* With -x what the text means in the service. */
static const char *
service_value(struct postconf *pc, const struct master_service *service, const char *text)
{
    struct scope scope = {pc, service};
    struct expand_source source = {.value = scope_value, .ctx = &scope};
    struct buf out = {0};
    struct err err;
    if (!pc->expand)
        return text;
    if (expand_text(&source, slice_from(text), &out, &err) < 0) {
        log_warning("%s", err.text);
        fatal("macro processing error");
    }
    const char *result = arena_strndup(pc->arena, out.ptr ? out.ptr : "", out.len);
    buf_release(&out);
    return result;
}

/* With -x, the service with its -o options expanded. What follows the options is for a command, whose $names are others. */
static struct master_service
shown(struct postconf *pc, const struct master_service *service)
{
    struct master_service copy = *service;
    size_t option = 0;
    if (!pc->expand)
        return copy;
    copy.args = arena_array(pc->arena, service->arg_count + 1, sizeof(*copy.args));
    for (size_t i = 0; i < service->arg_count; i++) {
        bool expands = i > 0 && option < service->option_count && strcmp(service->args[i - 1], "-o") == 0 &&
                       strchr(service->args[i], '=');
        if (expands)
            option++;
        copy.args[i] =
            expands ? arena_strdup(pc->arena, service_value(pc, service, service->args[i])) : service->args[i];
    }
    return copy;
}

static void
service_json(const struct master_service *service, struct buf *out)
{
    json_begin(out);
    for (unsigned i = 0; i < MASTER_CF_FIELDS; i++)
        json_member(out, field_names[i], service->fields[i]);
    json_name(out, "arguments");
    buf_append_byte(out, '[');
    for (size_t i = 0; i < service->arg_count; i++) {
        if (i > 0)
            buf_append_text(out, ", ");
        json_text(out, service->args[i]);
    }
    buf_append_byte(out, ']');
    json_end(out);
}

static bool
show_service(struct postconf *pc, const struct master_service *service, const struct pattern *pattern)
{
    struct buf out = {0};
    (void)pattern;
    struct master_service copy = shown(pc, service);
    if (pc->json)
        service_json(&copy, &out);
    else
        master_service_print(&copy, pc->fold, &out);
    fputs(buf_text(&out), stdout);
    buf_release(&out);
    return true;
}

/* The command with its arguments, as they would stand in the file behind before. */
static const char *
command_text(struct postconf *pc, const struct master_service *service, const char *before, bool folded)
{
    struct master_service copy = shown(pc, service);
    struct buf out = {0};
    buf_append_text(&out, before);
    master_command_print(&copy, folded, &out);
    const char *result = arena_strndup(pc->arena, out.ptr, out.len - 1);
    buf_release(&out);
    return result;
}

static const char *
full_name(struct postconf *pc, const struct master_service *service, const char *rest)
{
    return arena_printf(pc->arena, "%s/%s/%s", service->name, service->fields[1], rest);
}

/* kind: "field" or "parameter" */
static void
print_entry(struct postconf *pc, const struct master_service *service, const char *kind, const char *name,
            const char *value)
{
    struct buf out = {0};
    if (!pc->json) {
        postconf_print(pc, full_name(pc, service, name), value);
        return;
    }
    json_begin(&out);
    if (!pc->hide_name) {
        json_member(&out, "service", service->name);
        json_member(&out, "type", service->fields[1]);
        json_member(&out, kind, name);
    }
    postconf_json_value(pc, &out, postconf_squeeze(pc, value));
}

static bool
show_fields(struct postconf *pc, const struct master_service *service, const struct pattern *pattern)
{
    bool found = false;
    for (unsigned i = 0; i < MASTER_CF_FIELDS; i++) {
        if (!matches(pattern->rest, field_names[i]))
            continue;
        const char *name = arena_printf(pc->arena, "%s = ", full_name(pc, service, field_names[i]));
        if (i == MASTER_CF_FIELDS - 1 && pc->fold && !pc->json && !pc->hide_value)
            puts(command_text(pc, service, pc->hide_name ? "" : name, true));
        else
            print_entry(pc, service, "field", field_names[i],
                        i == MASTER_CF_FIELDS - 1 ? command_text(pc, service, "", false) : service->fields[i]);
        found = true;
    }
    return found;
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
        if (again || conf_is_read_only(sorted[i].name) || !matches(pattern->rest, sorted[i].name))
            continue;
        const char *value = last_value(service, sorted[i].name);
        print_entry(pc, service, "parameter", sorted[i].name, service_value(pc, service, value));
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
        master_cf_read(pc->arena, path, e->file.content, MASTER_CF_EDIT, &pc->master, &err) < 0)
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

/* What a service becomes, and the comments behind what was read of it so far. */
struct rewriting {
    const char *text; /* NULL: none is under way */
    struct buf comments;
};

static void
end_rewriting(struct rewriting *r, struct buf *out)
{
    if (r->text)
        buf_append_text(out, r->text);
    r->text = NULL;
    buf_append_slice(out, buf_slice(&r->comments));
    buf_clear(&r->comments);
}

/* Comments between the lines of a service that is written anew come to stand before it. */
static void
copy_lines(struct editing *e, struct buf *out)
{
    struct slice rest = e->file.content, line;
    struct rewriting r = {.text = NULL};
    size_t next = 0; /* service that begins; the one before it is that which the line belongs to */
    while (cf_physical_next(&rest, &line)) {
        bool comment = cf_is_comment(line), first = !comment && !cf_is_continuation(line);
        if (first) {
            end_rewriting(&r, out);
            next++;
        }
        check(next <= e->pc->master.count);
        size_t current = next - 1;
        enum fate fate = comment || next == 0 ? STAYS : e->fates[current];
        if (fate == STAYS) {
            put_line(r.text ? &r.comments : out, "", line);
        } else if (fate == COMMENTED_OUT) {
            put_line(out, "#", line);
        } else if (fate == REWRITTEN && first) {
            r.text = e->new_text[current];
        } else if (fate == REWRITTEN) {
            buf_append_slice(out, buf_slice(&r.comments));
            buf_clear(&r.comments);
        }
    }
    end_rewriting(&r, out);
    buf_release(&r.comments);
    buf_append_slice(out, buf_slice(&e->added));
}

static void
commit(struct editing *e)
{
    struct buf out = {0};
    struct err err;
    copy_lines(e, &out);
    if (cf_edit_commit(&e->file, buf_slice(&out), &err) < 0)
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

static void
warn_unmatched(const char *request)
{
    log_warning("unmatched service_name/type: \"%s\"", request);
}

/* -Me service/type=line: in the place of the first of its kind; further ones go. */
static void
set_service(struct editing *e, const struct pattern *pattern, const char *line)
{
    struct postconf *pc = e->pc;
    struct master_cf one;
    struct err err;
    bool found = false;
    if (master_cf_read(pc->arena, pc->master.path, slice_from(line), MASTER_CF_SHOW, &one, &err) < 0)
        fatal("%s in \"%s\"", err.text, line);
    if (one.count != 1)
        fatal("bad field count: \"%s\"", line);
    const char *text = printed(pc, &one.services[0]);
    for (size_t i = 0; i < pc->master.count; i++)
        if (pattern_matches(pattern, &pc->master.services[i])) {
            e->fates[i] = found ? REMOVED : REWRITTEN;
            e->new_text[i] = text;
            found = true;
        }
    if (!found)
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

/* A field by itself, in a line whose others are right. */
static bool
is_valid_field(struct postconf *pc, unsigned field, const char *value)
{
    const char *f[MASTER_CF_FIELDS] = {"x", "unix", "-", "-", "-", "-", "-", "x"};
    struct master_cf one;
    struct err err;
    if (field == 0 && strpbrk(value, ":["))
        f[1] = "inet";
    f[field] = value;
    const char *line =
        arena_printf(pc->arena, "%s %s %s %s %s %s %s %s", f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]);
    return master_cf_read(pc->arena, "", slice_from(line), MASTER_CF_SHOW, &one, &err) == 0 && one.count == 1 &&
           (field == MASTER_CF_FIELDS - 1 || (one.services[0].arg_count == 0 && !strpbrk(value, " \t")));
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
    if (master_cf_read(pc->arena, pc->master.path, slice_from(line), MASTER_CF_EDIT, &one, &err) < 0 ||
        one.count != 1 || !is_valid_field(pc, field, value))
        fatal("invalid %s field \"%s\" in \"%s\"", field_names[field], value, value);
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
        bool found = false;
        for (size_t i = 0; i < pc->master.count; i++)
            if (pattern_matches(&pattern, &pc->master.services[i])) {
                set_field(pc, &pc->master.services[i], field, value);
                rewrite(&e, i);
                found = true;
            }
        if (!found)
            warn_unmatched(*requests);
    }
    commit(&e);
}

static bool
is_option(const struct master_service *service, size_t i, const char *name)
{
    size_t len = strlen(name);
    return i + 1 < service->arg_count && strcmp(service->args[i], "-o") == 0 &&
           strncmp(service->args[i + 1], name, len) == 0 && service->args[i + 1][len] == '=';
}

/* Takes "-o", "name=..." out of the arguments. */
static void
remove_option(struct master_service *service, const char *name)
{
    for (size_t i = 0; i + 1 < service->arg_count;) {
        if (!is_option(service, i, name)) {
            i++;
            continue;
        }
        memmove(&service->args[i], &service->args[i + 2], (service->arg_count - i - 1) * sizeof(*service->args));
        service->arg_count -= 2;
    }
}

/* Behind it come arguments that mean something else: the command of spawn, the flags of pipe. */
static size_t
options_end(const struct master_service *service)
{
    size_t i = 0;
    while (i < service->arg_count && service->args[i][0] == '-')
        i += strcmp(service->args[i], "-o") == 0 ? 2 : 1;
    return i < service->arg_count ? i : service->arg_count;
}

/* Where it is there already, else behind the other options. */
static void
set_option(struct postconf *pc, struct master_service *service, const char *name, const char *value)
{
    char *setting = arena_printf(pc->arena, "%s=%s", name, value);
    bool found = false;
    for (size_t i = 0; i < service->arg_count; i++)
        if (is_option(service, i, name)) {
            service->args[++i] = setting;
            found = true;
        }
    if (found)
        return;
    char **args = arena_array(pc->arena, service->arg_count + 3, sizeof(*args));
    size_t end = options_end(service);
    for (size_t i = 0; i < service->arg_count; i++)
        args[i < end ? i : i + 2] = service->args[i];
    args[end] = arena_strdup(pc->arena, "-o");
    args[end + 1] = setting;
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
        if (strcmp(pattern.rest, "*") == 0)
            fatal("-Pe does not accept wild-card parameter name");
        bool found = false;
        for (size_t i = 0; i < pc->master.count; i++) {
            struct master_service *service = &pc->master.services[i];
            if (!pattern_matches(&pattern, service))
                continue;
            if (value)
                set_option(pc, service, pattern.rest, value);
            else
                remove_option(service, pattern.rest);
            rewrite(&e, i);
            found = true;
        }
        if (!found)
            warn_unmatched(*requests);
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
