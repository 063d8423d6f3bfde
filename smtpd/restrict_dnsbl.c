/* SPDX-License-Identifier: Apache-2.0 */
/* Restrictions that ask a DNS list about a client's address, or about a domain. "list.example=127.0.0.[2..4;8]": only those
 * answers count. A list that can't be asked refuses nobody; one that would have permitted defers what is refused. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/expand.h"
#include "lib/mail/addr.h"
#include "smtpd/access_action.h"
#include "smtpd/access_map.h"

/* ---- which answers count ---- */

/* A number, or "[1;5..9]". Takes it off the front. */
static bool
octet_matches(struct slice *pattern, unsigned octet)
{
    struct slice list, item;
    unsigned long long low, high;
    bool matches = false;

    if (pattern->len == 0)
        return false;
    if (pattern->ptr[0] != '[') {
        slice_cut(pattern, '.', &item);
        return slice_to_u64(item, 255, &low) == 0 && low == octet;
    }
    *pattern = slice_make(pattern->ptr + 1, pattern->len - 1);
    if (!slice_cut(pattern, ']', &list))
        return false;
    while (slice_cut(&list, ';', &item)) {
        const char *dots = memmem(item.ptr, item.len, "..", 2);
        struct slice first = dots ? slice_make(item.ptr, (size_t)(dots - item.ptr)) : item;
        struct slice last = dots ? slice_make(dots + 2, item.len - first.len - 2) : item;
        if (slice_to_u64(first, 255, &low) < 0 || slice_to_u64(last, 255, &high) < 0)
            return false;
        matches = matches || (octet >= low && octet <= high);
    }
    if (pattern->len > 0 && pattern->ptr[0] == '.')
        *pattern = slice_make(pattern->ptr + 1, pattern->len - 1);
    return matches;
}

static bool
answer_counts(const char *address, struct slice pattern)
{
    struct slice rest = slice_from(address), text;
    unsigned long long octet;

    if (pattern.len == 0)
        return strncmp(address, "127.", 4) == 0 || !strchr(address, ':');
    for (unsigned i = 0; i < 4; i++)
        if (!slice_cut(&rest, '.', &text) || slice_to_u64(text, 255, &octet) < 0 ||
            !octet_matches(&pattern, (unsigned)octet))
            return false;
    return true;
}

/* ---- asking ---- */

enum listed { NOT_LISTED, LISTED, NOT_KNOWN };

/* What is asked, and what came of it. */
struct list_query {
    struct access_check *check;
    const char *domain; /* the list's */
    struct slice pattern;
    const char *what, *kind; /* "192.0.2.1", "Client host" */
    const char *reason;      /* its TXT record; "" */
};

static struct list_query
make_query(struct access_check *check, const char *argument)
{
    struct slice rest = slice_from(argument), domain;
    struct list_query query = {.check = check, .reason = ""};

    slice_cut(&rest, '=', &domain);
    query.domain = arena_strndup(check->session->cmd, domain.ptr, domain.len);
    query.pattern = rest;
    return query;
}

static void may_wait
find_reason(struct list_query *query, const char *name)
{
    struct session *s = query->check->session;
    struct msg_dns_answer answer;

    if (access_dns(query->check, name, "TXT", &answer, &s->err) < 0 || answer.status != DNS_FOUND ||
        answer.record_count == 0)
        return;
    char *text = arena_strdup(s->cmd, answer.records[0].data);
    smtp_printable(text, strlen(text));
    query->reason = text;
}

static enum listed may_wait
ask(struct list_query *query, const char *prefix)
{
    struct session *s = query->check->session;
    const char *name = arena_printf(s->cmd, "%s.%s", prefix, query->domain);
    struct msg_dns_answer answer;

    if (strlen(name) > 253)
        return NOT_LISTED;
    if (access_dns(query->check, name, "A", &answer, &s->err) < 0) {
        log_warning("%s: RBL lookup error: %s", name, s->err.text);
        return NOT_KNOWN;
    }
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.record_count; i++) {
        if (!answer_counts(answer.records[i].data, query->pattern))
            continue;
        find_reason(query, name);
        return LISTED;
    }
    return NOT_LISTED;
}

