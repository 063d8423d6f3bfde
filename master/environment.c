/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/conf/environment.h"
#include "master/master.h"

extern char **environ;

enum { MOST = 200 };

static void
add(char **environment, size_t *count, char *pair)
{
    if (*count < MOST)
        environment[(*count)++] = pair;
}

#ifdef POSTERN_SANITIZERS
static void
add_sanitizers(char **environment, size_t *count)
{
    for (char **at = environ; *at; at++)
        if (strncmp(*at, "ASAN_", 5) == 0 || strncmp(*at, "UBSAN_", 6) == 0 || strncmp(*at, "LSAN_", 5) == 0)
            add(environment, count, *at);
}
#else
static void
add_sanitizers(char **environment, size_t *count)
{
    (void)environment;
    (void)count;
}
#endif

char **
environment_of_services(struct arena *arena, const struct conf *conf, struct err *err)
{
    char **environment = arena_array(arena, MOST + 1, sizeof(*environment)), **imported;
    size_t count = 0, imported_count;

    imported = environment_imported(conf, arena, &imported_count, err);
    if (!imported)
        return NULL;
    add(environment, &count, arena_printf(arena, "MAIL_CONFIG=%s", conf_directory(conf)));
    add(environment, &count, arena_strdup(arena, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"));
    for (size_t i = 0; i < imported_count; i++)
        if (strncmp(imported[i], "MAIL_CONFIG=", 12) != 0)
            add(environment, &count, imported[i]);
    add_sanitizers(environment, &count);
    return environment;
}
