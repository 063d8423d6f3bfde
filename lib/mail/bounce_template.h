/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/bounce_template.h: the texts of notices as bounce(5) describes them: built in, or from bounce_template_file.
 *
 *   failure_template = <<EOF
 *   Charset: utf-8
 *   From: Mail Delivery System <MAILER-DAEMON>
 *   Subject: ...
 *   Postmaster-Subject: ...
 *
 *   Text with $names of main.cf.
 *   EOF
 *
 * A template that can't be used is named in a warning, and the built-in one stays in its place. */
#ifndef LIB_MAIL_BOUNCE_TEMPLATE_H
#define LIB_MAIL_BOUNCE_TEMPLATE_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/conf.h"

enum bounce_template_kind { TEMPLATE_FAILURE, TEMPLATE_DELAY, TEMPLATE_SUCCESS, TEMPLATE_VERIFY, TEMPLATE_KINDS };

struct bounce_template {
    const char *name;    /* "failure" */
    const char *path;    /* the file it is from; NULL: built in */
    unsigned line;       /* of the file, where text begins */
    const char *charset; /* never empty, nor are the next two; ASCII without line ends */
    const char *from;
    const char *subject;
    const char *postmaster_subject; /* NULL: there are no copies of this kind */
    const char *text;               /* lines ended by '\n', $names not expanded */
};

/* All texts as they are built in. The strings are static. */
void bounce_templates_builtin(struct bounce_template[TEMPLATE_KINDS]);

/* Puts the templates of a file's content in the place of others; of several with one name the last counts, whether it
 * can be used or not. -1: the file is malformed; nothing is taken. Strings are in the arena. */
int bounce_templates_parse(struct arena *, const char *path, struct slice content,
                           struct bounce_template[TEMPLATE_KINDS], struct err *) MUST_USE;

/* The built-in ones, then those of the file; path "": no file. -1 also if the file can't be read. */
int bounce_templates_load(struct arena *, const char *path, struct bounce_template[TEMPLATE_KINDS],
                          struct err *) MUST_USE;

/* Appends the text with all $names expanded: those of main.cf, and delay_warning_time_UNIT, maximal_queue_lifetime_UNIT
 * (UNIT: seconds, minutes, hours, days, weeks), with a warning if such a number is 0 or over 999. -1: a malformed or an
 * unknown name, told with file and line; out is then as it was. */
int bounce_template_expand(const struct bounce_template *, const struct conf *, struct buf *out, struct err *) MUST_USE;

#endif
