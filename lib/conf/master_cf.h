/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/master_cf.h: the services of master.cf. Format as master(5) documents it:
 *
 *   service type private unprivileged chroot wakeup maxproc command [arguments]
 *
 * "-" is the default of a field. Arguments: -o name=value, -o { name = value with blanks }, { argument with blanks }, and
 * whatever else the command takes. A line that begins with a blank continues the one before. */
#ifndef LIB_CONF_MASTER_CF_H
#define LIB_CONF_MASTER_CF_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/conf.h"
#include "lib/conf/interfaces.h"

enum service_type { SERVICE_INET, SERVICE_UNIX, SERVICE_UNIX_DGRAM, SERVICE_FIFO, SERVICE_PASS };

enum { MASTER_CF_FIELDS = 8 };

struct master_option {
    const char *name, *value; /* -o name=value; not expanded */
};

/* A line, with each "-" replaced by its default: private and unprivileged y, chroot n (y where compatibility_level is
 * below 1, as in Postfix), wakeup 0, maxproc default_process_limit. */

struct master_service {
    const char *name; /* "smtp", "127.0.0.1:10025", "[::1]:25", "cleanup" */
    enum service_type type;
    const char *host, *port; /* inet: parts of name; host NULL: inet_interfaces */
    bool is_private;         /* inet: never */
    bool unprivileged;       /* runs as mail_owner */
    bool chroot;
    unsigned wakeup;       /* seconds; 0: never */
    bool wakeup_if_used;   /* "?": only after the service was used once */
    unsigned maxproc;      /* 0: no limit */
    bool maxproc_is_given; /* the administrator wrote a number */
    const char *command;   /* "smtpd" */
    char **args; /* arguments as exec() wants them, without the command: "-o", "a=b", "flags=Rq"...; NULL at the end */
    size_t arg_count;
    struct master_option *options; /* those of -o, in their order */
    size_t option_count;
    unsigned verbose;                     /* how many v in -v options */
    unsigned line;                        /* of master.cf, where it begins */
    const char *fields[MASTER_CF_FIELDS]; /* as written, "-" and all; the last is the command */
};

struct master_cf {
    const char *path;
    struct master_service *services;
    size_t count;
    const char **warnings; /* whole texts of what is odd, but no error */
    size_t warning_count;
};

/* How much of a file must be right. The tools that show and repair a file take what others refuse. */
enum master_cf_rigour {
    MASTER_CF_STRICT, /* all of it: for whoever starts services */
    MASTER_CF_SHOW,   /* the fields; arguments as far as they can be understood, with a warning */
    MASTER_CF_EDIT,   /* nothing: a malformed service has what fields can be found, the others are "" */
};

/* Reads DIR/master.cf of the configuration. All is in the arena. A malformed line is an error with file and line. A service
 * that is there twice stays twice: whoever starts services should refuse the second. A continuation of nothing at the
 * beginning of the file is left out, with a warning. */
int master_cf_load(const struct conf *, struct arena *, struct master_cf *, struct err *) MUST_USE;

/* The same from text; path for messages. Defaults come from conf. */
int master_cf_parse(const struct conf *, struct arena *, const char *path, struct slice content, struct master_cf *,
                    struct err *) MUST_USE;

/* For tools: without a configuration, with other rigour. Fields in which "-" stands have the newest defaults. */
int master_cf_read(struct arena *, const char *path, struct slice content, enum master_cf_rigour, struct master_cf *,
                   struct err *) MUST_USE;

/* NULL if there is none. */
struct master_service *master_cf_find(const struct master_cf *, const char *name, const char *type);

const char *master_type_name(enum service_type);

/* A number, or the name of a TCP service. */
int master_port(const char *text, unsigned *port, struct err *) MUST_USE;

/* Where an inet service listens: the addresses of its host field, or of inet_interfaces, with its port (a number or a
 * name of /etc/services). With inet_interfaces = all the wildcard addresses of inet_protocols (IPv6's is meant
 * for IPv6 alone: IPV6_V6ONLY). In the arena. */
int master_service_addresses(const struct conf *, struct arena *, const struct master_service *, struct net_addr **,
                             size_t *count, struct err *) MUST_USE;

/* Is the service named in a list like master_service_disable ("smtp.inet, private.unix, inet")? */
bool master_service_is_listed(const struct master_service *, const char *list);

/* The service in master.cf's form, fields in columns; folded: -o options on lines of their own. */
void master_service_print(const struct master_service *, bool folded, struct buf *out);

/* Its command and arguments alone. What stands in out since the last newline counts for where to fold. */
void master_command_print(const struct master_service *, bool folded, struct buf *out);

#endif
