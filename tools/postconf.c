/* SPDX-License-Identifier: Apache-2.0 */
/* postconf: shows and edits main.cf and master.cf. See postconf(1). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/main_cf.h"
#include "tools/postconf.h"

enum subject { MAIN_CF, MASTER_SERVICES, MASTER_FIELDS, MASTER_PARAMETERS, WORDS };

/* Lists of words that an option prints. Table types: those that are built in. */
static const char *const table_types[] = {"btree", "cidr", "fail",   "hash",   "inline",   "internal",
                                          "lmdb",  "pcre", "regexp", "static", "texthash", NULL};
static const char *const lock_types[] = {"flock", "fcntl", "dotlock", NULL};
static const char *const sasl_servers[] = {"cyrus", "dovecot", NULL};
static const char *const sasl_clients[] = {"cyrus", NULL};

struct command_line {
    struct postconf pc;
    enum subject subject;
    const char *const *words;
    const char *override[64];
    size_t override_count;
};

static void
set_action(struct command_line *cl, enum postconf_action action)
{
    if (cl->pc.action != POSTCONF_SHOW && cl->pc.action != action)
        fatal("specify one of -e, -# and -X");
    cl->pc.action = action;
}

static void
set_subject(struct command_line *cl, enum subject subject)
{
    if (cl->subject != MAIN_CF && cl->subject != subject)
        fatal("specify one of -F, -M, -P, -A, -a, -l and -m");
    cl->subject = subject;
}

static void
set_words(struct command_line *cl, const char *const *words)
{
    set_subject(cl, WORDS);
    cl->words = words;
}

static unsigned
parse_classes(const char *text)
{
    static const struct {
        const char *name;
        unsigned classes;
    } known[] = {{"builtin", CLASS_BUILTIN}, {"service", CLASS_SERVICE}, {"user", CLASS_USER}, {"all", CLASS_ALL}};
    struct slice rest = slice_from(text), word;
    unsigned classes = 0;
    while (slice_word(&rest, ", \t", &word)) {
        size_t i = 0;
        while (i < ARRAY_LEN(known) && !slice_equal_text_fold(word, known[i].name))
            i++;
        if (i == ARRAY_LEN(known))
            fatal("unknown parameter class: %.*s", SLICE_ARG(word));
        classes |= known[i].classes;
    }
    return classes;
}

static void
usage(const char *program)
{
    fatal("usage: %s [-a (server SASL types)] [-A (client SASL types)] [-c config_dir] [-C class] [-d (defaults)] "
          "[-e (edit)] [-f (fold lines)] [-F (master.cf fields)] [-h (no names)] [-H (no values)] [-l (lock types)] "
          "[-m (map types)] [-M (master.cf)] [-n (non-default parameters)] [-o name=value] [-P (master.cf parameters)] "
          "[-q (quiet)] [-v] [-x (expand parameter values)] [-X (exclude)] [-# (comment-out)] [name...]",
          program);
}

static void
parse_option(struct command_line *cl, int option, const char *program)
{
    switch (option) {
    case 'a': set_words(cl, sasl_servers); break;
    case 'A': set_words(cl, sasl_clients); break;
    case 'c':
        cl->pc.directory = optarg;
        cl->pc.has_directory = true;
        break;
    case 'C': cl->pc.classes = parse_classes(optarg); break;
    case 'd': cl->pc.defaults = true; break;
    case 'e': set_action(cl, POSTCONF_EDIT); break;
    case 'f': cl->pc.fold = true; break;
    case 'F': set_subject(cl, MASTER_FIELDS); break;
    case '#': set_action(cl, POSTCONF_COMMENT_OUT); break;
    case 'h': cl->pc.hide_name = true; break;
    case 'H': cl->pc.hide_value = true; break;
    case 'l': set_words(cl, lock_types); break;
    case 'm': set_words(cl, table_types); break;
    case 'M': set_subject(cl, MASTER_SERVICES); break;
    case 'n': cl->pc.only_set = true; break;
    case 'o':
        if (cl->override_count == ARRAY_LEN(cl->override))
            fatal("too many -o options");
        cl->override[cl->override_count++] = optarg;
        break;
    case 'p': break; /* main.cf parameters: as without it */
    case 'P': set_subject(cl, MASTER_PARAMETERS); break;
    case 'q': cl->pc.quiet = true; break;
    case 'v': log_set_verbose(log_verbose() + 1); break;
    case 'x': cl->pc.expand = true; break;
    case 'X': set_action(cl, POSTCONF_REMOVE); break;
    default: usage(program);
    }
}

