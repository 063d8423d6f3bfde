/* SPDX-License-Identifier: Apache-2.0 */
/* tools/postfix_values.h: values of settings, for `postfix check`. */
#ifndef TOOLS_POSTFIX_VALUES_H
#define TOOLS_POSTFIX_VALUES_H

#include "lib/conf/master_cf.h"
#include "tools/postfix_command.h"

/* Where a setting counts: everywhere (main.cf), or in one service, with its -o options. */
struct scope {
    struct control *c;
    const struct conf *conf;              /* as that service sees it */
    const struct master_cf *master;       /* NULL: master.cf can't be read */
    const struct master_service *service; /* NULL: main.cf */
};

/* File and line, in the arena of the command: "/etc/postfix/main.cf, line 3", or a line of master.cf and the option. */
const char *scope_place(const struct scope *, const char *name);

/* Is the value of its parameter's type? -1: no (said already). */
int check_typed_value(const struct scope *, const char *name);

/* Is it one that the programs take: a level of TLS, a class of addresses, a list of networks, ...? -1: no (said already). */
int check_special_value(const struct scope *, const char *name);

/* Says what is wrong with the tables that the value names. */
void check_table_value(const struct scope *, const char *name);

#endif
