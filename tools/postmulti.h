/* SPDX-License-Identifier: Apache-2.0 */
/* tools/postmulti.h: the instances of the mail system: a primary one, and those that its multi_instance_directories names. */
#ifndef TOOLS_POSTMULTI_H
#define TOOLS_POSTMULTI_H

#include <stdbool.h>

#include "tools/simple_command.h"

struct instance {
    struct simple_command config;
    const char *directory, *name, *group; /* name and group: "" if there is none */
    bool enabled;
};

struct postmulti {
    struct arena *arena;
    struct instance *instances; /* the primary is the first */
    size_t count;

    const char *group, *name;         /* -g, -i */
    const char *new_group, *new_name; /* -G, -I */
    const char *action;               /* -e */
    bool all, reverse, json;          /* -a, -R, -j */
    char **words;                     /* the command, or name=value */
};

/* Does -g, -i select it? */
bool postmulti_selects(const struct postmulti *, const struct instance *);

/* Runs one of our commands on an instance: "postconf", then -c and the instance's directory, then the words, NULL at the end.
 * Returns its exit status. */
int postmulti_run(struct postmulti *, const char *directory, const char *command, char *const *words);

/* -e: returns the exit status (postmulti_edit.c). */
int postmulti_edit(struct postmulti *);

/* A directory's path must say the same to everybody: begins with "/", no blank in it. Fatal if not. */
void postmulti_check_path(const char *path);

#endif
