/* SPDX-License-Identifier: Apache-2.0 */
/* postfix: starts, stops and checks the mail system. See postfix(1). This file has the command line, and the commands that are
 * short. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "tools/postfix_command.h"

/* --- commands --- */

/* The arguments of another command, for this configuration. */
static char **
command_arguments(struct control *c, const char *name, const char *const *words)
{
    return program_arguments(c, arena_printf(c->arena, "%s/%s", c->settings.command_directory, name), words);
}

static int
command_flush(struct control *c, char **args)
{
    static const char *const words[] = {"-f", NULL};
    (void)args;
    return running_master(c) == 0 ? not_running() : run(command_arguments(c, "postqueue", words));
}

/* A line of postconf's standard error: "/path/postconf: warning: text". */
static void
tell_line(struct control *c, const char *line)
{
    const char *text = strstr(line, ": ");
    text = text ? text + 2 : line;
    bool is_warning = strncmp(text, "warning: ", 9) == 0;
    if (is_warning || strncmp(text, "fatal: ", 7) == 0)
        text = strchr(text, ' ') + 1;
    if (is_warning && strncmp(text, conf_directory(c->conf), strlen(conf_directory(c->conf))) == 0 &&
        strstr(text, "overriding earlier entry"))
        return; /* check_settings() has said so */
    if (is_warning)
        say_warning("%s", text);
    else
        say_fatal("%s", text);
}

/* postconf knows what is unused or misspelt, and says so on standard error; with -j it is told as the rest is. */
static int
ask_postconf(struct control *c, bool json)
{
    static const char *const words[] = {"-H", "-n", NULL};
    char **argv = command_arguments(c, "postconf", words);
    FILE *said = json ? tmpfile() : NULL;
    char *line = NULL;
    size_t size = 0;
    if (access(argv[0], X_OK) < 0 || (json && !said))
        return 0;
    fflush(stdout);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), out = dup(STDOUT_FILENO), errors = dup(STDERR_FILENO);
    int result = 0;
    if (null >= 0 && out >= 0 && errors >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
        (!said || dup2(fileno(said), STDERR_FILENO) >= 0)) {
        result = run(argv);
        dup2(out, STDOUT_FILENO);
        dup2(errors, STDERR_FILENO);
    }
    close(null);
    close(out);
    close(errors);
    if (said)
        rewind(said);
    while (said && getline(&line, &size, said) > 0) {
        line[strcspn(line, "\n")] = '\0';
        tell_line(c, line);
    }
    free(line);
    if (said)
        fclose(said);
    return result != 0;
}

static int
command_check(struct control *c, char **args)
{
    bool json = args[0] && strcmp(args[0], "-j") == 0;
    struct err err;
    if (json)
        say_json();
    /* Where something that this command needs is wrong, the rest is told of nevertheless. */
    if (tools_settings_load(&c->settings, c->conf, c->arena, &err) < 0) {
        if (check_settings(c, true) == 0)
            say_fatal("%s", err.text);
        return 1;
    }
    int result = prepare(c, true);
    check_program_files(c);
    if (ask_postconf(c, json) != 0)
        result = 1;
    return result;
}

int
edit_settings(struct control *c, char *const *settings)
{
    size_t count = 0;
    while (settings[count])
        count++;
    const char **words = arena_array(c->arena, count + 2, sizeof(*words));
    words[0] = "-e";
    for (size_t i = 0; i < count; i++)
        words[i + 1] = settings[i];
    return count == 0 ? 0 : run(command_arguments(c, "postconf", words));
}

/* "name=value" words: into main.cf, and into force. */
static int
take_settings(struct control *c, char **args)
{
    struct err err;
    for (char **arg = args; *arg; arg++)
        if (!strchr(*arg, '=')) {
            say_fatal("\"%s\": name=value is wanted", *arg);
            return 1;
        }
    if (!*args)
        return 0;
    char *directory = arena_strdup(c->arena, conf_directory(c->conf));
    if (edit_settings(c, args) != 0)
        return 1;
    conf_free(&c->conf);
    c->conf = conf_load(directory, &err);
    if (c->conf && tools_settings_load(&c->settings, c->conf, c->arena, &err) == 0)
        return 0;
    say_fatal("%s", err.text);
    return 1;
}

static int
command_set_permissions(struct control *c, char **args)
{
    return take_settings(c, args) == 0 && find_owners(c) == 0 && check_directories(c, true) == 0 ? 0 : 1;
}

