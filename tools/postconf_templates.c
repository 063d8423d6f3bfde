/* SPDX-License-Identifier: Apache-2.0 */
/* postconf -b and -t: the texts of notices. */
#include <stdio.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/bounce_template.h"
#include "tools/postconf.h"

static void
put_header(struct buf *out, const char *name, const char *value)
{
    if (value)
        buf_printf(out, "%s: %s\n", name, value);
}

static void
put_source(const struct bounce_template *template, struct buf *out)
{
    buf_printf(out, "%s_template = <<EOF\n", template->name);
    put_header(out, "Charset", template->charset);
    put_header(out, "From", template->from);
    put_header(out, "Subject", template->subject);
    put_header(out, "Postmaster-Subject", template->postmaster_subject);
    buf_printf(out, "\n%sEOF\n", template->text);
}

static void
put_expanded(const struct postconf *pc, const struct bounce_template *template, struct buf *out)
{
    struct err err;

    buf_printf(out, "expanded_%s_text = <<EOF\n", template->name);
    if (bounce_template_expand(template, pc->conf, out, &err) < 0)
        fatal("%s", err.text);
    buf_append_text(out, "EOF\n");
}

void
postconf_templates(struct postconf *pc, const char *path, bool expanded)
{
    struct bounce_template templates[TEMPLATE_KINDS];
    struct buf out = {0};
    struct err err;

    if (!path)
        path = conf_string(pc->conf, pc->arena, "bounce_template_file", &err);
    if (!path || bounce_templates_load(pc->arena, path, templates, &err) < 0)
        fatal("%s", err.text);
    for (unsigned i = 0; i < TEMPLATE_KINDS; i++) {
        if (i > 0)
            buf_append_byte(&out, '\n');
        if (expanded)
            put_expanded(pc, &templates[i], &out);
        else
            put_source(&templates[i], &out);
    }
    fwrite(out.ptr, 1, out.len, stdout);
    buf_release(&out);
}
