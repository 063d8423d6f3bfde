/* SPDX-License-Identifier: Apache-2.0 */
/* What runs the lists of restrictions. */
#include "smtpd/restrict.h"

#include <stdarg.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "smtpd/policy.h"

struct access_item {
    const struct restriction *row; /* NULL: there is none of this name */
    const char *name, *argument;
    bool warn; /* warn_if_reject stood before it */
};

struct access_list {
    const char *parameter;
    const char *implied;
    struct access_item *items;
    unsigned count;
};

enum { LIST_DEPTH = 30 /* lists within lists */ };

#define DNS_TIME SECONDS(60)

static const struct restriction rows[] = {
#define RESTRICTION(name, check, argument, help) {name, check, argument, help},
#include "lib/conf/restrictions.def"
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

    while (slice_word_braced(&rest, ", \t\r\n", &word))
        count++;
    return count;
}

static bool
is_table(const char *name)
{
    return strchr(name, ':') != NULL;
}

/* What the item needs is opened, for when it is reached. */
static void
open_argument(struct server *server, const struct access_item *item)
{
    enum access_argument kind = item->row ? item->row->argument : ARGUMENT_TABLE;
    const char *name = item->row ? item->argument : item->name;

    if (!server || (!item->row && !is_table(name)))
        return;
    if (kind == ARGUMENT_TABLE && !map_get_text(server->tables, name))
        map_put_text(server->tables, name, table_open_late(server->conf, name, TABLE_FOLD_FIXED));
    if (kind == ARGUMENT_POLICY)
        policies_add(server->policies, name);
}

/* Fills in the item that begins with name. */
static void
read_item(struct arena *arena, struct access_item *item, struct slice name, struct slice *rest)
{
    struct slice word;

    item->row = find_row(name);
    item->name = arena_strndup(arena, name.ptr, name.len);
    item->argument = "";
    if (item->row && item->row->argument != ARGUMENT_NONE && slice_word_braced(rest, ", \t\r\n", &word))
        item->argument = arena_strndup(arena, word.ptr, word.len);
}

static struct access_list *
list_new(struct server *server, struct arena *arena, const char *parameter, const char *text, const char *implied)
{
    struct access_list *list = ARENA_NEW(arena, struct access_list);
    struct slice rest = slice_from(text), word;
    bool warn = false;

    list->parameter = parameter;
    list->implied = implied;
    list->items = arena_array(arena, count_words(text), sizeof *list->items);
    while (slice_word_braced(&rest, ", \t\r\n", &word)) {
        if (slice_equal_text_fold(word, "warn_if_reject")) {
            warn = true;
            continue;
        }
        struct access_item *item = &list->items[list->count++];
        read_item(arena, item, word, &rest);
        item->warn = warn;
        warn = false;
        open_argument(server, item);
    }
    return list;
}

struct access_list *
access_list_new(struct server *server, struct arena *arena, const char *parameter, const char *text,
                const char *implied)
{
    return list_new(server, arena, parameter, text, implied);
}

bool
access_list_has(const struct access_list *list, const char *name)
{
    for (unsigned i = 0; i < list->count; i++)
        if (list->items[i].row && !list->items[i].warn && strcmp(list->items[i].row->name, name) == 0)
            return true;
    return false;
}

struct table *
access_table(const struct access_check *check, const char *name)
{
    return map_get_text(check->session->server->tables, name);
}

/* ---- asking ---- */

int may_wait
access_route(struct access_check *check, const char *address, struct route_answer *answer, struct err *err)
{
    struct session *s = check->session;

    if (router_resolve(s->server->router, s->cmd, "", &address, 1, answer, err) < 0)
        return -1;
    return answer->flags & ROUTE_FAIL ? err_set(err, ERR_TEMP, "%s", answer->reason) : 0;
}

int may_wait
access_dns(struct access_check *check, const char *name, const char *type, struct msg_dns_answer *answer,
           struct err *err)
{
    struct session *s = check->session;

