/* SPDX-License-Identifier: Apache-2.0 */
/* tools/privileged.h: how a set-group-id command begins. Its descriptors, environment, signals and arguments are whatever the
 * caller liked. */
#ifndef TOOLS_PRIVILEGED_H
#define TOOLS_PRIVILEGED_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/conf/conf.h"

/* First thing in main(): descriptors 0 to 2 are there, and no others are left open; signals that could end us in the
 * midst of a write are ignored. */
void privileged_begin(void);

/* The configuration directory that the caller may use: wanted (-c), or MAIL_CONFIG, or NULL for the default. With borrowed
 * privileges only the default, or what the default main.cf names in alternate_config_directories or
 * multi_instance_directories: else fatal. Then forgets the environment. */
const char *privileged_directory(struct arena *, const char *wanted);

/* Is the caller in a list of users such as authorized_submit_users? *user gets the login name, or "unknown". Fatal if that
 * cannot be found out. */
bool privileged_user_may(struct arena *, const struct conf *, const char *parameter, const char *list,
                         const char **user);

#endif
