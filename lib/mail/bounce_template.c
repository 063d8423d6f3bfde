/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/bounce_template.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/expand.h"

#define FROM "Mail Delivery System <MAILER-DAEMON>"
#define HOST "This is the mail system at host $myhostname.\n\n"
#define HELP "Should you need help, write to postmaster, and include this report.\n\n"
#define END  "                   The mail system\n"

static const struct bounce_template builtin[TEMPLATE_KINDS] = {
    [TEMPLATE_FAILURE] =
        {
            .name = "failure",
            .charset = "us-ascii",
            .from = FROM,
            .subject = "Undelivered Mail Returned to Sender",
            .postmaster_subject = "Postmaster Copy: Undelivered Mail",
            .text = HOST "Your message did not reach everybody it was meant for. Below is what was tried\n"
                         "and what came of it; your message is attached.\n\n" HELP END,
        },
    [TEMPLATE_DELAY] =
        {
            .name = "delay",
            .charset = "us-ascii",
            .from = FROM,
            .subject = "Delayed Mail (still being retried)",
            .postmaster_subject = "Postmaster Warning: Delayed Mail",
            .text = HOST
            "####################################################################\n"
            "# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #\n"
            "####################################################################\n\n"
            "After $delay_warning_time_hours hour(s) your message is still on its way to the recipients\n"
            "below. It is tried again and again until it is $maximal_queue_lifetime_days day(s) old.\n\n" HELP END,
        },
    [TEMPLATE_SUCCESS] =
        {
            .name = "success",
            .charset = "us-ascii",
            .from = FROM,
            .subject = "Successful Mail Delivery Report",
            .text = HOST "You asked to be told: your message was delivered, or handed on, as said below.\n\n" END,
        },
    [TEMPLATE_VERIFY] =
        {
            .name = "verify",
            .charset = "us-ascii",
            .from = FROM,
            .subject = "Mail Delivery Status Report",
            .text = HOST "You asked how these recipients would be reached. Nothing was sent to them.\n\n" END,
        },
};

void
bounce_templates_builtin(struct bounce_template templates[TEMPLATE_KINDS])
{
    memcpy(templates, builtin, sizeof(builtin));
}

/* ---- one template ---- */

struct reader {
    struct arena *arena;
    const char *path;
    struct slice rest;
    unsigned line; /* of the physical line taken last */
    struct found {
        struct slice text; /* headers and all; a later one of the same name replaces it before it is judged */
        unsigned line;     /* of the text's first line; 0: there is none */
    } found[TEMPLATE_KINDS];
};

static bool
is_ascii(struct slice text)
{
    return !text_has_8bit(text);
}

static struct slice
without_blanks(struct slice s)
{
    while (s.len > 0 && text_is_space(*s.ptr)) {
        s.ptr++;
        s.len--;
    }
    return s;
}

/* "Name: value", a blank before the colon allowed. False: the line is no header. */
static bool
cut_header(struct slice line, struct slice *name, struct slice *value)
{
    size_t len = 0, colon;

    while (len < line.len && line.ptr[len] > ' ' && line.ptr[len] < 127 && line.ptr[len] != ':')
        len++;
    for (colon = len; colon < line.len && (line.ptr[colon] == ' ' || line.ptr[colon] == '\t');)
        colon++;
    if (len == 0 || colon == line.len || line.ptr[colon] != ':')
        return false;
    *name = slice_make(line.ptr, len);
    *value = without_blanks(slice_make(line.ptr + colon + 1, line.len - colon - 1));
    return true;
}

static int
set_header(struct reader *r, struct bounce_template *template, struct slice name, struct slice value, struct err *err)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"charset", &template->charset},
                 {"from", &template->from},
                 {"subject", &template->subject},
                 {"postmaster-subject", &template->postmaster_subject}};
    size_t i = 0;

    if (value.len == 0)
        return err_set(err, ERR_SYNTAX, "empty \"%.*s\" header value in %s template", SLICE_ARG(name), template->name);
    if (!is_ascii(value))
        return err_set(err, ERR_SYNTAX, "non-ASCII \"%.*s\" header value in %s template", SLICE_ARG(name),
                       template->name);
    while (i < ARRAY_LEN(known) && !slice_equal_text_fold(name, known[i].name))
        i++;
    if (i == ARRAY_LEN(known))
        return err_set(err, ERR_SYNTAX, "unknown \"%.*s\" header label in %s template", SLICE_ARG(name),
                       template->name);
    if (!*known[i].value)
        return err_set(err, ERR_SYNTAX, "inapplicable \"%.*s\" header label in %s template", SLICE_ARG(name),
                       template->name);
    *known[i].value = arena_strndup(r->arena, value.ptr, value.len);
    return 0;
}

