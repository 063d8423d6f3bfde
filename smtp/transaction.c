/* SPDX-License-Identifier: Apache-2.0 */
/* Commands go out as far as the server allows: with PIPELINING (RFC 2920) MAIL, all RCPT and DATA at once, else one by one. Two
 * positions run through the sequence RSET (where needed), MAIL, RCPT..., DATA: what was sent, and what was answered. */
#include "smtp/transaction.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "smtp/content.h"
#include "smtp/features.h"
#include "smtp/generic.h"

/* Bytes of commands that may be unanswered: neither side's socket buffer may fill up while both write. */
enum { PIPELINE_LIMIT = 32 * 1024 };

struct exchange {
    struct session *session;
    struct progress *progress;
    struct arena *arena;
    struct failure *failure;
    unsigned *todo;          /* which recipients */
    const char *sender;      /* as they go out */
    const char **recipients; /* of todo */
    unsigned count;
    unsigned sent, answered; /* positions: 0 RSET, 1 MAIL, 2... RCPT, count + 2 DATA */
    size_t unanswered;       /* bytes sent since all was answered */
    unsigned accepted;
    bool failed;       /* *failure is filled: MAIL or DATA was refused */
    bool asks_content; /* DATA got its 354 */
    bool heard;        /* the server has said something */
    bool utf8;
};

enum { POSITION_RESET, POSITION_MAIL, POSITION_RCPT };

/* ---- commands ---- */

static const struct smtp_settings *
settings(const struct exchange *x)
{
    return &x->session->client->set;
}

static const char *
envelope_address(const struct exchange *x, const char *raw)
{
    return settings(x)->smtp_quote_rfc821_envelope ? addr_quote(x->arena, raw) : raw;
}

static void
write_xtext(struct exchange *x, const char *name, const char *text)
{
    struct buf encoded = {0};

    text_xtext_encode(slice_from(text), &encoded);
    stream_printf(x->session->stream, "%s%.*s", name, SLICE_ARG(buf_slice(&encoded)));
    buf_release(&encoded);
}

static void
write_mail(struct exchange *x)
{
    const struct msg_deliver *request = x->progress->delivery->request;
    struct session *s = x->session;

    stream_printf(s->stream, "MAIL FROM:<%s>", envelope_address(x, x->sender));
    if ((s->features & FEATURE_SIZE) && !content_is_converted(s, x->progress->delivery->source))
        stream_printf(s->stream, " SIZE=%lld", (long long)request->size);
    if ((s->features & FEATURE_8BITMIME) && strcmp(request->encoding, "8bit") == 0)
        stream_write_text(s->stream, " BODY=8BITMIME");
    if (x->utf8)
        stream_write_text(s->stream, " SMTPUTF8");
    if (s->logged_in && settings(x)->smtp_send_dummy_mail_auth)
        stream_write_text(s->stream, " AUTH=<>");
    if (s->features & FEATURE_DSN) {
        const struct envelope *envelope = source_envelope(x->progress->delivery->source);
        if (envelope->ret_flags)
            stream_write_text(s->stream, envelope->ret_flags & RET_FULL ? " RET=FULL" : " RET=HDRS");
        if (*envelope->envelope_id)
            write_xtext(x, " ENVID=", envelope->envelope_id);
    }
    stream_write_text(s->stream, "\r\n");
}

static void
write_notify(struct exchange *x, int64_t notify)
{
    static const struct {
        int bit;
        const char *word;
    } words[] = {{NOTIFY_SUCCESS, "SUCCESS"}, {NOTIFY_FAILURE, "FAILURE"}, {NOTIFY_DELAY, "DELAY"}};
    const char *separator = " NOTIFY=";

    if (notify & NOTIFY_NEVER)
        stream_write_text(x->session->stream, " NOTIFY=NEVER");
    for (size_t i = 0; i < ARRAY_LEN(words) && !(notify & NOTIFY_NEVER); i++)
        if (notify & words[i].bit) {
            stream_printf(x->session->stream, "%s%s", separator, words[i].word);
            separator = ",";
        }
}

/* ORCPT=type;xtext of the address (RFC 3461 section 4.2). */
static void
write_orcpt(struct exchange *x, const struct deliver_recipient *rcpt)
{
    const char *semicolon = strchr(rcpt->dsn_original, ';');

    if (semicolon) {
        stream_printf(x->session->stream, " ORCPT=%.*s", (int)(semicolon + 1 - rcpt->dsn_original), rcpt->dsn_original);
        write_xtext(x, "", semicolon + 1);
    } else if (*rcpt->original) {
        write_xtext(x, " ORCPT=rfc822;", envelope_address(x, rcpt->original));
    }
}