    if (dns_lookup(s->server->dns, s->cmd, name, type, loop_now() + DNS_TIME, answer, err) < 0)
        return -1;
    return answer->status == DNS_FAIL ? err_set(err, ERR_TEMP, "%s", answer->reason) : 0;
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

enum access
access_tempfail(struct access_check *check, const char *action)
{
    return strcmp(action, "defer") == 0 ? ACCESS_REFUSE : access_defer_if_permit(check);
}

enum access
access_defer_if_reject(struct access_check *check)
{
    if (!check->defer_if_reject)
        check->reject_deferral = check->refusal;
    check->defer_if_reject = true;
    return ACCESS_DUNNO;
}

/* ---- running a list ---- */

static void
log_refusal(struct access_check *check, const char *word)
{
    struct session *s = check->session;

    log_reply(session_queue_id(s), word, s->where, s->client, smtp_reply_line(s->cmd, check->refusal),
              session_whatsup(s, check->sender, check->recipient));
}

void may_wait
access_note_permit(struct access_check *check, const char *action, const char *kind, const char *what,
                   const char *source)
{
    struct session *s = check->session;
    bool listed = false;

    if (match_list_is_empty(s->server->logged_permits))
        return;
    if (match_list_text(s->server->logged_permits, slice_from(action), &listed, &s->err) < 0)
        log_warning("%s", s->err.text);
    if (listed)
        log_permit(session_queue_id(s), s->where, s->client, action, kind, what, source,
                   session_whatsup(s, check->sender, check->recipient));
}

/* A restriction permits because of the client, unless its name says of what else; "permit" because of what the list is
 * about. Tables and services tell themselves. */
static void may_wait
note_permit(struct access_check *check, const struct restriction *row)
{
    static const char *const about_recipient[] = {"permit_auth_destination", "permit_mx_backup", "check_relay_domains"};
    struct session *s = check->session;

    if (row->argument == ARGUMENT_TABLE || row->argument == ARGUMENT_POLICY)
        return;
    if (strcmp(row->name, "permit") == 0) {
        access_note_permit(check, row->name, check->kind, check->what, NULL);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(about_recipient) && check->recipient; i++)
        if (strcmp(row->name, about_recipient[i]) == 0) {
            access_note_permit(check, row->name, "Recipient address", addr_quote(s->cmd, check->recipient), NULL);
            return;
        }
    access_note_permit(check, row->name, "Client host", s->client, NULL);
}

static enum access may_wait run_items(struct access_check *, const struct access_list *);

static enum access not_configured(struct access_check *, const char *fmt, ...) PRINTF_LIKE(2, 3);
static enum access
not_configured(struct access_check *check, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_warning("%s", arena_vprintf(check->session->cmd, fmt, args));
    va_end(args);
    return access_refuse_text(check, 451, "3.5", "Server configuration error");
}

/* A table that stands by itself: the list says what is looked up in it. */
static enum access may_wait
run_implied(struct access_check *check, const char *table)
{
    return find_row(slice_from(check->implied))->check(check, table);
}

static enum access may_wait
run_class(struct access_check *check, const struct access_list *class)
{
    if (check->depth >= LIST_DEPTH)
        return not_configured(check, "smtpd_restriction_classes: %s: classes name each other in a circle",
                              class->parameter);
    check->depth++;
    enum access result = run_items(check, class);
    check->depth--;
    return result;
}

static enum access may_wait
run_item(struct access_check *check, const struct access_item *item)
{
    const struct server *server = check->session->server;
    const char *table = item->row ? item->argument : item->name;
    const struct access_list *class;

    if (item->row && item->row->argument != ARGUMENT_NONE && !item->argument[0])
        return not_configured(check, "smtpd restriction \"%s\" needs an argument", item->name);
    if ((!item->row && is_table(table)) || (item->row && item->row->argument == ARGUMENT_TABLE))
        if (!map_get_text(server->tables, table))
            return not_configured(check, "table %s is not named in main.cf, and can't be opened now", table);
    if (item->row)
        return item->row->check(check, item->argument);
    class = map_get_text(server->classes, item->name);
    if (class)
        return run_class(check, class);
    if (is_table(table) && check->implied)
        return run_implied(check, table);
    return not_configured(check, "unknown smtpd restriction: \"%s\"", item->name);
}

/* What is said instead of a refusal for good, where something that might have permitted could not be asked. */
static void
soften(struct access_check *check)
{
    if (check->reject_deferral.code)
        check->refusal = check->reject_deferral;
    else
        access_refuse_text(check, 450, "7.0", "%s", check->refusal.text);
}

/* warn_if_reject: what was refused, or would be if nobody else refuses, is only said. */
static enum access
only_warn(struct access_check *check, bool deferred_before, enum access result)
{
    bool defers = check->defer_if_permit && !deferred_before;

    if (defers && result != ACCESS_REFUSE)
        check->refusal = check->deferral;
    check->defer_if_permit = deferred_before;
    if (defers || result == ACCESS_REFUSE)
        log_refusal(check, "reject_warning");
    return result == ACCESS_REFUSE ? ACCESS_DUNNO : result;
}

static enum access may_wait
run_items(struct access_check *check, const struct access_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        const char *what = check->what, *kind = check->kind;
        bool deferred = check->defer_if_permit;
        enum access result = run_item(check, &list->items[i]);
        if (result == ACCESS_PERMIT && list->items[i].row)
            note_permit(check, list->items[i].row);
        check->what = what;
        check->kind = kind;
        if (list->items[i].warn)
            result = only_warn(check, deferred, result);
        if (result == ACCESS_REFUSE && check->refusal.code >= 500 && check->defer_if_reject)
            soften(check);
        if (result != ACCESS_DUNNO)
            return result;
    }
    return ACCESS_DUNNO;
}

