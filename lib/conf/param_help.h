/* SPDX-License-Identifier: Apache-2.0 */
/* lib/conf/param_help.h: what the table of parameters (params.def) and the longer texts (params.text) say to people. Only
 * postconf has these texts in it. */
#ifndef LIB_CONF_PARAM_HELP_H
#define LIB_CONF_PARAM_HELP_H

struct param_help {
    const char *readers; /* "smtpd qmgr"; "-": nobody */
    const char *since;   /* "2.3"; "-": always; "ours" */
    const char *line;    /* what it does */
    const char *text;    /* longer, paragraphs divided by newlines; "" if there is none */
};

/* In the order of the table: param_at(index). */
extern const struct param_help param_helps[];

#endif