/* The headers of a template, and the blank lines behind them, taken off *text. *line is that of *text's first line. */
static int
take_headers(struct reader *r, struct bounce_template *template, struct slice *text, unsigned *line, struct err *err)
{
    struct slice rest = *text, physical, name, value;

    for (; slice_cut(&rest, '\n', &physical) && cut_header(physical, &name, &value); ++*line) {
        if (set_header(r, template, name, value, err) < 0)
            return -1;
        *text = rest;
    }
    for (rest = *text; slice_cut(&rest, '\n', &physical) && without_blanks(physical).len == 0; ++*line)
        *text = rest;
    return 0;
}

/* text: what stands between "<<EOF" and "EOF", beginning at that line. */
static void
take_template(struct reader *r, struct bounce_template *place, unsigned kind)
{
    struct bounce_template made = builtin[kind];
    struct slice text = r->found[kind].text;
    unsigned line = r->found[kind].line;
    struct err err;

    if (take_headers(r, &made, &text, &line, &err) < 0) {
        log_warning("%s, line %u: %s -- ignoring this template", r->path, line, err.text);
        return;
    }
    if (without_blanks(text).len == 0) {
        log_warning("%s, line %u: missing message text in %s template -- ignoring this template", r->path, line,
                    made.name);
        return;
    }
    if (!is_ascii(text) && strcasecmp(made.charset, "us-ascii") == 0) {
        log_warning("%s, line %u: 8-bit message text in %s template, but its Charset is us-ascii (say which it is: "
                    "\"Charset: utf-8\") -- ignoring this template",
                    r->path, line, made.name);
        return;
    }
    made.path = r->path;
    made.line = line;
    made.text = arena_printf(r->arena, "%.*s%s", SLICE_ARG(text), text.ptr[text.len - 1] == '\n' ? "" : "\n");
    *place = made;
}

/* ---- the file ---- */

/* The text up to the line that is the marker, off r->rest. *first: the number of its first line. */
static struct slice
take_text(struct reader *r, const char *name, struct slice marker, unsigned *first)
{
    struct slice text = slice_make(r->rest.ptr, 0), physical;

    while (slice_cut(&r->rest, '\n', &physical)) {
        r->line++;
        if (slice_equal(physical, marker))
            return text;
        if (text.len == 0 && physical.len == 0) { /* empty lines before headers, too, are none of the text */
            text.ptr = r->rest.ptr;
            ++*first;
        } else {
            text.len = (size_t)(r->rest.ptr - text.ptr);
        }
    }
    log_warning("%s, line %u: missing \"%.*s\" end marker of %s", r->path, r->line, SLICE_ARG(marker), name);
    return text;
}

static struct found *
find(struct reader *r, const char *name)
{
    for (unsigned i = 0; i < TEMPLATE_KINDS; i++)
        if (strcmp(name, arena_printf(r->arena, "%s_template", builtin[i].name)) == 0)
            return &r->found[i];
    log_warning("%s, line %u: unknown template name: %s -- ignoring this template", r->path, r->line, name);
    return NULL;
}

/* "name = value" of a line, the blanks around both gone. */
static int
split(struct reader *r, struct slice line, struct slice *name, struct slice *value, struct err *err)
{
    struct slice rest = without_blanks(line);
    size_t len = 0;

    while (len < rest.len && !text_is_space(rest.ptr[len]) && rest.ptr[len] != '=')
        len++;
    *name = slice_make(rest.ptr, len);
    *value = without_blanks(slice_make(rest.ptr + len, rest.len - len));
    if (value->len == 0 || *value->ptr != '=')
        return err_set(err, ERR_SYNTAX, "%s, line %u: missing '=' after attribute name: \"%.*s\"", r->path, r->line,
                       SLICE_ARG(line));
    if (len == 0)
        return err_set(err, ERR_SYNTAX, "%s, line %u: missing attribute name: \"%.*s\"", r->path, r->line,
                       SLICE_ARG(line));
    *value = slice_trim(slice_make(value->ptr + 1, value->len - 1));
    return 0;
}

/* value: what stands behind "=". */
static int
take_entry(struct reader *r, const char *name, struct slice value, struct err *err)
{
    unsigned line = r->line;
    struct slice text = value, marker;
    struct found *place;

    if (value.len >= 2 && memcmp(value.ptr, "<<", 2) == 0) {
        marker = slice_trim(slice_make(value.ptr + 2, value.len - 2));
        if (marker.len == 0)
            return err_set(err, ERR_SYNTAX, "%s, line %u: missing end marker after <<", r->path, line);
        if (!text_is_alnum(*marker.ptr))
            return err_set(err, ERR_SYNTAX, "%s, line %u: malformed end marker after <<", r->path, line);
        line++;
        text = take_text(r, name, marker, &line);
    } else if (value.len > 0) {
        text = slice_from(arena_printf(r->arena, "%.*s\n", SLICE_ARG(value)));
    }
    place = find(r, name);
    if (place)
        *place = (struct found){text, line};
    return 0;
}

