/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/check.h"

#include <string.h>
#include <strings.h>

#include "cleanup/server.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/table/maps.h"

enum { LOGGED_LIMIT = 200 }; /* of the text that is logged */

static struct maps *tables[CHECK_KINDS];

static const char *const parameters[CHECK_KINDS] = {"header_checks", "mime_header_checks", "nested_header_checks",
                                                    "body_checks"};

int
checks_open(struct arena *arena, const struct conf *conf, struct err *err)
{
    const struct cleanup_settings *s = &server.settings;
    const char *const texts[CHECK_KINDS] = {s->header_checks, s->mime_header_checks, s->nested_header_checks,
                                            s->body_checks};

    for (unsigned i = 0; i < CHECK_KINDS; i++) {
        tables[i] = maps_new(arena, conf, parameters[i], texts[i], TABLE_NO_UTF8 | TABLE_RESULT_CHECKED, err);
        if (!tables[i])
            return -1;
    }
    return 0;
}

bool
checks_has(enum check_kind kind)
{
    return !maps_is_empty(tables[kind]);
}

bool
checks_want(const struct message *m)
{
    int64_t flags = m->envelope->submit_flags;

    return !m->checks_are_over && !(flags & SUBMIT_NO_HEADER_CHECKS) &&
           (!(flags & SUBMIT_INTERNAL) || (flags & SUBMIT_FILTERED));
}

/* ---- an action ---- */

struct check {
    struct message *m;
    enum check_kind kind; /* CHECK_KINDS: whatever the text is */
    struct slice text;
    const char *argument; /* behind the action's name */
    struct check_result *result;
};

/* "ID: reject: header Subject: x from host[1.2.3.4]; from=<a> to=<b> proto=ESMTP helo=<h>: why" */
static void
tell_action(const struct check *c, const char *action, const char *why)
{
    const struct envelope *e = c->m->envelope;
    const char *to = c->m->last_recipient ? c->m->last_recipient : e->recipients[e->recipient_count - 1].address;
    struct slice text = c->text;

    if (text.len > LOGGED_LIMIT)
        text.len = LOGGED_LIMIT;
    log_content_check(e->queue_id, action,
                      c->kind == CHECK_KINDS  ? "content"
                      : c->kind == CHECK_BODY ? "body"
                                              : "header",
                      text, *e->log_message_origin ? e->log_message_origin : "unknown", e->sender, to,
                      e->log_protocol_name, e->log_helo_name, why);
}

/* Does "x.y.z text" or "text" begin with an enhanced status code? Cuts it off. */
static const char *
take_status(struct arena *arena, const char **text)
{
    size_t n = strspn(*text, "0123456789.");
    const char *dot = strchr(*text, '.');

    if (n < 5 || n > 9 || (**text != '4' && **text != '5') || !dot || dot != *text + 1 ||
        (*text + n)[-1] == '.' || ((*text)[n] && !text_is_space((*text)[n])))
        return NULL;
    const char *status = arena_strndup(arena, *text, n);
    *text += n;
    *text += strspn(*text, " \t");
    return status;
}

static int
act_reject(const struct check *c)
{
    const char *text = c->argument, *status = take_status(c->m->arena, &text);

    if (!*text)
        text = "message content rejected";
    if (!status)
        status = "5.7.1";
    tell_action(c, "reject", arena_printf(c->m->arena, "%s %s", status, text));
    return message_refuse(c->m, *status == '4' ? 451 : 550, status, "%s", text);
}

static int
act_warn(const struct check *c)
{
    tell_action(c, "warning", c->argument);
    return 0;
}

static int
act_info(const struct check *c)
{
    tell_action(c, "info", c->argument);
    return 0;
}

static int
act_hold(const struct check *c)
{
    if (!(c->m->envelope->submit_flags & SUBMIT_HOLD))
        tell_action(c, "hold", c->argument);
    c->m->envelope->submit_flags |= SUBMIT_HOLD;
    return 0;
}

static int
act_discard(const struct check *c)
{
    tell_action(c, "discard", c->argument);
    c->m->envelope->submit_flags |= SUBMIT_DISCARD;
    c->m->checks_are_over = true;
    return -1;
}

static int
act_ignore(const struct check *c)
{
    c->result->drop = true;
    return 0;
}

static int
act_strip(const struct check *c)
{
    tell_action(c, "strip", c->argument);
    c->result->drop = true;
    return 0;
}

static int
act_pass(const struct check *c)
{
    tell_action(c, "pass", c->argument);
    c->m->checks_are_over = true;
    c->m->envelope->submit_flags |= SUBMIT_NO_MILTERS;
    return 0;
}

static int
act_dunno(const struct check *c)
{
    (void)c;
    return 0;
}

static bool
is_address(const char *text)
{
    const char *at = strrchr(text, '@');

    return at && at > text && at[1] && !strpbrk(text, " \t");
}