static void
write_rcpt(struct exchange *x, const struct deliver_recipient *rcpt, const char *address)
{
    stream_printf(x->session->stream, "RCPT TO:<%s>", envelope_address(x, address));
    if (x->session->features & FEATURE_DSN) {
        write_notify(x, rcpt->notify);
        write_orcpt(x, rcpt);
    }
    stream_write_text(x->session->stream, "\r\n");
}

static const struct deliver_recipient *
rcpt_at(const struct exchange *x, unsigned position)
{
    return &x->progress->delivery->request->recipients[x->todo[position - POSITION_RCPT]];
}

static unsigned
data_position(const struct exchange *x)
{
    return x->count + POSITION_RCPT;
}

static void
write_command(struct exchange *x)
{
    unsigned position = x->sent++;

    if (position == POSITION_RESET)
        stream_write_text(x->session->stream, "RSET\r\n");
    else if (position == POSITION_MAIL)
        write_mail(x);
    else if (position == data_position(x))
        stream_write_text(x->session->stream, "DATA\r\n");
    else
        write_rcpt(x, rcpt_at(x, position), x->recipients[position - POSITION_RCPT]);
    x->unanswered +=
        position >= POSITION_RCPT && position < data_position(x) ? 64 + strlen(rcpt_at(x, position)->address) : 64;
}

/* Would mail be taken? Then it ends before DATA. */
static bool
is_probe(const struct exchange *x)
{
    return x->progress->delivery->request->flags & DELIVER_VERIFY;
}

/* May the next command go out now, before all answers are there? */
static bool
may_send(const struct exchange *x)
{
    bool all_answered = x->sent == x->answered;

    if (x->failed || x->sent > data_position(x) || (x->sent == data_position(x) && is_probe(x)))
        return false;
    if (x->sent == data_position(x) && all_answered && x->accepted == 0)
        return false; /* nobody is left */
    return all_answered || ((x->session->features & FEATURE_PIPELINING) && x->unanswered < PIPELINE_LIMIT);
}

/* ---- answers ---- */

void
progress_fail(struct progress *progress, unsigned i, const struct session *s, const struct failure *failure)
{
    bool permanent = failure->is_permanent && !(s && s->client->set.soft_bounce);
    char dsn[16];

    snprintf(dsn, sizeof(dsn), "%c%s", permanent ? '5' : '4', failure->dsn + 1);
    delivery_result(progress->delivery, i,
                    &(struct delivery_status){.result = permanent ? DELIVERED_BOUNCED : DELIVERED_DEFERRED,
                                              .dsn = dsn,
                                              .reason = failure->reason,
                                              .relay = s ? s->relay : "none",
                                              .conn_use = s ? s->uses : 0,
                                              .diag_type = failure->diag_text ? "smtp" : NULL,
                                              .diag_text = failure->diag_text,
                                              .mta_type = failure->mta_name ? "dns" : NULL,
                                              .mta_name = failure->mta_name});
}

/* Another host may take it. */
static void
put_off(struct exchange *x, unsigned i, const struct failure *failure)
{
    log_host_failed(x->progress->delivery->request->queue_id, failure->reason);
    x->progress->states[i] = RCPT_LATER;
    x->progress->later = *failure;
    x->progress->has_later = true;
}

static void
on_rcpt_refused(struct exchange *x, unsigned i, struct client_reply *reply)
{
    struct failure failure;

    if (reply->code == 552) { /* RFC 5321 section 4.5.3.1.10: too many recipients */
        reply->code = 452;
        reply->dsn[0] = '4';
    }
    session_refused(x->session, x->arena, reply, "RCPT TO command", &failure);
    if (failure.is_permanent || x->progress->is_last)
        progress_fail(x->progress, i, x->session, &failure);
    else
        put_off(x, i, &failure);
}

static void on_sent(struct exchange *, unsigned i, const struct client_reply *);

