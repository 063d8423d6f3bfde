/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/access_action.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "smtpd/effects.h"
#include "smtpd/transaction.h"

/* What an action is about, for those who carry it out. */
struct action {
    struct access_check *check;
    const char *source, *subject, *kind;
    const char *verb;
    const char *text; /* behind the verb; "" */
};

enum access
access_table_failed(struct access_check *check, const char *source, const char *subject, const struct err *why)
{
    log_warning("%s: %s", source, why->text);
    return access_refuse_text(check, 451, "3.0", "<%s>: Temporary lookup failure", subject);
}

static enum access
misconfigured(const struct action *action, const char *what)
{
    log_warning("access table %s: %s %s", action->source, action->verb, what);
    return access_refuse_text(action->check, 451, "3.5", "<%s>: %s rejected: Server configuration error",
                              action->subject, action->kind);
}

static struct effects *
effects_of(const struct action *action)
{
    struct session *s = action->check->session;

    return s->transaction ? &s->transaction->effects : &s->effects;
}

static struct arena *
effects_arena(const struct action *action)
{
    struct session *s = action->check->session;

    return s->transaction ? s->transaction->arena : s->arena;
}

/* "discard: RCPT from name[addr]: <subject>: kind triggers DISCARD action; from=..." */
static void
note(const struct action *action, const char *word, const char *fallback)
{
    struct access_check *check = action->check;
    struct session *s = check->session;

    log_action(session_queue_id(s), word, s->where, s->client, action->subject, action->kind,
               *action->text ? action->text : fallback, session_whatsup(s, check->sender, check->recipient));
}

/* ---- refusing ---- */

const char *
access_take_detail(struct arena *arena, const char **text, const char *fallback)
{
    const char *c = *text;

    if ((*c != '2' && *c != '4' && *c != '5') || c[1] != '.')
        return fallback;
    const char *start = c + 2;
    c++;
    for (unsigned i = 0; i < 2; i++) {
        size_t digits = *c == '.' ? strspn(c + 1, "0123456789") : 0;
        if (digits < 1 || digits > 3)
            return fallback;
        c += 1 + digits;
    }
    if (*c && !text_is_space(*c))
        return fallback;
    *text = c + strspn(c, " \t");
    return arena_strndup(arena, start, (size_t)(c - start));
}

/* A code about an address of one kind, for an address of the other; about no address at all it says nothing (RFC 3463
 * section 3.2). */
static const char *
fit_detail(const struct action *action, const char *detail)
{
    static const struct {
        const char *given, *sender, *recipient;
    } codes[] = {
        {"1.0", "1.0", "1.0"}, {"1.1", "1.0", "1.1"}, {"1.2", "1.8", "1.2"},
        {"1.3", "1.7", "1.3"}, {"1.4", "1.0", "1.4"}, {"1.5", "1.0", "1.5"},
        {"1.6", "1.0", "1.6"}, {"1.7", "1.7", "1.3"}, {"1.8", "1.8", "1.2"},
    };
    bool sender = strcmp(action->kind, "Sender address") == 0,
         recipient = strcmp(action->kind, "Recipient address") == 0;

    if (strncmp(detail, "1.", 2) != 0)
        return detail;
    if (!sender && !recipient)
        return "0.0";
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (strcmp(detail, codes[i].given) == 0)
            return sender ? codes[i].sender : codes[i].recipient;
    return "1.0";
}

static enum access
refuse(const struct action *action, int64_t code, const char *fallback)
{
    const char *text = action->text;
    const char *detail = fit_detail(action, access_take_detail(action->check->session->cmd, &text, "7.1"));

    return access_refuse_text(action->check, code, detail, "<%s>: %s rejected: %s", action->subject, action->kind,
                              *text ? text : fallback);
}

static enum access
act_reject(const struct action *action)
{
    return refuse(action, action->check->session->server->set.access_map_reject_code, "Access denied");
}

static enum access
act_defer(const struct action *action)
{
    return refuse(action, action->check->session->server->set.access_map_defer_code, "Access denied");
}

static enum access
act_defer_if_permit(const struct action *action)
{
    act_defer(action);
    return access_defer_if_permit(action->check);
}

static enum access
act_defer_if_reject(const struct action *action)
{
    act_defer(action);
    return access_defer_if_reject(action->check);
}

/* ---- what is done with the message ---- */

static enum access
act_discard(const struct action *action)
{
    note(action, "discard", "triggers DISCARD action");
    effects_of(action)->discard = true;
    return ACCESS_PERMIT;
}

static enum access
act_hold(const struct action *action)
{
    note(action, "hold", "triggers HOLD action");
    effects_of(action)->hold = true;
    return ACCESS_DUNNO;
}

/* "triggers FILTER smtp:[host]" */
static void
note_value(const struct action *action, const char *word)
{
    struct access_check *check = action->check;
    struct session *s = check->session;

    log_action_triggers(session_queue_id(s), word, s->where, s->client, action->subject, action->kind, action->verb,
                        action->text, session_whatsup(s, check->sender, check->recipient));
}