/* "2.0.0.127": the client's address, the other way round. */
static const char *
reversed_address(struct session *s)
{
    char text[80];

    peer_reverse_name(&s->addr, text, sizeof text);
    char *end = strstr(text, ".in-addr.arpa");
    if (!end)
        end = strstr(text, ".ip6.arpa");
    if (end)
        *end = '\0';
    return arena_strdup(s->cmd, text);
}

static enum listed may_wait
ask_domain(struct list_query *query, struct slice domain)
{
    if (domain.len > 0 && domain.ptr[domain.len - 1] == '.')
        domain.len--;
    if (domain.len == 0 || domain.ptr[0] == '[' || !addr_is_hostname(domain))
        return NOT_LISTED;
    return ask(query, arena_strndup(query->check->session->cmd, domain.ptr, domain.len));
}

/* ---- the reply ---- */

/* What a client or a list says, with only the characters of smtpd_expansion_filter. */
static const char *
filtered(struct session *s, const char *text)
{
    char *copy = arena_strdup(s->cmd, text);

    for (char *c = copy; *c; c++)
        if (!s->server->reply_bytes[(unsigned char)*c])
            *c = '_';
    return copy;
}

static int
reply_value(void *ctx, struct slice name, struct slice *value, struct err *err)
{
    const struct list_query *query = ctx;
    struct session *s = query->check->session;
    const char *text = "";

    (void)err;
    if (slice_equal_text(name, "client"))
        text = s->client;
    else if (slice_equal_text(name, "client_address"))
        text = s->peer.address;
    else if (slice_equal_text(name, "client_name"))
        text = s->peer.name;
    else if (slice_equal_text(name, "reverse_client_name"))
        text = s->peer.reverse_name;
    else if (slice_equal_text(name, "helo_name"))
        text = query->check->helo ? query->check->helo : "";
    else if (slice_equal_text(name, "recipient"))
        text = query->check->recipient ? query->check->recipient : "";
    else if (slice_equal_text(name, "sender"))
        text = query->check->sender ? query->check->sender : "";
    else if (slice_equal_text(name, "rbl_code"))
        text = arena_printf(s->cmd, "%lld", (long long)s->server->set.maps_rbl_reject_code);
    else if (slice_equal_text(name, "rbl_domain"))
        text = query->domain;
    else if (slice_equal_text(name, "rbl_reason") || slice_equal_text(name, "rbl_txt"))
        text = query->reason;
    else if (slice_equal_text(name, "rbl_class"))
        text = query->kind;
    else if (slice_equal_text(name, "rbl_what"))
        text = query->what;
    *value = slice_from(filtered(s, text));
    return 0;
}

static enum access may_wait
reject(struct list_query *query)
{
    struct session *s = query->check->session;
    const struct server *server = s->server;
    struct expand_source source = {.value = reply_value, .ctx = query, .final = true};
    const char *template = NULL;
    struct buf text = {0};
    struct err err;

    if (!maps_is_empty(server->rbl_replies) &&
        maps_find(server->rbl_replies, s->cmd, slice_from(query->domain), &template, &err) < 0)
        return access_table_failed(query->check, "rbl_reply_maps", query->what, &err);
    if (!template)
        template = server->set.default_rbl_reply;
    if (expand_text(&source, slice_from(template), &text, &err) < 0) {
        log_warning("rbl_reply_maps or default_rbl_reply: %s", err.text);
        buf_clear(&text);
    }
    struct slice reply = slice_from(buf_text(&text)), word;
    unsigned long long code = (unsigned long long)server->set.maps_rbl_reject_code;
    struct slice rest = reply;
    if (slice_word(&rest, " ", &word) && word.len == 3 && slice_to_u64(word, 599, &code) == 0)
        reply = slice_trim(rest);
    const char *said = arena_strndup(s->cmd, reply.ptr ? reply.ptr : "", reply.len);
    const char *detail = access_take_detail(s->cmd, &said, "7.1");
    buf_release(&text);
    if (code < 400)
        code = 554;
    return access_refuse_text(query->check, (int64_t)code, detail, "%s", *said ? said : "Access denied");
}