static void
on_answer(struct exchange *x, unsigned position, struct client_reply *reply)
{
    bool good = reply->code / 100 == 2;

    if (position == POSITION_RESET) {
        x->session->needs_reset = false;
        if (!good && !x->failed) {
            session_refused(x->session, x->arena, reply, "RSET command", x->failure);
            x->failed = x->session->broken = true;
        }
    } else if (position == POSITION_MAIL) {
        if (!good && !x->failed)
            x->failed = session_refused(x->session, x->arena, reply, "MAIL FROM command", x->failure) < 0;
    } else if (position == data_position(x)) {
        x->asks_content = reply->code / 100 == 3;
        if (!x->asks_content && x->accepted > 0 && !x->failed)
            x->failed = session_refused(x->session, x->arena, reply, "DATA command", x->failure) < 0;
    } else if (!x->failed && good) {
        x->progress->states[x->todo[position - POSITION_RCPT]] = RCPT_ACCEPTED;
        x->accepted++;
        if (is_probe(x))
            on_sent(x, x->todo[position - POSITION_RCPT], reply);
    } else if (!x->failed) {
        on_rcpt_refused(x, x->todo[position - POSITION_RCPT], reply);
    }
}

struct stage {
    const char *doing;
    usec_t limit;
};

static struct stage
stage_at(const struct exchange *x, unsigned position)
{
    if (position == POSITION_RESET)
        return (struct stage){"sending RSET", settings(x)->smtp_rset_timeout};
    if (position == POSITION_MAIL)
        return (struct stage){"sending MAIL FROM", settings(x)->smtp_mail_timeout};
    if (position == data_position(x))
        return (struct stage){"sending DATA command", settings(x)->smtp_data_init_timeout};
    return (struct stage){"sending RCPT TO", settings(x)->smtp_rcpt_timeout};
}

/* A server that ends an idle connection may do so just as we take it up again. */
static int
gone_stale(struct exchange *x)
{
    x->session->broken = true;
    *x->failure = (struct failure){.is_stale = true};
    return -1;
}

static int may_wait
read_answer(struct exchange *x)
{
    struct stage stage = stage_at(x, x->answered);
    struct session *s = x->session;
    struct client_reply reply;
    bool may_be_stale = s->uses > 1 && !x->heard;

    if (session_reply(s, x->arena, stage.limit, stage.doing, &reply, x->failure) < 0)
        return may_be_stale ? gone_stale(x) : -1;
    if (may_be_stale && s->closing)
        return gone_stale(x);
    x->heard = true;
    on_answer(x, x->answered++, &reply);
    if (x->answered == x->sent)
        x->unanswered = 0;
    return 0;
}

/* ---- the whole ---- */

/* Whatever answers are due are read, so that what comes next is understood. */
static int may_wait
converse(struct exchange *x)
{
    for (;;) {
        while (may_send(x))
            write_command(x);
        if (x->answered == x->sent)
            return 0;
        if (read_answer(x) < 0)
            return -1;
    }
}

/* The server waits for a content that nobody is to get: an empty one ends it (RFC 2920 section 3.1). */
static int may_wait
send_nothing(struct exchange *x)
{
    struct client_reply reply;
    struct failure ignored;

    stream_write_text(x->session->stream, ".\r\n");
    if (session_reply(x->session, x->arena, settings(x)->smtp_data_done_timeout, "sending end of data", &reply,
                      &ignored) < 0)
        log_host_failed(x->progress->delivery->request->queue_id, ignored.reason);
    for (unsigned extra = 1; x->session->client->lmtp && extra < x->accepted && !x->session->broken; extra++)
        if (session_reply(x->session, x->arena, settings(x)->smtp_data_done_timeout, "sending end of data", &reply,
                          &ignored) < 0)
            break;
    return x->failed ? -1 : 0;
}

/* What is told of a recipient whom the server took (RFC 3464 section 2.3.3): nothing where it tells itself. */
static const char *
success_action(const struct exchange *x, unsigned i)
{
    bool speaks_dsn = x->session->features & FEATURE_DSN;

    if (speaks_dsn)
        return x->progress->delivery->request->recipients[i].notify & NOTIFY_SUCCESS ? "" : NULL;
    return x->session->client->lmtp && settings(x)->lmtp_assume_final ? "delivered" : NULL;
}

static void
on_sent(struct exchange *x, unsigned i, const struct client_reply *reply)
{
    struct progress *progress = x->progress;

    delivery_result(progress->delivery, i,
                    &(struct delivery_status){.result = DELIVERED_SENT,
                                              .dsn = reply->dsn,
                                              .reason = client_reply_joined(reply, x->arena),
                                              .relay = x->session->relay,
                                              .conn_use = x->session->uses,
                                              .diag_type = "smtp",
                                              .diag_text = client_reply_joined(reply, x->arena),
                                              .mta_type = "dns",
                                              .mta_name = x->session->name,
                                              .action = success_action(x, i)});
}