static enum access
act_filter(const struct action *action)
{
    if (!strchr(action->text, ':'))
        return misconfigured(action, "needs transport:destination");
    note_value(action, "filter");
    effects_of(action)->filter = arena_strdup(effects_arena(action), action->text);
    return ACCESS_DUNNO;
}

static enum access
act_redirect(const struct action *action)
{
    if (!strchr(action->text, '@'))
        return misconfigured(action, "needs user@domain");
    note_value(action, "redirect");
    effects_of(action)->redirect = arena_strdup(effects_arena(action), action->text);
    return ACCESS_DUNNO;
}

static enum access
act_bcc(const struct action *action)
{
    if (!strchr(action->text, '@'))
        return misconfigured(action, "needs user@domain");
    note_value(action, "bcc");
    effects_of(action)->bcc = arena_strdup(effects_arena(action), action->text);
    return ACCESS_DUNNO;
}

/* "Name: value" */
static bool
is_header(const char *text)
{
    const char *c = text;

    while (*c > ' ' && *c < 127 && *c != ':')
        c++;
    return c > text && *c == ':';
}

static enum access
act_prepend(const struct action *action)
{
    if (!is_header(action->text))
        return misconfigured(action, "needs a header: \"Name: value\"");
    if (strcmp(action->check->session->where, "END-OF-MESSAGE") == 0)
        return misconfigured(action, "comes too late in smtpd_end_of_data_restrictions");
    effects_prepend(effects_of(action), effects_arena(action), action->text);
    return ACCESS_DUNNO;
}

/* The text alone, if there is one. */
static void
tell(const struct action *action, const char *word, const char *fallback)
{
    struct access_check *check = action->check;
    struct session *s = check->session;

    if (!*action->text) {
        note(action, word, fallback);
        return;
    }
    log_reply(session_queue_id(s), word, s->where, s->client, action->text,
              session_whatsup(s, check->sender, check->recipient));
}

static enum access
act_warn(const struct action *action)
{
    tell(action, "warn", "triggers WARN action");
    return ACCESS_DUNNO;
}

static enum access
act_info(const struct action *action)
{
    tell(action, "info", "triggers INFO action");
    return ACCESS_DUNNO;
}

static enum access may_wait
act_ok(const struct action *action)
{
    access_note_permit(action->check, action->verb, action->kind, action->subject, action->source);
    return ACCESS_PERMIT;
}

static enum access
act_dunno(const struct action *action)
{
    (void)action;
    return ACCESS_DUNNO;
}

static const struct {
    const char *verb;
    enum access (*act)(const struct action *);
} actions[] = {
    {"OK", act_ok},
    {"RELAY", act_ok},
    {"DUNNO", act_dunno},
    {"REJECT", act_reject},
    {"DEFER", act_defer},
    {"DEFER_IF_PERMIT", act_defer_if_permit},
    {"DEFER_IF_REJECT", act_defer_if_reject},
    {"DISCARD", act_discard},
    {"HOLD", act_hold},
    {"FILTER", act_filter},
    {"REDIRECT", act_redirect},
    {"BCC", act_bcc},
    {"PREPEND", act_prepend},
    {"WARN", act_warn},
    {"INFO", act_info},
};

/* ---- the right-hand side as a whole ---- */

static bool
is_all_digits(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* "550 5.1.1 text". 0: it is none. */
static int
reply_code(const char *text)
{
    if ((text[0] != '4' && text[0] != '5') || !text_is_digit(text[1]) || !text_is_digit(text[2]) ||
        !text_is_space(text[3]))
        return 0;
    return (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
}

enum access may_wait
access_act(struct access_check *check, const char *source, const char *value, const char *subject, const char *kind)
{
    struct slice rest = slice_trim(slice_from(value)), verb;
    struct arena *arena = check->session->cmd;
    struct action action = {.check = check, .source = source, .subject = subject, .kind = kind, .text = ""};

    value = arena_strndup(arena, rest.ptr ? rest.ptr : "", rest.len);
    int code = reply_code(value);
    if (code) {
        action.text = value + 3 + strspn(value + 3, " \t");
        return refuse(&action, code, "Access denied");
    }
    if (is_all_digits(value)) {
        action.verb = value;
        return act_ok(&action);
    }
    rest = slice_from(value);
    if (!slice_word(&rest, " \t", &verb)) {
        action.verb = "an empty result";
        return misconfigured(&action, "makes no sense");
    }
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (!slice_equal_text_fold(verb, actions[i].verb))
            continue;
        action.verb = actions[i].verb;
        rest = slice_trim(rest);
        action.text = rest.len ? rest.ptr : "";
        return actions[i].act(&action);
    }
    return access_run_text(check, source, value);
}