int
bounce_templates_parse(struct arena *arena, const char *path, struct slice content,
                       struct bounce_template templates[TEMPLATE_KINDS], struct err *err)
{
    struct reader r = {.arena = arena, .path = arena_strdup(arena, path), .rest = content};
    struct slice physical, name, value;

    while (cf_physical_next(&r.rest, &physical)) {
        r.line++;
        if (cf_is_comment(physical))
            continue;
        if (split(&r, physical, &name, &value, err) < 0 ||
            take_entry(&r, arena_strndup(arena, name.ptr, name.len), value, err) < 0)
            return -1;
    }
    for (unsigned i = 0; i < TEMPLATE_KINDS; i++)
        if (r.found[i].line > 0)
            take_template(&r, &templates[i], i);
    return 0;
}

int
bounce_templates_load(struct arena *arena, const char *path, struct bounce_template templates[TEMPLATE_KINDS],
                      struct err *err)
{
    struct slice content;

    bounce_templates_builtin(templates);
    if (!*path)
        return 0;
    if (cf_file_read(arena, path, &content, err) < 0)
        return -1;
    return bounce_templates_parse(arena, path, content, templates, err);
}

/* ---- $names ---- */

enum { READABLE = 999 }; /* a larger number of units should be one of larger units */

static const struct unit {
    const char *name;
    usec_t length;
} units[] = {{"seconds", SECONDS(1)},
             {"minutes", SECONDS(60)},
             {"hours", SECONDS(3600)},
             {"days", SECONDS(86400)},
             {"weeks", SECONDS(604800)}};

struct expansion {
    const struct bounce_template *template;
    const struct conf *conf;
    struct arena *arena;
    const char *where;
};

static void
judge_number(const struct expansion *e, const struct unit *unit, usec_t time, int64_t number, struct slice name)
{
    const char *complaint = number == 0 && time > 0                               ? "zero"
                            : number > READABLE && unit->length < SECONDS(604800) ? "excessive"
                                                                                  : NULL;

    if (complaint)
        log_warning("%s: %s result \"%" PRId64 "\" in %s template conversion of parameter \"%.*s\": use another unit "
                    "than %s",
                    e->where, complaint, number, e->template->name, SLICE_ARG(name), unit->name);
}

/* name: PARAMETER_UNIT; its first length bytes are the parameter. */
static int
time_value(const struct expansion *e, struct slice name, size_t length, struct slice *value, struct err *err)
{
    const char *parameter = arena_strndup(e->arena, name.ptr, length);
    struct slice suffix = slice_make(name.ptr + length + 1, name.len - length - 1);
    usec_t time;

    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (slice_equal_text(suffix, units[i].name)) {
            if (conf_time(e->conf, parameter, &time, err) < 0)
                return -1;
            judge_number(e, &units[i], time, time / units[i].length, name);
            *value = slice_from(arena_printf(e->arena, "%" PRId64, time / units[i].length));
            return 0;
        }
    return err_set(err, ERR_SYNTAX, "unrecognized suffix \"%.*s\" in parameter \"%.*s\"", SLICE_ARG(suffix),
                   SLICE_ARG(name));
}

static int
value_of(void *ctx, struct slice name, struct slice *value, struct err *err)
{
    static const char *const times[] = {"delay_warning_time", "maximal_queue_lifetime"};
    const struct expansion *e = ctx;
    const char *text;

    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        size_t len = strlen(times[i]);
        if (name.len > len && name.ptr[len] == '_' && memcmp(name.ptr, times[i], len) == 0)
            return time_value(e, name, len, value, err);
    }
    text = conf_raw(e->conf, arena_strndup(e->arena, name.ptr, name.len));
    if (!text)
        return 0;
    text = conf_expand(e->conf, e->arena, text, err);
    *value = slice_make(text, text ? strlen(text) : 0);
    return text ? 0 : -1;
}

static int
expand_line(struct expansion *e, struct slice line, struct buf *out, struct err *err)
{
    struct expand_source source = {.value = value_of, .ctx = e, .final = true, .strict = true};

    if (expand_text(&source, line, out, err) < 0)
        return err_set(err, ERR_SYNTAX, "%s: %s in %s template: %.*s", e->where, arena_strdup(e->arena, err->text),
                       e->template->name, SLICE_ARG(line));
    buf_append_byte(out, '\n');
    return 0;
}

int
bounce_template_expand(const struct bounce_template *template, const struct conf *conf, struct buf *out,
                       struct err *err)
{
    struct expansion e = {.template = template, .conf = conf, .arena = arena_new()};
    struct slice rest = slice_from(template->text), line;
    size_t before = out->len;
    int result = 0;

    for (unsigned number = template->line; result == 0 && rest.len > 0 && slice_cut(&rest, '\n', &line); number++) {
        e.where = template->path ? arena_printf(e.arena, "%s, line %u", template->path, number) : "built-in template";
        result = expand_line(&e, line, out, err);
    }
    if (result < 0)
        out->len = before;
    arena_free(&e.arena);
    return result;
}
