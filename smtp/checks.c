/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/checks.h"

#include <string.h>
#include <strings.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/table/maps.h"

enum { LOGGED_LIMIT = 60 };

static const char *const parameters[CHECK_KINDS] = {"header_checks", "mime_header_checks", "nested_header_checks",
                                                    "body_checks"};

struct checks {
    struct maps *tables[CHECK_KINDS];
    const char *names[CHECK_KINDS];
    size_t header_limit;
    struct mime_walk_rules rules; /* but for what a message is to them */
};

struct checking {
    const struct checks *checks;
    struct arena *arena;
    const char *queue_id;
    const struct mime_sink *sink;
    struct mime_walk_rules rules;
    struct mime_walk *walk; /* NULL: in the header section, or the body passes as it is */
    bool in_body;
    struct buf line, header; /* what is not complete yet */
    struct slice type, encoding;
    struct err *err; /* of the call that is under way */
};

int
checks_new(struct arena *arena, const struct conf *conf, const struct smtp_settings *s, bool lmtp,
           struct checks **result, struct err *err)
{
    struct checks *checks = ARENA_NEW(arena, struct checks);
    const char *const texts[CHECK_KINDS] = {s->smtp_header_checks, s->smtp_mime_header_checks,
                                            s->smtp_nested_header_checks, s->smtp_body_checks};
    bool any = false;

    *result = NULL;
    for (unsigned i = 0; i < CHECK_KINDS; i++) {
        checks->names[i] = arena_printf(arena, "%s_%s", lmtp ? "lmtp" : "smtp", parameters[i]);
        checks->tables[i] =
            maps_new(arena, conf, checks->names[i], texts[i], TABLE_NO_UTF8 | TABLE_RESULT_CHECKED, err);
        if (!checks->tables[i])
            return -1;
        any = any || !maps_is_empty(checks->tables[i]);
    }
    checks->rules = (struct mime_walk_rules){.follows_structure = true,
                                             .header_limit = (size_t)s->header_size_limit,
                                             .boundary_limit = (size_t)s->mime_boundary_length_limit,
                                             .line_limit = (size_t)s->line_length_limit,
                                             .nesting_limit = (unsigned)s->mime_nesting_limit,
                                             .body_limit = (uint64_t)s->body_checks_size_limit};
    if (any)
        *result = checks;
    return 0;
}

/* ---- actions ---- */

static void
tell_action(const struct checking *c, const char *action, enum check_kind kind, struct slice text, const char *argument)
{
    if (text.len > LOGGED_LIMIT)
        text.len = LOGGED_LIMIT;
    log_delivery_check(c->queue_id, action, kind == CHECK_BODY ? "body" : "header", text, argument);
}

/* What is to stand in the message; NULL if it can't. */
static const char *
new_text(const struct checking *c, enum check_kind kind, const char *action, const char *text)
{
    struct slice name, value;

    if (*text && (kind == CHECK_BODY || header_split(slice_from(text), &name, &value)))
        return text;
    if (*text)
        log_warning("bad %s header text \"%s\" in %s map -- need \"headername: headervalue\"", action, text,
                    c->checks->names[kind]);
    else
        log_warning("%s action without text in %s map", action, c->checks->names[kind]);
    return NULL;
}

static void
act(const struct checking *c, enum check_kind kind, struct slice text, const char *value, struct check_result *result)
{
    struct slice action = slice_make(value, strcspn(value, " \t"));
    const char *argument = value + action.len + strspn(value + action.len, " \t");

    if (slice_equal_text_fold(action, "IGNORE")) {
        result->drop = true;
    } else if (slice_equal_text_fold(action, "STRIP")) {
        tell_action(c, "strip", kind, text, argument);
        result->drop = true;
    } else if (slice_equal_text_fold(action, "WARN")) {
        tell_action(c, "warning", kind, text, argument);
    } else if (slice_equal_text_fold(action, "INFO")) {
        tell_action(c, "info", kind, text, argument);
    } else if (slice_equal_text_fold(action, "REPLACE")) {
        if ((result->replace = new_text(c, kind, "REPLACE", argument)) != NULL)
            tell_action(c, "replace", kind, text, argument);
    } else if (slice_equal_text_fold(action, "PREPEND")) {
        if ((result->prepend = new_text(c, kind, "PREPEND", argument)) != NULL)
            tell_action(c, "prepend", kind, text, argument);
    } else if (!slice_equal_text_fold(action, "DUNNO") && !slice_equal_text_fold(action, "OK")) {
        log_warning("unsupported command in %s map: %s", c->checks->names[kind], value);
    }
}

static int may_wait
ask(void *ctx, enum check_kind kind, struct slice text, struct check_result *result)
{
    struct checking *c = ctx;
    const struct maps *tables = c->checks->tables[kind];
    const char *nul = text.len ? memchr(text.ptr, '\0', text.len) : NULL, *value;

    *result = (struct check_result){.drop = false};
    if (nul)
        text.len = (size_t)(nul - text.ptr);
    if (text.len == 0 || maps_is_empty(tables))
        return 0;
    if (maps_find(tables, c->arena, text, &value, c->err) < 0)
        return -1;
    if (value)
        act(c, kind, text, value, result);
    return 0;
}

