/* SPDX-License-Identifier: Apache-2.0 */
/* postmulti: several instances of the mail system on one host. See postmulti(1). This file lists them and runs commands for
 * them; postmulti_edit.c makes and removes them. */
#include "tools/postmulti.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "tools/json.h"

enum mode { NO_MODE, LIST, POSTFIX, UNIX, EDIT };

/* --- the instances --- */

void
postmulti_check_path(const char *path)
{
    if (*path != '/' || strpbrk(path, " \t\r\n,"))
        fatal("\"%s\": an absolute path without blanks and commas is wanted", path);
}

static void
load_instance(struct postmulti *pm, const char *directory)
{
    struct instance *instance = &pm->instances[pm->count++];
    struct err err;
    instance->directory = arena_strdup(pm->arena, directory);
    if (simple_command_load(&instance->config, directory, &err) < 0)
        fatal("%s", err.text);
    instance->name = instance->config.settings.multi_instance_name;
    instance->group = instance->config.settings.multi_instance_group;
    instance->enabled = instance->config.settings.multi_instance_enable;
}

static void
load_all(struct postmulti *pm)
{
    const char *primary = getenv("MAIL_CONFIG");
    struct slice rest, word;
    pm->arena = arena_new();
    pm->instances = ARENA_NEW(pm->arena, struct instance);
    load_instance(pm, primary && *primary ? primary : DEF_CONFIG_DIR);
    struct instance first = pm->instances[0];
    const char *list = first.config.settings.multi_instance_directories;
    pm->instances = arena_array(pm->arena, strlen(list) + 2, sizeof(*pm->instances));
    pm->instances[0] = first;
    rest = slice_from(list);
    while (slice_word(&rest, ", \t\r\n", &word)) {
        const char *directory = arena_strndup(pm->arena, word.ptr, word.len);
        postmulti_check_path(directory);
        load_instance(pm, directory);
    }
}

bool
postmulti_selects(const struct postmulti *pm, const struct instance *instance)
{
    if (pm->group && strcmp(pm->group, instance->group) != 0)
        return false;
    if (!pm->name)
        return true;
    if (strcmp(pm->name, "-") == 0)
        return instance == &pm->instances[0];
    return strcmp(pm->name, instance->name) == 0 || strcmp(pm->name, instance->directory) == 0;
}

/* --- running commands --- */

static int
run_or_die(char **argv, char *const *environment)
{
    struct err err;
    int status = simple_command_run(argv, environment, &err);
    if (status < 0)
        fatal("%s", err.text);
    return status;
}

int
postmulti_run(struct postmulti *pm, const char *directory, const char *command, char *const *words)
{
    const char *commands = pm->instances[0].config.settings.command_directory;
    size_t count = 0;
    while (words[count])
        count++;
    char **argv = arena_array(pm->arena, count + 4, sizeof(*argv));
    argv[0] = arena_printf(pm->arena, "%s/%s", commands, command);
    argv[1] = arena_strdup(pm->arena, "-c");
    argv[2] = arena_strdup(pm->arena, directory);
    memcpy(&argv[3], words, count * sizeof(*argv));
    return run_or_die(argv, NULL);
}

static void
show(struct postmulti *pm, const struct instance *instance)
{
    struct buf out = {0};
    (void)pm;
    if (pm->json) {
        json_begin(&out);
        json_member(&out, "name", instance->name);
        json_member(&out, "group", instance->group);
        json_name(&out, "enabled");
        buf_append_text(&out, instance->enabled ? "true" : "false");
        json_member(&out, "config_directory", instance->directory);
        json_end(&out);
    } else {
        buf_printf(&out, "%-15s %-15s %-9s %s\n", *instance->name ? instance->name : "-",
                   *instance->group ? instance->group : "-", instance->enabled ? "y" : "n", instance->directory);
    }
    fputs(buf_text(&out), stdout);
    buf_release(&out);
}

static bool
is_in(const char *list, const char *command)
{
    struct slice rest = slice_from(list), word;
    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text(word, command))
            return true;
    return false;
}

/* An instance that is off is checked when it would be started, and left alone otherwise; but asked for its status. */
static int
run_postfix(struct postmulti *pm, const struct instance *instance)
{
    char *check_only[] = {arena_strdup(pm->arena, "check"), NULL};
    const struct tools_settings *s = &pm->instances[0].config.settings;
    const char *command = pm->words[0];
    if (!instance->enabled && is_in(s->postmulti_start_commands, command))
        return postmulti_run(pm, instance->directory, "postfix", check_only);
    if (!instance->enabled &&
        (is_in(s->postmulti_stop_commands, command) || is_in(s->postmulti_control_commands, command)))
        return 0;
    return postmulti_run(pm, instance->directory, "postfix", pm->words);
}

