/* SPDX-License-Identifier: Apache-2.0 */
/* sendmail, mailq, newaliases: the interface that programs know from Sendmail. Here so far: the list of the queue (-bp,
 * mailq) and its flushing (-q), both through postqueue. See mailq(1). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/conf.h"

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static void
run_postqueue(const char *option, const char *argument, const char *config_directory)
{
    struct arena *arena = arena_new();
    struct err err;
    struct conf *conf = conf_load(config_directory, &err);
    const char *directory = conf ? conf_string(conf, arena, "command_directory", &err) : NULL;
    const char *path, *args[8] = {"postqueue"};
    unsigned count = 1;

    if (!directory)
        fatal("%s", err.text);
    path = arena_printf(arena, "%s/postqueue", directory);
    if (config_directory) {
        args[count++] = "-c";
        args[count++] = config_directory;
    }
    args[count++] = option;
    if (argument)
        args[count++] = argument;
    execv(path, (char *const *)args);
    fatal_set_status(EX_OSERR);
    fatal("execute %s: %s", path, strerror(errno));
}

int
main(int argc, char **argv)
{
    const char *name = base_name(argv[0]), *config_directory = NULL;
    bool list = strcmp(name, "mailq") == 0, flush = false, aliases = strcmp(name, "newaliases") == 0;

    log_init(name);
    fatal_set_status(EX_UNAVAILABLE);
    for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "-C") == 0 && i + 1 < argc)
            config_directory = argv[++i];
        else if (strcmp(argv[i], "-bp") == 0)
            list = true;
        else if (strcmp(argv[i], "-q") == 0)
            flush = true;
        else if (strncmp(argv[i], "-qI", 3) == 0)
            run_postqueue("-i", argv[i] + 3, config_directory);
        else if (strncmp(argv[i], "-qR", 3) == 0)
            run_postqueue("-s", argv[i] + 3, config_directory);
    }
    if (list)
        run_postqueue("-p", NULL, config_directory);
    if (flush)
        run_postqueue("-f", NULL, config_directory);
    if (aliases)
        fatal("aliases are not here yet");
    fatal("submission of mail is not here yet");
}
