/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/content.h"

#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "lib/mail/log_events.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "smtpd/postdrop.h"
#include "smtpd/restrict.h"

enum {
    UNDECLARED = 3 * 1024, /* bytes to expect of a message whose size the client did not declare */
    OUR_HEADERS = 512,
};

/* ---- Received: ---- */

static void
append_tls(const struct session *s, struct buf *out)
{
    struct tls_info tls;

    stream_tls_info(s->stream, &tls);
    buf_printf(out, "\t(using %s with cipher %s (%d/%d bits)\r\n", tls.protocol, tls.cipher, tls.used_bits,
               tls.algorithm_bits);
    if (tls.key_exchange[0]) {
        buf_printf(out, "\t key-exchange %s", tls.key_exchange);
        if (tls.signature[0])
            buf_printf(out, " server-signature %s", tls.signature);
        if (tls.digest[0])
            buf_printf(out, " server-digest %s", tls.digest);
        buf_append(out, "\r\n", 2);
    }
    out->len -= 2;
    buf_append_text(out, ")\r\n");
    if (tls.peer_is_trusted)
        buf_printf(out, "\t(Client CN \"%s\", Issuer \"%s\" (verified OK))\r\n", tls.peer_subject, tls.peer_issuer);
    else if (tls.peer_has_certificate)
        buf_printf(out, "\t(Client CN \"%s\", Issuer \"%s\" (not verified))\r\n", tls.peer_subject, tls.peer_issuer);
    else
        buf_append_text(out, s->server->set.smtpd_tls_ask_ccert || s->server->set.smtpd_tls_req_ccert
                                 ? "\t(Client did not present a certificate)\r\n"
                                 : "\t(No client certificate requested)\r\n");
}

/* Whose message it is, and how it came: all up to the queue id. */
static void
append_session(const struct session *s, struct buf *out)
{
    const struct smtpd_settings *set = &s->server->set;
    bool tls = stream_is_tls(s->stream);

    buf_printf(out, "Received: from %s (%s [%s])\r\n", s->helo ? s->helo : s->peer.name, s->peer.name,
               s->peer.rfc_address);
    if (tls && set->smtpd_tls_received_header)
        append_tls(s, out);
    if (set->smtpd_sasl_authenticated_header && s->sasl_username)
        buf_printf(out, "\t(Authenticated sender: %s)\r\n", s->sasl_username);
    bool extended = s->protocol[0] == 'E'; /* RFC 3848; RFC 6531 section 4.3 */
    buf_printf(out, "\tby %s (%s) with %s%s%s", set->myhostname, set->mail_name,
               s->transaction->sendopts & SENDOPT_SMTPUTF8 ? "UTF8SMTP" : s->protocol, extended && tls ? "S" : "",
               extended && s->sasl_username ? "A" : "");
}

void
content_received(const struct session *s, struct buf *out)
{
    const struct transaction *t = s->transaction;
    const struct smtpd_settings *set = &s->server->set;
    char date[64];

    clock_format_rfc5322(loop_now_wall(), date, sizeof date);
    if (set->smtpd_hide_client_session)
        buf_printf(out, "Received: by %s (%s)", set->myhostname, set->mail_name);
    else
        append_session(s, out);
    buf_printf(out, "%s%s", t->queue_id[0] ? " id " : "", t->queue_id);
    if (t->recipient_count == 1)
        buf_printf(out, "\r\n\tfor <%s>; %s\r\n", addr_quote(t->arena, t->recipients[0].address), date);
    else
        buf_printf(out, ";\r\n\t%s\r\n", date);
}

/* ---- gathering ---- */

void
content_begin(struct session *s)
{
    int64_t expected = s->transaction->declared_size > 0 ? s->transaction->declared_size : UNDECLARED;

    /* In one piece: what grows by doubling leaves holes, and thousands of sessions have one each. */
    if (expected < LINK_PAYLOAD_INLINE)
        buf_reserve(&s->transaction->content, (size_t)expected + OUR_HEADERS);
    effects_append_headers(&s->transaction->effects, &s->transaction->content);
    content_received(s, &s->transaction->content);
}