/* LMTP (RFC 2033 section 4.2): an answer for each recipient that was accepted, in their order. */
static int may_wait
read_verdicts(struct exchange *x)
{
    struct client_reply reply;
    struct failure failure;

    for (unsigned n = 0; n < x->count; n++) {
        unsigned i = x->todo[n];
        if (x->progress->states[i] != RCPT_ACCEPTED)
            continue;
        if (session_reply(x->session, x->arena, settings(x)->smtp_data_done_timeout,
                          "sending end of data -- message may be sent more than once", &reply, x->failure) < 0)
            return -1;
        if (reply.code / 100 == 2) {
            on_sent(x, i, &reply);
            continue;
        }
        session_refused(x->session, x->arena, &reply, "end of DATA command", &failure);
        if (failure.is_permanent || x->progress->is_last)
            progress_fail(x->progress, i, x->session, &failure);
        else
            put_off(x, i, &failure);
    }
    return 0;
}

/* SMTP: one answer for all. */
static int may_wait
read_verdict(struct exchange *x)
{
    struct client_reply reply;

    if (session_reply(x->session, x->arena, settings(x)->smtp_data_done_timeout,
                      "sending end of data -- message may be sent more than once", &reply, x->failure) < 0)
        return -1;
    if (reply.code / 100 != 2)
        return session_refused(x->session, x->arena, &reply, "end of DATA command", x->failure);
    for (unsigned n = 0; n < x->count; n++)
        if (x->progress->states[x->todo[n]] == RCPT_ACCEPTED)
            on_sent(x, x->todo[n], &reply);
    return 0;
}

static int may_wait
send_content(struct exchange *x)
{
    struct err err;
    bool unreadable;

    if (content_send(x->session, x->progress->delivery->source, &unreadable, &err) < 0) {
        if (!unreadable)
            return session_lost(x->session, x->arena, "sending message body", &err, x->failure);
        x->session->broken = true; /* we can't read the message: what was sent must not be taken for all of it */
        return failure_set(x->failure, x->arena, "4.3.0", "local data error while talking to %s: %s", x->session->label,
                           err.text);
    }
    return x->session->client->lmtp ? read_verdicts(x) : read_verdict(x);
}

static int may_wait
finish(struct exchange *x)
{
    if (x->asks_content && x->accepted > 0 && !x->failed)
        return send_content(x);
    if (x->asks_content)
        return send_nothing(x);
    /* Where MAIL was refused there is no transaction. */
    x->session->needs_reset = x->answered > POSITION_RCPT && !x->session->broken;
    return x->failed ? -1 : 0;
}

/* ---- before it starts ---- */

static bool
has_8bit(const char *text)
{
    return text_has_8bit(slice_from(text));
}

/* Must the server know SMTPUTF8 (RFC 6531)? */
static bool
needs_utf8(const struct exchange *x)
{
    const struct msg_deliver *request = x->progress->delivery->request;
    int64_t options = source_envelope(x->progress->delivery->source)->sendopts;

    if (!(options & SENDOPT_SMTPUTF8))
        return false;
    if ((options & SENDOPT_UTF8_HEADER) || has_8bit(request->sender))
        return true;
    for (unsigned n = 0; n < x->count; n++)
        if (has_8bit(request->recipients[x->todo[n]].address))
            return true;
    return false;
}

static int
check_abilities(struct exchange *x)
{
    struct session *s = x->session;
    int64_t size = x->progress->delivery->request->size;

    x->utf8 = needs_utf8(x);
    if (x->utf8 && !(s->features & FEATURE_SMTPUTF8))
        failure_set(x->failure, x->arena, "5.6.7", "SMTPUTF8 is required, but was not offered by host %s", s->label);
    else if ((s->features & FEATURE_SIZE) && s->size_limit > 0 && size > s->size_limit)
        failure_set(x->failure, x->arena, "5.3.4", "message size %lld exceeds size limit %lld of server %s",
                    (long long)size, (long long)s->size_limit, s->label);
    else
        return 0;
    x->failure->mta_name = arena_strdup(x->arena, s->name);
    return -1;
}

static void
choose_recipients(struct exchange *x)
{
    struct delivery *d = x->progress->delivery;

    x->todo = arena_array(x->arena, d->request->recipient_count, sizeof(*x->todo));
    for (unsigned i = 0; i < d->request->recipient_count; i++)
        if (!d->is_done[i] && x->progress->states[i] != RCPT_LATER)
            x->todo[x->count++] = i;
}

