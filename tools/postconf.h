/* SPDX-License-Identifier: Apache-2.0 */
/* tools/postconf.h: what the parts of postconf share: the options, and the configuration as read. */
#ifndef TOOLS_POSTCONF_H
#define TOOLS_POSTCONF_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/conf/conf.h"
#include "lib/conf/master_cf.h"

#include "tools/json.h"

enum postconf_action { POSTCONF_SHOW, POSTCONF_EDIT, POSTCONF_COMMENT_OUT, POSTCONF_REMOVE };

enum { CLASS_BUILTIN = 1, CLASS_SERVICE = 2, CLASS_USER = 4, CLASS_ALL = 7 };

struct postconf {
    struct arena *arena;
    const char *directory;
    struct conf *conf;
    struct conf *empty; /* of an empty main.cf, for the defaults; made when needed */
    struct master_cf master;
    enum postconf_action action;
    bool defaults;      /* -d */
    bool only_set;      /* -n */
    bool hide_name;     /* -h */
    bool hide_value;    /* -H */
    bool expand;        /* -x */
    bool fold;          /* -f */
    bool quiet;         /* -q */
    bool json;          /* -j */
    bool has_directory; /* -c, or MAIL_CONFIG */
    unsigned classes;   /* -C */
};

/* "name = value" as the options want it; the words of the value with one blank between. */
void postconf_print(const struct postconf *, const char *name, const char *value);
/* value, or what it expands to with -x. */
const char *postconf_value(const struct postconf *, const char *value);

/* The text with one blank between its words, as all that is shown has it. In the arena. */
const char *postconf_squeeze(struct postconf *, const char *text);
/* What shows an entry under another name, or is JSON, begins and ends here: members name and value as -h and -H want. */
void postconf_json_value(const struct postconf *, struct buf *, const char *value);

/* All that is known of parameters (postconf_explain.c). */
void postconf_explain(struct postconf *, char **names);
/* Versions and key algorithms of TLS: -T. Returns the exit status. */
int postconf_tls(const char *mode);

/* The texts of notices, as written or (expanded) as they are sent: -t and -b. path NULL: of bounce_template_file, "": those
 * that are built in. */
void postconf_templates(struct postconf *, const char *path, bool expanded);

/* main.cf */
void postconf_show(struct postconf *, char **names);
void postconf_edit_main(struct postconf *, char **settings);

/* Warns of settings that nothing uses and names that nothing sets (postconf_names.c). about_main_cf: also of main.cf's that
 * nothing uses. */
void postconf_warn(struct postconf *, bool about_main_cf);
/* CLASS_...: which kind of parameter that is here; 0: none that anything uses. */
unsigned postconf_class(struct postconf *, const char *name);
/* Calls fn for each parameter of these classes, in the order of names. */
void postconf_each(struct postconf *, unsigned classes, void (*fn)(struct postconf *, const char *name));

/* master.cf: services, fields, parameters */
void postconf_master_services(struct postconf *, char **patterns);
void postconf_master_fields(struct postconf *, char **patterns);
void postconf_master_parameters(struct postconf *, char **patterns);

#endif
