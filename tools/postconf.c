/* SPDX-License-Identifier: Apache-2.0 */
/* postconf: shows and edits main.cf and master.cf. See postconf(1). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/main_cf.h"
#include "lib/table/table_type.h"
#include "tools/postconf.h"

enum subject {
    MAIN_CF,
    MASTER_SERVICES,
    MASTER_FIELDS,
    MASTER_PARAMETERS,
    WORDS,
    TABLE_TYPES,
    EXPLAIN,
    TLS,
    TEMPLATES,
    TEMPLATES_EXPANDED
};

enum { EXPLAIN_OPTION = 256 };
static const struct option long_options[] = {{"explain", no_argument, NULL, EXPLAIN_OPTION}, {NULL, 0, NULL, 0}};

/* Lists of words that an option prints. */
static const char *const lock_types[] = {"flock", "fcntl", "dotlock", NULL};
static const char *const sasl_servers[] = {"cyrus", "dovecot", NULL};
static const char *const sasl_clients[] = {"cyrus", NULL};

struct command_line {
    struct postconf pc;
    enum subject subject;
    const char *const *words;
    const char *tls_mode;
    const char *override[64];
    size_t override_count;
};

static void
set_action(struct command_line *cl, enum postconf_action action)
{
    static const char *const names[] = {"", "-e", "-#", "-X"};
    if (cl->pc.action != POSTCONF_SHOW && cl->pc.action != action)
        fatal("specify one of %s %s", names[cl->pc.action < action ? cl->pc.action : action],
              names[cl->pc.action < action ? action : cl->pc.action]);
    cl->pc.action = action;
}

static void
set_subject(struct command_line *cl, enum subject subject)
{
    if (cl->subject != MAIN_CF && cl->subject != subject)
        fatal("specify one of -F, -M, -P, -A, -a, -b, -l, -m and -t");
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
    fatal("usage: %s [-a (server SASL types)] [-A (client SASL types)] [-b (bounce texts)] [-c config_dir] [-C class] "
          "[-d (defaults)] "
          "[-e (edit)] [-f (fold lines)] [-F (master.cf fields)] [-h (no names)] [-H (no values)] [-j (JSON)] "
          "[-l (lock types)] [-m (map types)] [-M (master.cf)] [-n (non-default parameters)] [-o name=value] "
          "[-p (main.cf)] [-P (master.cf parameters)] [-q (quiet)] [-t (bounce templates)] "
          "[-T compile-version|run-version|public-key-algorithms] "
          "[-v] [-x (expand parameter values)] [-X (exclude)] [-# (comment-out)] [--explain] [name...]",
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
    case 'b': set_subject(cl, TEMPLATES_EXPANDED); break;
    case 'e': set_action(cl, POSTCONF_EDIT); break;
    case 'f': cl->pc.fold = true; break;
    case 'F': set_subject(cl, MASTER_FIELDS); break;
    case '#': set_action(cl, POSTCONF_COMMENT_OUT); break;
    case 'h': cl->pc.hide_name = true; break;
    case 'H': cl->pc.hide_value = true; break;
    case 'j': cl->pc.json = true; break;
    case 'l': set_words(cl, lock_types); break;
    case 'm': set_subject(cl, TABLE_TYPES); break;
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
    case 't': set_subject(cl, TEMPLATES); break;
    case 'T':
        set_subject(cl, TLS);
        cl->tls_mode = optarg;
        break;
    case 'v': log_set_verbose(log_verbose() + 1); break;
    case 'x': cl->pc.expand = true; break;
    case 'X': set_action(cl, POSTCONF_REMOVE); break;
    case EXPLAIN_OPTION: set_subject(cl, EXPLAIN); break;
    default: usage(program);
    }
}

/* Options that mean nothing together: letter by letter, those that each excludes. */
static const char *const exclusive[] = {
    "aAbFlmMpPt", "AbFlmMpPt",  "bFlmMpPt",   "FlmMpPt",    "lmMpPt",     "mMpPt",      "MpPt",
    "pPt",        "Pt", /* what is shown */
    "adefhHnxX#", "AdefhHnxX#", "bdefhHnxX#", "ldefhHnxX#", "mdefhHnxX#", "tdefhHnxX#", "FdnX#",
    "MdhHn",      "Pdn#",       "denX#",      "efhHnxX#",   "XfhHnx#",    "#fhHnx",     "hH",
};

static void
refuse_pairs(const bool given[static 128])
{
    for (size_t i = 0; i < ARRAY_LEN(exclusive); i++)
        for (const char *other = exclusive[i] + 1; given[(unsigned char)*exclusive[i]] && *other; other++)
            if (given[(unsigned char)*other])
                fatal(strchr("aAbFlmMPt", *exclusive[i]) && !strchr("aAbFlmMpPt", *other)
                          ? "with option -%c, do not specify -%c"
                          : "specify one of -%c -%c",
                      *exclusive[i], *other);
}

