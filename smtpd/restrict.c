/* SPDX-License-Identifier: Apache-2.0 */
/* What runs the lists of restrictions. */
#include "smtpd/restrict.h"

#include <stdarg.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/addr.h"

struct access_item {
    const struct restriction *row; /* NULL: there is none of this name */
    const char *name, *argument;
    bool warn; /* warn_if_reject stood before it */
};

struct access_list {
    const char *parameter;
    struct access_item *items;
    unsigned count;
};

static const struct restriction rows[] = {
#define RESTRICTION(name, check, has_argument, help) {name, check, has_argument, help},
#include "smtpd/restrictions.def"
#undef RESTRICTION
};

/* ---- lists ---- */

static const struct restriction *
find_row(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (slice_equal_text_fold(name, rows[i].name))
            return &rows[i];
    return NULL;
}

static unsigned
count_words(const char *text)
{
    struct slice rest = slice_from(text), word;
    unsigned count = 0;

    while (slice_word(&rest, ", \t\r\n", &word))
        count++;
    return count;
}

struct access_list *
access_list_new(struct arena *arena, const char *parameter, const char *text)
{
    struct access_list *list = ARENA_NEW(arena, struct access_list);
    struct slice rest = slice_from(text), word;
    bool warn = false;

    list->parameter = parameter;
    list->items = arena_array(arena, count_words(text), sizeof *list->items);
    while (slice_word(&rest, ", \t\r\n", &word)) {
        if (slice_equal_text_fold(word, "warn_if_reject")) {
            warn = true;
            continue;
        }
        struct access_item *item = &list->items[list->count++];
        item->row = find_row(word);
        item->name = arena_strndup(arena, word.ptr, word.len);
        item->warn = warn;
        warn = false;
        if (item->row && item->row->has_argument) {
            bool found = slice_word(&rest, ", \t\r\n", &word);
            item->argument = found ? arena_strndup(arena, word.ptr, word.len) : "";
        }
    }
    return list;
}

bool
access_list_is_empty(const struct access_list *list)
{
    return list->count == 0;
}

bool
access_list_has(const struct access_list *list, const char *name)
{
    for (unsigned i = 0; i < list->count; i++)
        if (list->items[i].row && !list->items[i].warn && strcmp(list->items[i].row->name, name) == 0)
            return true;
    return false;
}

/* ---- refusing ---- */

enum access
access_refuse_text(struct access_check *check, int64_t code, const char *detail, const char *fmt, ...)
{
    struct arena *arena = check->session->cmd;
    va_list args;

    if (code < 400 || code > 599)
        code = 554; /* a reply code that would not refuse is a mistake in main.cf */
    va_start(args, fmt);
    const char *text = arena_vprintf(arena, fmt, args);
    va_end(args);
    check->refusal = smtp_reply(arena, (int)code, arena_printf(arena, "%d.%s", (int)code / 100, detail), "%s", text);
    check->refusal.close = code == 421 || code == 521;
    return ACCESS_REFUSE;
}

enum access
access_refuse(struct access_check *check, int64_t code, const char *detail, const char *reason)
{
    return access_refuse_text(check, code, detail, "<%s>: %s rejected: %s", check->what, check->kind, reason);
}

enum access
access_fail(struct access_check *check, const struct err *why)
{
    log_warning("%s: %s", check->what, why->text);
    return access_refuse_text(check, 451, "3.0", "<%s>: Temporary lookup failure", check->what);
}

enum access
access_defer_if_permit(struct access_check *check)
{
    if (!check->defer_if_permit)
        check->deferral = check->refusal;
    check->defer_if_permit = true;
    return ACCESS_DUNNO;
}

/* ---- running a list ---- */

static void
log_refusal(struct access_check *check, const char *word)
{
    struct session *s = check->session;

    log_info("%s: %s: %s from %s: %s;%s", session_queue_id(s), word, s->where, s->client,
             smtp_reply_line(s->cmd, check->refusal), session_whatsup(s, check->sender, check->recipient));
}

static enum access may_wait
run_item(struct access_check *check, const struct access_item *item)
{
    if (item->row)
        return item->row->check(check, item->argument);
    log_warning("unknown smtpd restriction: \"%s\"", item->name);
    return access_refuse_text(check, 451, "3.5", "Server configuration error");
}