/* Services that an older master.cf lacks are made by master itself; so only the settings are left to do. */
static int
command_upgrade_configuration(struct control *c, char **args)
{
    return take_settings(c, args);
}

static const struct command {
    const char *name;
    int (*run)(struct control *, char **args);
    bool has_arguments;
} commands[] = {
    {"start", command_start, false},
    {"start-fg", command_start_fg, false},
    {"stop", command_stop, false},
    {"quick-stop", command_stop, false},
    {"drain", command_stop, false},
    {"abort", command_abort, false},
    {"reload", command_reload, false},
    {"flush", command_flush, false},
    {"check", command_check, true},
    {"status", command_status, false},
    {"set-permissions", command_set_permissions, true},
    {"upgrade-configuration", command_upgrade_configuration, true},
    {"logrotate", command_logrotate, false},
    {"tls", command_tls, true},
    {"trace-address", command_trace_address, true},
    {"user", command_user, true},
};

/* --- several instances --- */

/* Without -c or MAIL_CONFIG the command is meant for all instances: multi_instance_wrapper runs it for each. Returns only
 * if there is one instance. */
static void
leave_to_wrapper(struct control *c, char **words)
{
    const char *wrapper = c->settings.multi_instance_wrapper;
    if (!*c->settings.multi_instance_directories)
        return;
    if (strcmp(words[0], "start-fg") == 0)
        fatal("start-fg does not work with several instances: multi_instance_directories is not empty");
    if (!*wrapper)
        fatal("multi_instance_directories is set, but multi_instance_wrapper is not: say postmulti -e init");
    struct slice rest = slice_from(wrapper), word;
    size_t count = 0, n = 0;
    while (words[count])
        count++;
    char **argv = arena_array(c->arena, strlen(wrapper) + count + 2, sizeof(*argv));
    while (slice_word(&rest, " \t\r\n", &word))
        argv[n++] = arena_strndup(c->arena, word.ptr, word.len);
    memcpy(&argv[n], words, count * sizeof(*argv));
    execv(argv[0], argv);
    fatal("run %s: %s", argv[0], strerror(errno));
}

/* --- the command line --- */

static const struct command *
find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Returns the words of the command. */
static char **
parse_options(struct control *c, int argc, char **argv, const char **directory)
{
    int option;
    while ((option = getopt(argc, argv, "+c:Dv")) != -1) {
        if (option == 'c')
            *directory = optarg;
        else if (option == 'v')
            c->verbose = true;
        else if (option != 'D')
            fatal("usage: %s [-c config_dir] [-Dv] command", argv[0]);
    }
    const struct command *command = optind < argc ? find_command(argv[optind]) : NULL;
    if (optind >= argc || (command && !command->has_arguments && optind + 1 != argc))
        fatal("usage: %s [-c config_dir] [-Dv] command", argv[0]);
    return &argv[optind];
}

/* check is to tell what is wrong: all of it. */
static void
load(struct control *c, const char *directory, bool check)
{
    struct err err;
    char *absolute = directory ? realpath(directory, NULL) : NULL;
    if (directory && !absolute)
        fatal("open directory %s: %s", directory, strerror(errno));
    c->arena = arena_new();
    c->conf = conf_load(absolute, &err);
    free(absolute);
    if (!c->conf)
        fatal("%s", err.text);
    if (tools_settings_load(&c->settings, c->conf, c->arena, &err) == 0)
        c->can_log = true;
    else if (!check)
        fatal("%s", err.text);
    c->privileged = geteuid() == 0;
}

int
main(int argc, char **argv)
{
    static struct control c;
    const char *directory = NULL, *environment = getenv("MAIL_CONFIG");
    int result = 1;

    log_init(argv[0]);
    char **words = parse_options(&c, argc, argv, &directory);
    bool one = directory || (environment && *environment);
    umask(0022);
    load(&c, directory, strcmp(words[0], "check") == 0);
    if (!one && c.can_log)
        leave_to_wrapper(&c, words);
    if (setenv("MAIL_CONFIG", conf_directory(c.conf), 1) < 0)
        fatal("out of memory");
    if (c.can_log)
        open_log(&c);
    else
        say_by_log_alone();
    const struct command *command = find_command(words[0]);
    if (command)
        result = command->run(&c, words + 1);
    else
        say_fatal("unknown command: '%s'. Usage: postfix start (or stop, reload, abort, flush, check, status, "
                  "set-permissions, upgrade-configuration, logrotate, tls)",
                  words[0]);
    log_flush();
    conf_free(&c.conf);
    arena_free(&c.arena);
    return result;
}
