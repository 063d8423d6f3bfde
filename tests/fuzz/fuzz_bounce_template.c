/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as a bounce_template_file: whatever stands in it, each kind has a template that can be printed as postconf -t does, and
 * read back the same; expanding it never fails silently. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/mail/bounce_template.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void
check_header(const char *value)
{
    check(*value && !strchr(value, '\n') && !text_has_8bit(slice_from(value)));
}

static void
print(const struct bounce_template *t, struct buf *out)
{
    buf_printf(out, "%s_template = <<END MARKER\nCharset: %s\nFrom: %s\nSubject: %s\n", t->name, t->charset, t->from,
               t->subject);
    if (t->postmaster_subject)
        buf_printf(out, "Postmaster-Subject: %s\n", t->postmaster_subject);
    buf_printf(out, "\n%sEND MARKER\n", t->text);
}

static bool
has_marker(const struct bounce_template *t)
{
    return strstr(t->text, "END MARKER") != NULL;
}

static void
check_template(struct arena *arena, const struct bounce_template *t, unsigned kind, const struct conf *conf)
{
    struct bounce_template again[TEMPLATE_KINDS];
    struct buf out = {0};
    struct err err;

    check_header(t->charset);
    check_header(t->from);
    check_header(t->subject);
    check(*t->text && t->text[strlen(t->text) - 1] == '\n');
    if (bounce_template_expand(t, conf, &out, &err) < 0)
        check(*err.text && out.len == 0);
    buf_clear(&out);
    print(t, &out);
    bounce_templates_builtin(again);
    if (!has_marker(t)) {
        check(bounce_templates_parse(arena, "again", buf_slice(&out), again, &err) == 0);
        check(strcmp(again[kind].text, t->text) == 0 && strcmp(again[kind].from, t->from) == 0 &&
              strcmp(again[kind].subject, t->subject) == 0 && strcmp(again[kind].charset, t->charset) == 0);
    }
    buf_release(&out);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct bounce_template templates[TEMPLATE_KINDS];
    struct arena *arena = arena_new();
    struct slice text = slice_make(data, size);
    struct err err;
    struct conf *conf =
        conf_from_text("/nowhere", slice_from("myhostname = h\nmydomain = d\nown = $own2\nown2 = $own\n"), &err);

    check(conf);
    /* The reader of files refuses NULs before this. */
    if (!slice_has_byte(text, 0) && size < 64 << 10) {
        bounce_templates_builtin(templates);
        if (bounce_templates_parse(arena, "fuzz", text, templates, &err) < 0)
            check(*err.text);
        for (unsigned i = 0; i < TEMPLATE_KINDS; i++)
            check_template(arena, &templates[i], i, conf);
    }
    conf_free(&conf);
    arena_free(&arena);
    return 0;
}
