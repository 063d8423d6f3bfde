/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of postmap and postalias. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/messages.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/table/proxy_client.h"
#include "lib/table/table.h"
#include "tools/map_command.h"

struct options {
    struct map_command command;
    const char *directory, *query, *delete;
    bool list, header, body, mime, force_utf8;
    char **names;
    int status;
    const char *usage;
};

static void
set_key(struct options *o, const char **key, const char *text)
{
    if (o->query || o->delete || o->list)
        fatal("specify only one of -s or -q or -d");
    *key = text;
}

/* N and n say whether keys end in a NUL in a new file: they always do, and are found either way. */
static void
parse_options(int argc, char **argv, const char *letters, struct options *o)
{
    struct map_command *c = &o->command;
    int option, verbose = 0;

    while ((option = getopt(argc, argv, letters)) != -1) {
        switch (option) {
        case 'N':
        case 'n': break;
        case 'b': o->body = true; break;
        case 'c': o->directory = optarg; break;
        case 'd': set_key(o, &o->delete, optarg); break;
        case 'f': c->no_fold = true; break;
        case 'F': c->values_are_files = true; break;
        case 'h': o->header = true; break;
        case 'i': c->incremental = true; break;
        case 'j': c->json = true; break;
        case 'm': o->mime = true; break;
        case 'o': c->keep_root = true; break;
        case 'p': c->own_mode = true; break;
        case 'q': set_key(o, &o->query, optarg); break;
        case 'r': c->duplicates = TABLE_DUP_REPLACE; break;
        case 's':
            if (o->query || o->delete)
                fatal("specify only one of -s or -q or -d");
            o->list = true;
            break;
        case 'u': c->no_utf8 = true; break;
        case 'U': o->force_utf8 = true; break;
        case 'v': verbose++; break;
        case 'w': c->duplicates = TABLE_DUP_IGNORE; break;
        default: fatal("%s", o->usage);
        }
    }
    o->names = argv + optind;
    log_set_verbose(verbose);
}

static void
check_options(const struct options *o)
{
    if ((o->body || o->header || o->mime) && (!o->query || strcmp(o->query, "-") != 0))
        fatal("specify -b -h or -m only with \"-q -\"");
    if (o->mime && !o->body && !o->header)
        fatal("specify -m only with -b or -h");
    if (o->command.json && !o->query && !o->list)
        fatal("specify -j only with -q or -s");
    if (!o->names[0])
        fatal("%s", o->usage);
}

static bool
run_query(const struct options *o)
{
    if (strcmp(o->query, "-") != 0)
        return map_query(&o->command, o->names, o->query);
    if (o->body || o->header)
        return map_query_message(&o->command, o->names, o->header, o->body, o->mime);
    return map_query_stdin(&o->command, o->names);
}

static void
run(void *arg)
{
    struct options *o = arg;

    if (o->query)
        o->status = !run_query(o);
    else if (o->delete)
        o->status = strcmp(o->delete, "-") == 0 ? !map_delete_stdin(&o->command, o->names)
                                                : !map_delete(&o->command, o->names, o->delete);
    else
        for (char **name = o->names; *name; name++)
            o->list ? map_list(&o->command, *name) : map_build(&o->command, *name);
}

int
map_main(int argc, char **argv, const struct map_kind *kind, const char *letters, const char *usage)
{
    struct options o = {.usage = usage};
    struct conf *conf;
    struct err err;

    parse_options(argc, argv, letters, &o);
    conf = conf_load(o.directory, &err);
    if (!conf)
        fatal("%s", err.text);
    check_options(&o);
    if ((o.body || o.header) && !o.force_utf8)
        o.command.no_utf8 = true;
    map_command_init(&o.command, kind, conf);
    tables_open_blocking();
    loop_init();
    link_init(&mail_protocol, "postmap", geteuid());
    if (proxy_client_init_command(conf, &err) < 0)
        fatal("%s", err.text);
    task_run_main(run, &o);
    if (fflush(stdout) != 0)
        fatal("write error on standard output");
    return o.status;
}
