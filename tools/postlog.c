/* SPDX-License-Identifier: Apache-2.0 */
/* postlog: puts a line into the mail log, for scripts. See postlog(1). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "tools/simple_command.h"

struct postlog {
    struct simple_command command;
    const char *directory, *tag;
    enum log_level level;
    bool to_terminal;
};

static enum log_level
parse_level(const char *text)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"info", LOG_LEVEL_INFO},   {"warn", LOG_LEVEL_WARNING}, {"warning", LOG_LEVEL_WARNING},
                  {"error", LOG_LEVEL_ERROR}, {"err", LOG_LEVEL_ERROR},    {"fatal", LOG_LEVEL_FATAL},
                  {"crit", LOG_LEVEL_FATAL},  {"panic", LOG_LEVEL_PANIC}};
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (strcasecmp(levels[i].name, text) == 0)
            return levels[i].level;
    fatal("bad priority: %s", text);
}

static void
parse_options(struct postlog *p, int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "+c:ip:t:v")) != -1)
        switch (option) {
        case 'c': p->directory = optarg; break;
        case 'i': break; /* the process id is always there */
        case 'p': p->level = parse_level(optarg); break;
        case 't': p->tag = optarg; break;
        case 'v': log_set_verbose(log_verbose() + 1); break;
        default: fatal("usage: %s [-iv] [-c config_dir] [-p priority] [-t tag] [text...]", argv[0]);
        }
}

/* To postlogd where maillog_file is set and it runs, else to the system log. */
static void
open_log(struct postlog *p)
{
    const struct tools_settings *s = &p->command.settings;
    const char *socket = arena_printf(p->command.arena, "%s/public/%s", s->queue_directory, s->postlog_service_name);
    log_init(p->tag ? p->tag : arena_printf(p->command.arena, "%s/postlog", s->syslog_name));
    if (!*s->maillog_file || log_to_postlog(socket) < 0)
        log_to_syslog(s->syslog_facility);
}

static void
put(const struct postlog *p, const char *text)
{
    static const char *const prefixes[] = {"", "warning: ", "error: ", "fatal: ", "panic: "};
    log_line(p->level, text);
    if (p->to_terminal)
        fprintf(stderr, "%s: %s%s\n", p->tag ? p->tag : "postlog", prefixes[p->level], text);
}

static void
put_words(const struct postlog *p, char **words)
{
    struct buf line = {0};
    for (; *words; words++) {
        if (line.len > 0)
            buf_append_byte(&line, ' ');
        buf_append_text(&line, *words);
    }
    put(p, buf_text(&line));
    buf_release(&line);
}

static void
put_lines(const struct postlog *p)
{
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) >= 0) {
        line[strcspn(line, "\n")] = 0;
        put(p, line);
    }
    free(line);
}

int
main(int argc, char **argv)
{
    static struct postlog p;
    struct err err;
    log_init(argv[0]);
    parse_options(&p, argc, argv);
    if (simple_command_load(&p.command, p.directory, &err) < 0)
        fatal("%s", err.text);
    p.to_terminal = isatty(STDERR_FILENO);
    open_log(&p);
    if (argv[optind])
        put_words(&p, argv + optind);
    else
        put_lines(&p);
    log_flush_all();
    /* As all programs do it, so that a script that starts again at once does no harm. */
    if (p.level >= LOG_LEVEL_FATAL)
        sleep(1);
    simple_command_release(&p.command);
    return 0;
}