static int
act_redirect(const struct check *c)
{
    if (!is_address(c->argument)) {
        log_warning("bad REDIRECT target \"%s\" in %s map -- need user@domain", c->argument, parameters[c->kind]);
        return 0;
    }
    tell_action(c, "redirect", c->argument);
    c->m->envelope->redirect = c->argument;
    c->m->checks_are_over = true; /* as Postfix has it */
    return 0;
}

static int
act_filter(const struct check *c)
{
    if (!*c->argument || *c->argument == ':' || !strchr(c->argument, ':')) {
        log_warning("bad FILTER command %s in %s -- need transport:destination", c->argument, parameters[c->kind]);
        return 0;
    }
    tell_action(c, "filter", c->argument);
    c->m->envelope->content_filter = c->argument;
    return 0;
}

static int may_wait
act_bcc(const struct check *c)
{
    if (!is_address(c->argument)) {
        log_warning("bad BCC address \"%s\" in %s map -- need user@domain", c->argument, parameters[c->kind]);
        return 0;
    }
    tell_action(c, "bcc", c->argument);
    return recipients_add_copy(c->m, c->argument);
}

/* What is to stand in the message; NULL if it can't. */
static const char *
new_text(const struct check *c, const char *action)
{
    struct slice name, value;

    if (!*c->argument) {
        log_warning("%s action without text in %s map", action, parameters[c->kind]);
        return NULL;
    }
    if (c->kind != CHECK_BODY && !header_split(slice_from(c->argument), &name, &value)) {
        log_warning("bad %s header text \"%s\" in %s map -- need \"headername: headervalue\"", action, c->argument,
                    parameters[c->kind]);
        return NULL;
    }
    return c->argument;
}

static int
act_prepend(const struct check *c)
{
    if ((c->result->prepend = new_text(c, "PREPEND")) != NULL)
        tell_action(c, "prepend", c->argument);
    return 0;
}

static int
act_replace(const struct check *c)
{
    if ((c->result->replace = new_text(c, "REPLACE")) != NULL)
        tell_action(c, "replace", c->argument);
    return 0;
}

static const struct {
    const char *name;
    int (*fn)(const struct check *);
} actions[] = {
    {"BCC", act_bcc},       {"DISCARD", act_discard}, {"DUNNO", act_dunno},       {"FILTER", act_filter},
    {"HOLD", act_hold},     {"IGNORE", act_ignore},   {"INFO", act_info},         {"OK", act_dunno},
    {"PASS", act_pass},     {"PREPEND", act_prepend}, {"REDIRECT", act_redirect}, {"REJECT", act_reject},
    {"REPLACE", act_replace}, {"STRIP", act_strip},   {"WARN", act_warn},
};

static int may_wait
act(struct check *c, const char *value)
{
    size_t n = strcspn(value, " \t");

    c->argument = value + n + strspn(value + n, " \t");
    for (unsigned i = 0; i < ARRAY_LEN(actions); i++)
        if (strlen(actions[i].name) == n && strncasecmp(value, actions[i].name, n) == 0)
            return actions[i].fn(c);
    log_warning("unknown command in %s map: %s", parameters[c->kind], value);
    return 0;
}

int may_wait
check_text(struct message *m, enum check_kind kind, struct slice text, struct check_result *result)
{
    const char *nul = memchr(text.ptr, '\0', text.len), *value;
    struct check c = {.m = m, .kind = kind, .text = text, .result = result};
    struct err err;

    *result = (struct check_result){.drop = false};
    if (nul)
        c.text.len = (size_t)(nul - text.ptr);
    if (c.text.len == 0 || !checks_want(m) || !checks_has(kind))
        return 0;
    if (maps_find(tables[kind], m->arena, c.text, &value, &err) < 0) {
        log_warning("%s: %s -- message not accepted, try again later", m->envelope->queue_id, err.text);
        return message_refuse(m, 451, "4.3.0", "Error: look-up failed");
    }
    return value ? act(&c, value) : 0;
}

int
check_refuse_content(struct message *m, struct slice wire, size_t at, const char *why)
{
    size_t from = at, end = at;

    while (from > 0 && wire.ptr[from - 1] != '\n' && at - from < LOGGED_LIMIT / 2)
        from--;
    while (end < wire.len && wire.ptr[end] != '\r' && wire.ptr[end] != '\n' && end - from < LOGGED_LIMIT)
        end++;
    const struct check c = {.m = m, .kind = CHECK_KINDS, .text = slice_make(wire.ptr + from, end - from)};
    tell_action(&c, "reject", arena_printf(m->arena, "5.7.1 %s", why));
    return message_refuse(m, 550, "5.7.1", "%s", why);
}

int
check_mime_error(struct message *m, const char *why, struct slice what)
{
    const struct envelope *e = m->envelope;
    const char *to = m->last_recipient ? m->last_recipient : "";

    if (what.len > LOGGED_LIMIT)
        what.len = LOGGED_LIMIT;
    log_mime_error(e->queue_id, why, what, *e->log_message_origin ? e->log_message_origin : "unknown", e->sender, to);
    return message_refuse(m, 550, "5.6.0", "%s", why);
}