/* ---- the restrictions ---- */

static enum access may_wait
rejected(struct list_query *query, enum listed listed)
{
    return listed == LISTED ? reject(query) : ACCESS_DUNNO;
}

/* A list of others opens no relay: what reject_unauth_destination would refuse is not permitted. */
static enum access may_wait
permitted(struct list_query *query, enum listed listed)
{
    if (listed == LISTED)
        return query->check->recipient ? restrict_permit_auth_destination(query->check, "") : ACCESS_PERMIT;
    if (listed == NOT_LISTED)
        return ACCESS_DUNNO;
    access_refuse_text(query->check, 450, "7.1", "<%s>: %s rejected: can't look up %s", query->what, query->kind,
                       query->domain);
    return access_defer_if_reject(query->check);
}

static enum listed may_wait
ask_client(struct list_query *query)
{
    struct session *s = query->check->session;

    query->what = s->peer.address;
    query->kind = "Client host";
    return ask(query, reversed_address(s));
}

static enum listed may_wait
ask_client_name(struct list_query *query, const char *name, const char *kind)
{
    query->what = name;
    query->kind = kind;
    return strcmp(name, "unknown") == 0 ? NOT_LISTED : ask_domain(query, slice_from(name));
}

static enum listed may_wait
ask_mail_address(struct list_query *query, const char *address, const char *kind)
{
    struct slice local, domain;

    if (!address || !address[0])
        return NOT_LISTED;
    query->what = addr_quote(query->check->session->cmd, address);
    query->kind = kind;
    addr_split(address, &local, &domain);
    return ask_domain(query, domain);
}

enum access may_wait
restrict_reject_rbl_client(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return rejected(&query, ask_client(&query));
}

/* reject_rbl_client for each list of maps_rbl_domains. */
enum access may_wait
restrict_reject_maps_rbl(struct access_check *check, const char *argument)
{
    struct slice rest = slice_from(check->session->server->set.maps_rbl_domains), word;
    enum access result = ACCESS_DUNNO;

    (void)argument;
    while (result == ACCESS_DUNNO && slice_word(&rest, ", \t\r\n", &word))
        result = restrict_reject_rbl_client(check, arena_strndup(check->session->cmd, word.ptr, word.len));
    return result;
}

enum access may_wait
restrict_permit_dnswl_client(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return permitted(&query, ask_client(&query));
}

enum access may_wait
restrict_reject_rhsbl_client(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return rejected(&query, ask_client_name(&query, check->session->peer.name, "Client host"));
}

enum access may_wait
restrict_permit_rhswl_client(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return permitted(&query, ask_client_name(&query, check->session->peer.name, "Client host"));
}

enum access may_wait
restrict_reject_rhsbl_reverse_client(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return rejected(&query, ask_client_name(&query, check->session->peer.reverse_name, "Unverified Client host"));
}

enum access may_wait
restrict_reject_rhsbl_helo(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return check->helo ? rejected(&query, ask_client_name(&query, check->helo, "Helo command")) : ACCESS_DUNNO;
}

enum access may_wait
restrict_reject_rhsbl_sender(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return rejected(&query, ask_mail_address(&query, check->sender, "Sender address"));
}

enum access may_wait
restrict_reject_rhsbl_recipient(struct access_check *check, const char *argument)
{
    struct list_query query = make_query(check, argument);

    return rejected(&query, ask_mail_address(&query, check->recipient, "Recipient address"));
}