static enum access may_wait
run_list(struct access_check *check, const struct access_list *list, const char *what, const char *kind)
{
    check->what = what;
    check->kind = kind;
    for (unsigned i = 0; i < list->count; i++) {
        enum access result = run_item(check, &list->items[i]);
        if (result == ACCESS_REFUSE && list->items[i].warn) {
            log_refusal(check, "reject_warning");
            continue;
        }
        if (result == ACCESS_REFUSE && check->refusal.code >= 500 && check->defer_if_reject)
            access_refuse_text(check, 450, "7.0", "%s", check->refusal.text);
        if (result != ACCESS_DUNNO)
            return result;
    }
    return ACCESS_DUNNO;
}

static const char *
quoted(struct session *s, const char *address)
{
    return addr_quote(s->cmd, address);
}

/* What the lists said, as the caller gets it. */
static int
finish(struct access_check *check, enum access result, struct smtp_reply *refusal)
{
    if (result != ACCESS_REFUSE && check->defer_if_permit) {
        check->refusal = check->deferral;
        result = ACCESS_REFUSE;
    }
    if (result != ACCESS_REFUSE)
        return 0;
    log_refusal(check, "reject");
    *refusal = check->refusal;
    return -1;
}

static struct access_check
make_check(struct session *s)
{
    return (struct access_check){
        .session = s, .helo = s->helo, .sender = s->transaction ? s->transaction->sender : NULL};
}

/* ---- the stages ---- */

int may_wait
access_check_connect(struct session *s, struct smtp_reply *refusal)
{
    struct access_check check = make_check(s);

    if (s->server->set.smtpd_delay_reject)
        return 0;
    return finish(&check, run_list(&check, s->server->client, s->client, "Client host"), refusal);
}

int may_wait
access_check_helo(struct session *s, const char *helo, struct smtp_reply *refusal)
{
    struct access_check check = make_check(s);

    if (s->server->set.smtpd_delay_reject)
        return 0;
    check.helo = helo;
    return finish(&check, run_list(&check, s->server->helo, helo, "Helo command"), refusal);
}

int may_wait
access_check_sender(struct session *s, const char *sender, struct smtp_reply *refusal)
{
    struct access_check check = make_check(s);

    if (s->server->set.smtpd_delay_reject)
        return 0;
    check.sender = sender;
    return finish(&check, run_list(&check, s->server->sender, quoted(s, sender), "Sender address"), refusal);
}

/* The lists that smtpd_delay_reject made wait. */
static enum access may_wait
run_delayed(struct access_check *check)
{
    struct session *s = check->session;

    if (!s->server->set.smtpd_delay_reject)
        return ACCESS_DUNNO;
    if (run_list(check, s->server->client, s->client, "Client host") == ACCESS_REFUSE)
        return ACCESS_REFUSE;
    if (check->helo && run_list(check, s->server->helo, check->helo, "Helo command") == ACCESS_REFUSE)
        return ACCESS_REFUSE;
    if (check->sender &&
        run_list(check, s->server->sender, quoted(s, check->sender), "Sender address") == ACCESS_REFUSE)
        return ACCESS_REFUSE;
    return ACCESS_DUNNO;
}

int may_wait
access_check_rcpt(struct session *s, const char *recipient, struct smtp_reply *refusal)
{
    struct server *server = s->server;
    bool relay_first = server->set.smtpd_relay_before_recipient_restrictions;
    const struct access_list *lists[] = {relay_first ? server->relay : server->recipient,
                                         relay_first ? server->recipient : server->relay};
    struct access_check check = make_check(s);

    check.recipient = recipient;
    enum access result = run_delayed(&check);
    for (unsigned i = 0; i < ARRAY_LEN(lists) && result != ACCESS_REFUSE; i++)
        result = run_list(&check, lists[i], quoted(s, recipient), "Recipient address");
    return finish(&check, result, refusal);
}

int may_wait
access_check_data(struct session *s, struct smtp_reply *refusal)
{
    struct access_check check = make_check(s);

    return finish(&check, run_list(&check, s->server->data, "DATA", "Data command"), refusal);
}

int may_wait
access_check_end_of_data(struct session *s, struct smtp_reply *refusal)
{
    struct access_check check = make_check(s);

    return finish(&check, run_list(&check, s->server->end_of_data, "END-OF-MESSAGE", "End-of-data"), refusal);
}
