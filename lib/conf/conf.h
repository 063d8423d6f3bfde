/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/conf.h: main.cf as a daemon or command sees it: every value expanded and checked against the table of
 * parameters (params.def). A daemon does not ask by name: it loads its typed settings, a struct that the build
 * generates from the table's column of readers (for smtpd: struct smtpd_settings in lib/conf/settings_smtpd.h, with
 * smtpd_settings_load()). So a daemon can't use a parameter that the table lacks. */
#ifndef LIB_CONF_CONF_H
#define LIB_CONF_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"

struct conf;

/* Reads DIR/main.cf (config_directory); directory NULL: environment MAIL_CONFIG, else the built-in default. A missing
 * main.cf is an error; unknown names are kept (they may be used as $name). The error has file and line. */
struct conf *conf_load(const char *directory, struct err *);
void conf_free(struct conf **);

/* The same with main.cf's text given; the directory need not exist. */
struct conf *conf_from_text(const char *directory, struct slice main_cf, struct err *);

/* As -o name=value: overrides what main.cf says. Before values are asked for. */
int conf_override(struct conf *, const char *name, const char *value, struct err *) MUST_USE;

/* process_id, process_name and service_name: a setting of one counts for nothing and is a warning. */
bool conf_is_read_only(const char *name);

/* What $service_name stands for; in a program that is no service it is empty. */
void conf_set_service_name(struct conf *, const char *name);

const char *conf_directory(const struct conf *);

/* From now on a typed question for a parameter whose name begins with from ("smtp_") is answered with the one that
 * begins with to ("lmtp_"), where the table has that. For the smtp program when it is started as lmtp. */
void conf_rename(struct conf *, const char *from, const char *to);

/* Calls fn for each setting of main.cf and each override, in the order of names. */
void conf_each_setting(const struct conf *, void (*fn)(void *ctx, const char *name, const char *value), void *ctx);

/* Lines such as "/etc/postfix/main.cf, line 3: overriding earlier entry: a=b" that came up while main.cf was read: the
 * commands that people run show them. index from 0; NULL at the end. */
const char *conf_warning(const struct conf *, unsigned index);

/* Where the parameter is set: "/etc/postfix/main.cf, line 3", or "-o name"; NULL: nowhere, it has its default. In the
 * arena. The errors of the functions below begin with it. */
const char *conf_where(const struct conf *, struct arena *, const char *name);

/* Has the parameter a default that newer versions changed, and that compatibility_level keeps as it was? Then *value is
 * that (expanded, in the arena), else NULL. Whoever acts on such a default logs Postfix's line: "using
 * backwards-compatible default setting NAME=VALUE to ...". */
int conf_old_default(const struct conf *, struct arena *, const char *name, const char **value, struct err *) MUST_USE;

/* The raw text of main.cf or -o, or the default's; NULL if there is no such parameter at all. Not expanded. */
const char *conf_raw(const struct conf *, const char *name);
bool conf_is_set(const struct conf *, const char *name); /* in main.cf or by -o */

/* The expanded text, in the arena; a cycle of $names or a syntax error is an error with the parameter's name. */
char *conf_expand(const struct conf *, struct arena *, const char *text, struct err *) MUST_USE;
char *conf_string(const struct conf *, struct arena *, const char *name, struct err *) MUST_USE;

/* Typed: checked against the table's range. Times in microseconds. */
int conf_int(const struct conf *, const char *name, int64_t *, struct err *) MUST_USE;
int conf_bool(const struct conf *, const char *name, bool *, struct err *) MUST_USE;
int conf_time(const struct conf *, const char *name, int64_t *usec, struct err *) MUST_USE;

/* Families made from a transport's name: transport_name "relay", suffix "_destination_concurrency_limit": that
 * parameter if set, else default_destination_concurrency_limit (or, for smtp_..., the smtp_ one where documented). */
int conf_family_int(const struct conf *, const char *transport, const char *suffix, int64_t *, struct err *) MUST_USE;
int conf_family_time(const struct conf *, const char *transport, const char *suffix, int64_t *usec,
                     struct err *) MUST_USE;

#endif