static void
parse_command_line(struct command_line *cl, int argc, char **argv)
{
    int option;
    opterr = 0;
    while ((option = getopt(argc, argv, "aAc:C:deE:fF#hHlmMno:pPqvxX")) != -1)
        parse_option(cl, option, argv[0]);
    if (!cl->pc.directory) {
        const char *environment = getenv("MAIL_CONFIG");
        cl->pc.has_directory = environment && *environment;
        cl->pc.directory = cl->pc.has_directory ? environment : DEF_CONFIG_DIR;
    }
    if (cl->pc.defaults && cl->pc.only_set)
        fatal("specify one of -d and -n");
    if (cl->pc.hide_name && cl->pc.hide_value)
        fatal("specify one of -h and -H");
    /* "postconf 'name = value'" edits, with or without -e. */
    if (cl->pc.action == POSTCONF_SHOW && cl->subject != WORDS)
        for (int i = optind; i < argc; i++)
            if (strchr(argv[i], '='))
                cl->pc.action = POSTCONF_EDIT;
    if (cl->pc.action != POSTCONF_SHOW && !argv[optind])
        fatal("-e, -X and -# want arguments");
}

static void
read_configuration(struct command_line *cl)
{
    struct postconf *pc = &cl->pc;
    struct err err;
    pc->conf = conf_load(pc->directory, &err);
    if (!pc->conf && pc->defaults && err.code == ENOENT)
        pc->conf = conf_from_text(pc->directory, slice_from(""), &err);
    if (!pc->conf)
        fatal("%s", err.text);
    for (size_t i = 0; i < cl->override_count; i++) {
        const char *name, *value;
        if (main_cf_split(pc->arena, slice_from(cl->override[i]), &name, &value, &err) < 0 ||
            conf_override(pc->conf, name, value, &err) < 0)
            fatal("%s", err.text);
    }
    if (master_cf_load(pc->conf, pc->arena, &pc->master, &err) < 0 && (err.code != ENOENT || cl->subject != MAIN_CF))
        fatal("%s", err.text);
}

int
main(int argc, char **argv)
{
    static struct command_line cl = {.pc.classes = CLASS_ALL};
    log_init(argv[0]);
    cl.pc.arena = arena_new();
    parse_command_line(&cl, argc, argv);
    if (cl.subject == WORDS) {
        for (; *cl.words; cl.words++)
            puts(*cl.words);
    } else if (cl.subject == MAIN_CF && cl.pc.action != POSTCONF_SHOW) {
        postconf_edit_main(&cl.pc, argv + optind);
    } else {
        read_configuration(&cl);
        if (cl.subject == MASTER_SERVICES)
            postconf_master_services(&cl.pc, argv + optind);
        else if (cl.subject == MASTER_FIELDS)
            postconf_master_fields(&cl.pc, argv + optind);
        else if (cl.subject == MASTER_PARAMETERS)
            postconf_master_parameters(&cl.pc, argv + optind);
        else
            postconf_show(&cl.pc, argv + optind);
        if (cl.pc.action == POSTCONF_SHOW)
            postconf_warn(&cl.pc);
    }
    conf_free(&cl.pc.conf);
    conf_free(&cl.pc.empty);
    arena_free(&cl.pc.arena);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
