/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "master/master.h"

extern char **environ;

enum { MOST = 200 };

static void
add(char **environment, size_t *count, char *pair)
{
    if (*count < MOST)
        environment[(*count)++] = pair;
}

/* "NAME": as we have it; "NAME=value": that. */
static void
add_listed(struct arena *arena, char **environment, size_t *count, struct slice word)
{
    char *text = arena_strndup(arena, word.ptr, word.len);
    const char *value;

    if (strchr(text, '=')) {
        add(environment, count, text);
        return;
    }
    value = getenv(text);
    if (value && strcmp(text, "MAIL_CONFIG") != 0)
        add(environment, count, arena_printf(arena, "%s=%s", text, value));
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
environment_import(struct arena *arena, const char *list, const char *config_directory)
{
    char **environment = arena_array(arena, MOST + 1, sizeof(*environment));
    struct slice rest = slice_from(list), word;
    size_t count = 0;

    add(environment, &count, arena_printf(arena, "MAIL_CONFIG=%s", config_directory));
    add(environment, &count, arena_strdup(arena, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"));
    while (slice_word(&rest, ", \t\r\n", &word))
        add_listed(arena, environment, &count, word);
    add_sanitizers(environment, &count);
    return environment;
}