enum access may_wait
access_run_text(struct access_check *check, const char *source, const char *text)
{
    struct access_list *list = list_new(NULL, check->session->cmd, source, text, NULL);

    return run_class(check, list);
}

static enum access may_wait
run_list(struct access_check *check, const struct access_list *list, const char *what, const char *kind)
{
    check->what = what;
    check->kind = kind;
    check->implied = list->implied;
    return run_items(check, list);
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

/* Behind RCPT a recipient is looked at only where there is but one. */
static struct access_check
make_check(struct session *s)
{
    const struct transaction *t = s->transaction;

    return (struct access_check){.session = s,
                                 .helo = s->helo,
                                 .sender = t ? t->sender : NULL,
                                 .recipient = t && t->recipient_count == 1 ? t->recipients[0].address : NULL};
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

/* The tables of known users, unless a restriction has asked them already. */
static enum access may_wait
check_users(struct access_check *check)
{
    const struct smtpd_settings *set = &check->session->server->set;

    if (set->smtpd_reject_unlisted_sender && !check->sender_looked_up &&
        restrict_reject_unlisted_sender(check, "") == ACCESS_REFUSE)
        return ACCESS_REFUSE;
    if (set->smtpd_reject_unlisted_recipient && !check->session->server->accepts_unlisted &&
        !check->recipient_looked_up)
        return restrict_reject_unlisted_recipient(check, "");
    return ACCESS_DUNNO;
}

bool
access_by_old_default(struct session *s, const char *parameter)
{
    const char *value;
    struct err err;

    return s->server->conf && conf_old_default(s->server->conf, s->cmd, parameter, &value, &err) == 0 && value;
}

/* A recipient passes because smtpd_relay_restrictions is empty by an old default. Would the new one have refused it? */
static void may_wait
tell_of_old_relay_default(struct session *s, const char *recipient)
{
    struct access_check check = make_check(s);

    check.recipient = recipient;
    check.at_rcpt = true;
    if (run_list(&check, s->server->new_relay, quoted(s, recipient), "Recipient address") == ACCESS_REFUSE)
        log_old_relay_restrictions(quoted(s, recipient), s->client);
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
    check.at_rcpt = true;
    enum access result = run_delayed(&check);
    for (unsigned i = 0; i < ARRAY_LEN(lists) && result != ACCESS_REFUSE; i++) {
        result = run_list(&check, lists[i], quoted(s, recipient), "Recipient address");
        if (result == ACCESS_REFUSE && i == 0 && !relay_first &&
            access_by_old_default(s, "smtpd_relay_before_recipient_restrictions"))
            log_old_relay_order(quoted(s, recipient), s->client);
    }
    if (result != ACCESS_REFUSE)
        result = check_users(&check);
    if (result != ACCESS_REFUSE && !check.defer_if_permit && server->new_relay)
        tell_of_old_relay_default(s, recipient);
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

int may_wait
access_check_etrn(struct session *s, const char *domain, struct smtp_reply *refusal)
{
    struct access_check check = make_check(s);

    check.etrn = domain;
    enum access result = run_delayed(&check);
    if (result != ACCESS_REFUSE)
        result = run_list(&check, s->server->etrn, domain, "Etrn command");
    return finish(&check, result, refusal);
}