/* It was accepted; what is wrong with its structure is not ours to judge. */
static int
refuse(void *ctx, const char *why, struct slice what)
{
    (void)ctx, (void)why, (void)what;
    return 0;
}

/* ---- the header section ---- */

static int may_wait
emit(struct checking *c, struct slice bytes)
{
    return bytes.len > 0 ? c->sink->emit(c->sink->ctx, bytes, true) : 0;
}

static struct slice
unfolded(struct arena *arena, struct slice value)
{
    char *text = arena_strndup(arena, value.ptr, value.len), *to = text;

    for (size_t i = 0; i < value.len; i++)
        if (text[i] != '\r' && text[i] != '\n')
            *to++ = text[i];
    return slice_trim(slice_make(text, (size_t)(to - text)));
}

/* c->header is complete. */
static int may_wait
end_header(struct checking *c)
{
    struct slice wire = buf_slice(&c->header), name, value;
    struct check_result result;

    if (wire.len == 0)
        return 0;
    if (!header_split(wire, &name, &value))
        name = value = slice_make("", 0);
    if (slice_equal_text_fold(name, "content-type"))
        c->type = unfolded(c->arena, value);
    if (slice_equal_text_fold(name, "content-transfer-encoding"))
        c->encoding = unfolded(c->arena, value);
    enum check_kind kind = header_is_mime(name) ? CHECK_MIME_HEADER : CHECK_HEADER;
    if (ask(c, kind, header_as_text(c->arena, wire, c->rules.header_limit), &result) < 0)
        return -1;
    int answer = result.prepend ? emit(c, header_wire(c->arena, result.prepend, true)) : 0;
    if (answer == 0 && result.replace)
        answer = emit(c, header_wire(c->arena, result.replace, true));
    else if (answer == 0 && !result.drop)
        answer = emit(c, wire);
    buf_clear(&c->header);
    return answer;
}

/* The header section is over: who looks at the body? */
static int may_wait
begin_body(struct checking *c)
{
    const struct checks *checks = c->checks;

    if (end_header(c) < 0)
        return -1;
    c->in_body = true;
    if (!maps_is_empty(checks->tables[CHECK_MIME_HEADER]) || !maps_is_empty(checks->tables[CHECK_NESTED_HEADER]) ||
        !maps_is_empty(checks->tables[CHECK_BODY]))
        c->walk = mime_walk_new(c->arena, &c->rules, c->type, c->encoding);
    return 0;
}

/* A whole line of the header section, or the one behind it, which is empty or the final dot. */
static int may_wait
header_line(struct checking *c, struct slice wire)
{
    struct slice name, value;

    if (c->header.len > 0 && (*wire.ptr == ' ' || *wire.ptr == '\t')) {
        buf_append_slice(&c->header, wire);
        return 0;
    }
    if (header_split(wire, &name, &value)) {
        if (end_header(c) < 0)
            return -1;
        buf_append_slice(&c->header, wire);
        return 0;
    }
    if (begin_body(c) < 0)
        return -1;
    bool is_body = wire.len > 2 && c->walk;
    return is_body ? mime_walk_add(c->walk, wire, c->sink) : emit(c, wire);
}

static int may_wait
take_lines(struct checking *c, struct slice *wire)
{
    while (!c->in_body && wire->len > 0) {
        const char *lf = memchr(wire->ptr, '\n', wire->len);
        size_t len = lf ? (size_t)(lf - wire->ptr) + 1 : wire->len;
        buf_append(&c->line, wire->ptr, len);
        *wire = slice_make(wire->ptr + len, wire->len - len);
        if (!lf)
            break;
        int result = header_line(c, buf_slice(&c->line));
        buf_clear(&c->line);
        if (result < 0)
            return -1;
    }
    return 0;
}

/* ---- the way ---- */

static void
release(void *arg)
{
    struct checking *c = arg;

    buf_release(&c->line);
    buf_release(&c->header);
    mime_walk_free(&c->walk);
}

struct checking *
checking_new(struct arena *arena, const struct checks *checks, const char *queue_id,
             const struct mime_sink *sink)
{
    struct checking *c = ARENA_NEW(arena, struct checking);

    *c = (struct checking){
        .checks = checks, .arena = arena, .queue_id = queue_id, .sink = sink, .rules = checks->rules};
    c->rules.ask = ask;
    c->rules.refuse = refuse;
    c->rules.ctx = c;
    c->type = c->encoding = slice_make("", 0);
    arena_defer(arena, release, c);
    return c;
}

int may_wait
checking_add(struct checking *c, struct slice wire, struct err *err)
{
    c->err = err;
    if (take_lines(c, &wire) < 0)
        return -1;
    if (wire.len == 0)
        return 0;
    return c->walk ? mime_walk_add(c->walk, wire, c->sink) : c->sink->emit(c->sink->ctx, wire, false);
}

int may_wait
checking_end(struct checking *c, struct err *err)
{
    c->err = err;
    if (!c->in_body && begin_body(c) < 0)
        return -1;
    return c->walk ? mime_walk_end(c->walk, c->sink) : 0;
}