/* What has gathered goes to cleanup, through a socket of its own, and `more` behind it. */
static void may_wait
pass_on(struct session *s, struct transaction *t, struct slice more)
{
    if (!t->submission) {
        struct envelope envelope = transaction_envelope(s, t);
        t->submission = submission_begin(s->server->submitter, t->arena, &envelope, &s->err);
    }
    if (!t->submission || submission_write(t->submission, buf_slice(&t->content), &s->err) < 0 ||
        submission_write(t->submission, more, &s->err) < 0) {
        log_warning("%s: queue file write error: %s", t->queue_id, s->err.text);
        t->problem = CONTENT_NOT_QUEUED;
    }
}

/* Once it is known that the message will be refused, nothing of it is kept. */
static void may_wait
drop(struct transaction *t)
{
    buf_release(&t->content);
    if (t->submission)
        submission_abort(t->submission);
    t->submission = NULL;
}

static void
add_size(struct session *s, size_t n)
{
    struct transaction *t = s->transaction;
    int64_t limit = s->server->set.message_size_limit;

    t->size += (int64_t)n;
    if (t->problem == CONTENT_FINE && limit > 0 && t->size > limit)
        t->problem = CONTENT_TOO_BIG;
}

void may_wait
content_added(struct session *s, size_t before)
{
    struct transaction *t = s->transaction;

    add_size(s, t->content.len - before);
    if (s->server->stand_alone && t->problem == CONTENT_FINE)
        return; /* this process has one message */
    if (t->problem == CONTENT_FINE && (t->submission || t->content.len > LINK_PAYLOAD_INLINE)) {
        pass_on(s, t, slice_make(NULL, 0));
        buf_release(&t->content);
    }
    if (t->problem != CONTENT_FINE)
        drop(t);
}

void may_wait
content_pass(struct session *s, struct slice bytes)
{
    struct transaction *t = s->transaction;

    add_size(s, bytes.len);
    if (t->problem == CONTENT_FINE)
        pass_on(s, t, bytes);
    if (t->problem != CONTENT_FINE)
        drop(t);
}

/* ---- the end ---- */

struct smtp_reply
content_problem_reply(struct session *s)
{
    const struct transaction *t = s->transaction;
    const char *text = "Error: queue file write error";

    switch (t->problem) {
    case CONTENT_TOO_BIG:
        text = "Error: message file too big";
        log_reply(t->queue_id, "reject", "END-OF-MESSAGE", s->client, arena_printf(s->cmd, "552 5.3.4 %s", text),
                  session_whatsup(s, NULL, NULL));
        return smtp_reply(s->cmd, 552, "5.3.4", "%s", text);
    case CONTENT_BARE_LF:
        text = "Error: bare <LF> received";
        log_reply(t->queue_id, "reject", "END-OF-MESSAGE", s->client, "bare <LF> received",
                  session_whatsup(s, NULL, NULL));
        return smtp_reply_lenient(s->cmd, (int)s->server->set.smtpd_forbid_bare_newline_reject_code, "5.5.2", text);
    default: return smtp_reply(s->cmd, 451, "4.3.0", "%s", text);
    }
}

static struct smtp_reply may_wait
submit(struct session *s, struct transaction *t)
{
    struct submission *submission = t->submission;
    struct msg_submitted answer;
    int result;

    if (submission) {
        t->submission = NULL; /* finish ends it, whatever comes */
        result = submission_finish(submission, &answer, &s->err);
    } else {
        struct envelope envelope = transaction_envelope(s, t);
        result = submitter_send(s->server->submitter, s->cmd, &envelope, &t->content, &answer, &s->err);
    }
    if (result < 0) {
        log_warning("%s: queue file write error: %s", t->queue_id, s->err.text);
        return smtp_reply(s->cmd, 451, "4.3.0", "Error: queue file write error");
    }
    if (answer.code != 250)
        return smtp_reply_lenient(s->cmd, (int)answer.code, answer.enhanced, answer.text);
    s->errors = s->junk = 0;
    return smtp_reply(s->cmd, 250, "2.0.0", "Ok: queued as %s", t->queue_id);
}

struct smtp_reply may_wait
content_end(struct session *s)
{
    struct transaction *t = s->transaction;
    struct smtp_reply reply;

    s->where = "END-OF-MESSAGE";
    if (t->problem != CONTENT_FINE)
        reply = content_problem_reply(s);
    else if (access_check_end_of_data(s, &reply) == 0)
        reply = s->server->stand_alone ? postdrop_submit(s, t) : submit(s, t);
    session_reset(s);
    return reply;
}