static void
set_variable(const char *name, const char *value)
{
    if (setenv(name, value, 1) < 0)
        fatal("out of memory");
}

static int
run_unix(struct postmulti *pm, const struct instance *instance)
{
    const struct tools_settings *s = &instance->config.settings;
    set_variable("MAIL_CONFIG", instance->directory);
    set_variable("config_directory", instance->directory);
    set_variable("command_directory", s->command_directory);
    set_variable("daemon_directory", s->daemon_directory);
    set_variable("queue_directory", s->queue_directory);
    set_variable("data_directory", s->data_directory);
    set_variable("multi_instance_name", instance->name);
    set_variable("multi_instance_group", instance->group);
    set_variable("multi_instance_enable", instance->enabled ? "yes" : "no");
    return run_or_die(pm->words, NULL);
}

static int
iterate(struct postmulti *pm, enum mode mode)
{
    const struct tools_settings *s = &pm->instances[0].config.settings;
    bool reverse = pm->reverse || (mode == POSTFIX && is_in(s->postmulti_stop_commands, pm->words[0]));
    int result = 0, status = 0;
    bool any = false;
    for (size_t i = 0; i < pm->count; i++) {
        const struct instance *instance = &pm->instances[reverse ? pm->count - 1 - i : i];
        if (!postmulti_selects(pm, instance))
            continue;
        any = true;
        if (mode == LIST)
            show(pm, instance);
        else
            status = mode == POSTFIX ? run_postfix(pm, instance) : run_unix(pm, instance);
        result = status > result ? status : result;
    }
    if (!any)
        fatal("no matching instances");
    return result;
}

/* --- the command line --- */

static _Noreturn void
usage(const char *program)
{
    fatal("usage: %s -l [-ajRv] [-g group] [-i name] | -p [-av] [-g group] [-i name] postfix-command... | "
          "-x [-aRv] [-g group] [-i name] unix-command... | -e init|create|import|destroy|deport|enable|disable|assign "
          "[-av] [-g group] [-i name] [-G group] [-I name] [name=value...]",
          program);
}

static void
set_mode(enum mode *mode, enum mode wanted)
{
    if (*mode != NO_MODE && *mode != wanted)
        fatal("specify one of -e, -l, -p and -x");
    *mode = wanted;
}

static enum mode
parse(struct postmulti *pm, int argc, char **argv)
{
    enum mode mode = NO_MODE;
    int option;
    while ((option = getopt(argc, argv, "+ae:g:G:i:I:jlpRvx")) != -1)
        switch (option) {
        case 'a': pm->all = true; break;
        case 'e':
            set_mode(&mode, EDIT);
            pm->action = optarg;
            break;
        case 'g': pm->group = optarg; break;
        case 'G': pm->new_group = optarg; break;
        case 'i': pm->name = optarg; break;
        case 'I': pm->new_name = optarg; break;
        case 'j': pm->json = true; break;
        case 'l': set_mode(&mode, LIST); break;
        case 'p': set_mode(&mode, POSTFIX); break;
        case 'R': pm->reverse = true; break;
        case 'v': log_set_verbose(log_verbose() + 1); break;
        case 'x': set_mode(&mode, UNIX); break;
        default: usage(argv[0]);
        }
    pm->words = argv + optind;
    bool wants_words = mode == POSTFIX || mode == UNIX;
    if (mode == NO_MODE || (wants_words && !*pm->words) || (mode == LIST && *pm->words) ||
        (mode == POSTFIX && pm->reverse) || (pm->json && mode != LIST))
        usage(argv[0]);
    if ((pm->new_group || pm->new_name) && mode != EDIT)
        fatal("-G and -I are for -e only");
    if (pm->new_name && strcmp(pm->new_name, "-") != 0 && strncmp(pm->new_name, "postfix-", 8) != 0)
        fatal("instance name '%s' must start with 'postfix-'", pm->new_name);
    return mode;
}

int
main(int argc, char **argv)
{
    static struct postmulti pm;
    log_init(argv[0]);
    enum mode mode = parse(&pm, argc, argv);
    load_all(&pm);
    int status = mode == EDIT ? postmulti_edit(&pm) : iterate(&pm, mode);
    for (size_t i = 0; i < pm.count; i++)
        simple_command_release(&pm.instances[i].config);
    arena_free(&pm.arena);
    return fflush(stdout) == 0 ? status : 1;
}
