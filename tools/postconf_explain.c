/* SPDX-License-Identifier: Apache-2.0 */
/* postconf --explain: all that is known of a parameter: what it does, what it is set to and where, who reads it. */
#include <stdio.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/param.h"
#include "lib/conf/param_help.h"
#include "tools/postconf_names.h"

enum { TEXT_COLUMN = 78 };

/* Words of the text, in lines that begin with a margin. */
static void
print_folded(const char *margin, struct slice text)
{
    struct slice word;
    size_t column = 0;
    while (slice_word(&text, " \t\r\n", &word)) {
        if (column > 0 && column + 1 + word.len > TEXT_COLUMN) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column == 0 ? margin : " ", SLICE_ARG(word));
    }
    if (column > 0)
        putchar('\n');
}

static const char *
range_text(struct postconf *pc, const struct param *param)
{
    const char *low = param->low == INT64_MIN ? "" : arena_printf(pc->arena, ", at least %lld", (long long)param->low);
    const char *high =
        param->high == INT64_MAX ? "" : arena_printf(pc->arena, ", at most %lld", (long long)param->high);
    return arena_printf(pc->arena, "%s%s", low, high);
}

static const char *
kind_text(struct postconf *pc, const struct param *param)
{
    switch (param->kind) {
    case PARAM_BOOL: return "yes or no";
    case PARAM_INT: return arena_printf(pc->arena, "number%s", range_text(pc, param));
    case PARAM_TIME:
        return arena_printf(pc->arena, "time (s, m, h, d, w; a bare number is in %c)%s", param->unit,
                            range_text(pc, param));
    case PARAM_CHOICE: return arena_printf(pc->arena, "one of %s", param->choices);
    case PARAM_RAW: return "text, in which $names are not parameters";
    default: return "text";
    }
}

static void
print_status(const struct param *param)
{
    if (param->status == PARAM_NO_EFFECT)
        printf("    effect:   none: %s\n", param->reason);
    else if (param->status == PARAM_NOT_YET)
        printf("    effect:   %s%s\n",
               *param->reason ? "in a later version; until then: " : "none yet; in a later version", param->reason);
}

static void
print_value(struct postconf *pc, const char *name, bool raw)
{
    struct err err;
    const char *where = conf_where(pc->conf, pc->arena, name), *value = conf_raw(pc->conf, name);
    const char *squeezed = postconf_squeeze(pc, value ? value : "");
    printf("    value:    %s\n", *squeezed ? squeezed : "(empty)");
    if (!raw && strchr(squeezed, '$')) {
        const char *expanded = conf_expand(pc->conf, pc->arena, squeezed, &err);
        expanded = expanded ? postconf_squeeze(pc, expanded) : arena_printf(pc->arena, "(%s)", err.text);
        printf("    that is:  %s\n", *expanded ? expanded : "(empty)");
    }
    printf("    set in:   %s\n", where ? where : "nowhere, this is the default");
    for (size_t i = 0; i < pc->master.count; i++) {
        const struct master_service *service = &pc->master.services[i];
        for (size_t j = 0; j < service->option_count; j++)
            if (strcmp(service->options[j].name, name) == 0)
                printf("    but in:   %s, line %u, service %s/%s: -o %s=%s\n", pc->master.path, service->line,
                       service->name, service->fields[1], name, postconf_squeeze(pc, service->options[j].value));
    }
}

static void
print_help(const char *text)
{
    struct slice rest = slice_from(text), paragraph;
    while (slice_cut(&rest, '\n', &paragraph)) {
        putchar('\n');
        print_folded("    ", paragraph);
    }
}

static const char *
default_text(const struct param *param)
{
    static const char *const found[][2] = {
        {"@hostname@", "(the host's name)"},
        {"@domain@", "(what follows the first dot of myhostname)"},
        {"@networks@", "(this host's networks, as mynetworks_style says)"},
        {"@pid@", "(the process's number)"},
        {"@program@", "(the program's name)"},
    };
    for (size_t i = 0; i < sizeof(found) / sizeof(*found); i++)
        if (strcmp(param->text, found[i][0]) == 0)
            return found[i][1];
    return *param->text ? param->text : "(empty)";
}

static void
explain_builtin(struct postconf *pc, const char *name, unsigned index)
{
    struct param param = param_at(index);
    const struct param_help *help = &param_helps[index];
    bool ours = strcmp(help->since, "ours") == 0;
    printf("%s\n", name);
    print_folded("    ", slice_from(help->line));
    print_value(pc, name, param.kind == PARAM_RAW);
    printf("    default:  %s\n", default_text(&param));
    printf("    kind:     %s\n", kind_text(pc, &param));
    printf("    read by:  %s\n", strcmp(help->readers, "-") == 0 ? "nobody" : help->readers);
    if (ours)
        printf("    since:    Postfix does not have it\n");
    else if (strcmp(help->since, "-") != 0)
        printf("    since:    Postfix %s\n", help->since);
    print_status(&param);
    print_help(help->text);
}

static void
explain(struct postconf *pc, const char *name)
{
    size_t len;
    int index = param_find(slice_from(name));
    const char *fallback = param_family(slice_from(name), &len);
    const char *nearest = postconf_nearest(name);
    if (index >= 0) {
        explain_builtin(pc, name, (unsigned)index);
    } else if (postconf_is_service_parameter(pc, name) && fallback) {
        printf("%s\n    %s for the service %.*s.\n", name, fallback, (int)len, name);
        print_value(pc, name, false);
    } else if (conf_is_set(pc->conf, name)) {
        printf("%s\n    A name of your own: other settings may use it as $%s.\n", name, name);
        print_value(pc, name, false);
    } else {
        log_warning("%s: unknown parameter", name);
        if (nearest)
            log_warning("is %s meant to be %s?", name, nearest);
    }
}

void
postconf_explain(struct postconf *pc, char **names)
{
    if (!*names)
        fatal("--explain wants names of parameters");
    for (; *names; names++) {
        explain(pc, *names);
        if (names[1])
            putchar('\n');
    }
}