static void
parse_command_line(struct command_line *cl, int argc, char **argv)
{
    bool given[128] = {false};
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "aAbc:C:defF#hHjlmMno:pPqtT:vxX", long_options, NULL)) != -1) {
        if (option < 128)
            given[option] = true;
        parse_option(cl, option, argv[0]);
    }
    if (!cl->pc.directory) {
        const char *environment = getenv("MAIL_CONFIG");
        cl->pc.has_directory = environment && *environment;
        cl->pc.directory = cl->pc.has_directory ? environment : DEF_CONFIG_DIR;
    }
    /* "postconf 'name = value'" edits, with or without -e. */
    if (cl->pc.action == POSTCONF_SHOW && cl->subject <= MASTER_PARAMETERS)
        for (int i = optind; i < argc; i++)
            if (strchr(argv[i], '=')) {
                cl->pc.action = POSTCONF_EDIT;
                given['e'] = true;
            }
    refuse_pairs(given);
    if (cl->pc.action != POSTCONF_SHOW && !argv[optind])
        fatal("-e, -X, or -# requires one or more arguments");
    if (cl->subject >= TEMPLATES && argv[optind] && argv[optind + 1])
        fatal("options -b and -t require at most one template file");
    if (cl->subject >= TEMPLATES && (cl->pc.defaults || cl->pc.only_set || cl->pc.fold || cl->pc.expand))
        fatal("with -b or -t, do not specify -d, -f, -n or -x");
    if (cl->pc.json && (cl->pc.action != POSTCONF_SHOW || cl->subject > MASTER_PARAMETERS))
        fatal("-j shows parameters and services only");
}

static void
read_master(struct command_line *cl)
{
    struct postconf *pc = &cl->pc;
    const char *path = arena_printf(pc->arena, "%s/master.cf", pc->directory);
    struct slice content;
    struct err err;
    if (cf_file_read(pc->arena, path, &content, &err) < 0) {
        if (err.code != ENOENT || cl->subject == MASTER_SERVICES || cl->subject == MASTER_FIELDS ||
            cl->subject == MASTER_PARAMETERS)
            fatal("%s", err.text);
        return;
    }
    if (master_cf_read(pc->arena, path, content, MASTER_CF_SHOW, &pc->master, &err) < 0)
        fatal("%s", err.text);
}

static void
read_configuration(struct command_line *cl)
{
    struct postconf *pc = &cl->pc;
    struct err err;
    /* Defaults don't depend on what main.cf says. */
    pc->conf = pc->defaults ? conf_from_text(pc->directory, slice_from(""), &err) : conf_load(pc->directory, &err);
    if (!pc->conf)
        fatal("%s", err.text);
    for (size_t i = 0; i < cl->override_count; i++) {
        const char *name, *value;
        if (main_cf_split(pc->arena, slice_from(cl->override[i]), &name, &value, &err) < 0 ||
            conf_override(pc->conf, name, value, &err) < 0)
            fatal("%s", err.text);
    }
    read_master(cl);
    for (unsigned i = 0; !pc->quiet && conf_warning(pc->conf, i); i++)
        log_warning("%s", conf_warning(pc->conf, i));
    for (size_t i = 0; !pc->quiet && i < pc->master.warning_count; i++)
        log_warning("%s", pc->master.warnings[i]);
}

static void
show(struct command_line *cl, char **names)
{
    read_configuration(cl);
    if (cl->subject == MASTER_SERVICES)
        postconf_master_services(&cl->pc, names);
    else if (cl->subject == MASTER_FIELDS)
        postconf_master_fields(&cl->pc, names);
    else if (cl->subject == MASTER_PARAMETERS)
        postconf_master_parameters(&cl->pc, names);
    else if (cl->subject == EXPLAIN)
        postconf_explain(&cl->pc, names);
    else if (cl->subject >= TEMPLATES)
        postconf_templates(&cl->pc, *names, cl->subject == TEMPLATES_EXPANDED);
    else
        postconf_show(&cl->pc, names);
    if (!cl->pc.defaults && cl->subject < EXPLAIN)
        postconf_warn(&cl->pc, cl->subject == MAIN_CF);
}

static void
edit(struct command_line *cl, char **requests)
{
    if (cl->subject == MASTER_SERVICES)
        postconf_master_services(&cl->pc, requests);
    else if (cl->subject == MASTER_FIELDS)
        postconf_master_fields(&cl->pc, requests);
    else if (cl->subject == MASTER_PARAMETERS)
        postconf_master_parameters(&cl->pc, requests);
    else
        postconf_edit_main(&cl->pc, requests);
}

int
main(int argc, char **argv)
{
    static struct command_line cl = {.pc.classes = CLASS_ALL};
    int status = 0;
    log_init(argv[0]);
    cl.pc.arena = arena_new();
    parse_command_line(&cl, argc, argv);
    if (cl.subject == WORDS)
        for (; *cl.words; cl.words++)
            puts(*cl.words);
    else if (cl.subject == TABLE_TYPES)
        for (unsigned i = 0; table_type_at(i); i++)
            puts(table_type_at(i)->type);
    else if (cl.subject == TLS)
        status = postconf_tls(cl.tls_mode);
    else if (cl.pc.action != POSTCONF_SHOW)
        edit(&cl, argv + optind);
    else
        show(&cl, argv + optind);
    conf_free(&cl.pc.conf);
    conf_free(&cl.pc.empty);
    arena_free(&cl.pc.arena);
    return fflush(stdout) == 0 && !ferror(stdout) ? status : 1;
}