/* smtp_generic_maps. -1: a table failed. */
static int may_wait
choose_addresses(struct exchange *x)
{
    const struct msg_deliver *request = x->progress->delivery->request;
    const struct generic *generic = x->session->client->generic;
    struct err err;

    x->recipients = arena_array(x->arena, x->count, sizeof(*x->recipients));
    if (generic_address(x->arena, generic, request->sender, &x->sender, &err) < 0)
        return failure_set(x->failure, x->arena, "4.3.0", "address look-up error: %s", err.text);
    for (unsigned n = 0; n < x->count; n++)
        if (generic_address(x->arena, generic, request->recipients[x->todo[n]].address, &x->recipients[n], &err) < 0)
            return failure_set(x->failure, x->arena, "4.3.0", "address look-up error: %s", err.text);
    return 0;
}

/* What was accepted but not delivered is as it was before. */
static void
take_back(struct exchange *x)
{
    for (unsigned n = 0; n < x->count; n++)
        if (x->progress->states[x->todo[n]] == RCPT_ACCEPTED)
            x->progress->states[x->todo[n]] = RCPT_LEFT;
}

/* ---- XFORWARD: a filter hears of the client from which the message came ---- */

static const char *
forwarded(const struct exchange *x, unsigned attribute)
{
    const struct envelope *e = source_envelope(x->progress->delivery->source);
    const char *values[XFORWARD_COUNT] = {e->log_client_name,
                                          e->log_client_address,
                                          e->log_client_port,
                                          e->log_protocol_name,
                                          e->log_helo_name,
                                          *e->log_ident ? e->log_ident : e->queue_id,
                                          strcmp(e->rewrite_context, "local") == 0 ? "LOCAL" : "REMOTE"};
    const char *value = values[attribute];

    if (*e->queue_id == '\0' && attribute == XFORWARD_IDENT)
        value = x->progress->delivery->request->queue_id;
    if (attribute == XFORWARD_ADDR && strchr(value, ':'))
        value = arena_printf(x->arena, "IPV6:%s", value);
    return *value && strlen(value) <= 255 ? value : "[UNAVAILABLE]";
}

/* One command with the attributes from..to that the server knows; a line stays under 512 bytes (RFC 5321). */
static int may_wait
forward_attributes(struct exchange *x, unsigned from, unsigned to, const char *doing)
{
    struct client_reply reply;
    bool any = false, may_be_stale = x->session->uses > 1 && !x->heard;

    for (unsigned i = from; i <= to; i++) {
        if (!(x->session->features & ((unsigned)FEATURE_XFORWARD_FIRST << i)))
            continue;
        write_xtext(x, arena_printf(x->arena, "%s %s=", any ? "" : "XFORWARD", features_xforward[i]), forwarded(x, i));
        any = true;
    }
    if (!any)
        return 0;
    stream_write_text(x->session->stream, "\r\n");
    if (session_reply(x->session, x->arena, settings(x)->smtp_xforward_timeout, doing, &reply, x->failure) < 0)
        return may_be_stale ? gone_stale(x) : -1;
    if (may_be_stale && x->session->closing)
        return gone_stale(x);
    x->heard = true;
    if (reply.code / 100 != 2)
        log_warning("host %s said: %d %s (in reply to XFORWARD)", x->session->label, reply.code,
                    client_reply_joined(&reply, x->arena));
    return 0;
}

static int may_wait
forward_client(struct exchange *x)
{
    if (!(x->session->features & FEATURE_XFORWARD) || !settings(x)->smtp_send_xforward_command)
        return 0;
    if (x->sent == POSITION_RESET) {
        write_command(x);
        if (read_answer(x) < 0)
            return -1;
        if (x->failed)
            return 0;
    }
    if (forward_attributes(x, XFORWARD_NAME, XFORWARD_PORT, "sending XFORWARD name/address") < 0)
        return -1;
    return forward_attributes(x, XFORWARD_PROTO, XFORWARD_SOURCE, "sending XFORWARD protocol/helo_name");
}

int may_wait
transaction_run(struct session *s, struct progress *progress, struct failure *failure)
{
    struct exchange x = {.session = s, .progress = progress, .arena = progress->delivery->arena, .failure = failure};
    int result;

    choose_recipients(&x);
    x.sent = x.answered = s->needs_reset ? POSITION_RESET : POSITION_MAIL;
    if (check_abilities(&x) < 0 || choose_addresses(&x) < 0)
        return -1;
    result = forward_client(&x);
    if (result == 0)
        result = converse(&x);
    if (result == 0)
        result = finish(&x);
    take_back(&x);
    return result;
}
