/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/transaction.h"

#include <string.h>

#include "lib/mail/image.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "smtpd/local_client.h"
#include "smtpd/login.h"
#include "smtpd/session.h"

enum {
    RECIPIENT_FIELDS = 128,           /* names and numbers of a recipient's fields */
    ENVELOPE_SPARE = 4 * 1024 * 1024, /* for what else there is, and what addresses become */
};

struct transaction *
transaction_new(const struct session *s, const struct smtp_mail *mail)
{
    struct arena *arena = arena_new();
    struct transaction *t = ARENA_NEW(arena, struct transaction);

    t->arena = arena;
    t->sender = arena_strdup(arena, mail->sender);
    t->body = mail->body;
    t->envid = arena_strdup(arena, mail->envid);
    t->ret = mail->ret;
    t->sendopts = mail->smtputf8 ? SENDOPT_SMTPUTF8 : 0;
    t->verp = arena_strdup(arena, mail->xverp ? mail->xverp : "");
    t->declared_size = mail->size;
    t->sasl_sender = "";
    effects_copy(&t->effects, arena, &s->effects);
    t->effects.hold |= s->hold_mail;
    if (s->sasl_method && mail->auth)
        t->sasl_sender = arena_strdup(arena, mail->auth);
    return t;
}

void may_wait
transaction_free(struct transaction **transaction)
{
    struct transaction *t = *transaction;
    struct arena *arena = t->arena;

    *transaction = NULL; /* before the wait: nobody finds it half gone */
    if (t->submission)
        submission_abort(t->submission);
    buf_release(&t->content);
    arena_free(&arena);
}

bool
transaction_is_full(const struct transaction *t)
{
    return t->envelope_size >= IMAGE_ENVELOPE_LIMIT - ENVELOPE_SPARE;
}

void
transaction_add_rcpt(struct transaction *t, const struct smtp_rcpt *rcpt)
{
    if (t->recipient_count == t->recipient_space) {
        unsigned space = t->recipient_space ? 2 * t->recipient_space : 1;
        struct envelope_recipient *more = arena_array(t->arena, space, sizeof *more);
        if (t->recipient_count)
            memcpy(more, t->recipients, t->recipient_count * sizeof *more);
        t->recipients = more;
        t->recipient_space = space;
    }
    t->recipients[t->recipient_count++] = (struct envelope_recipient){
        .address = arena_strdup(t->arena, rcpt->address),
        .original = "",
        .dsn_original = arena_strdup(t->arena, rcpt->orcpt),
        .notify = rcpt->notify,
    };
    t->recipients[t->recipient_count - 1].original = t->recipients[t->recipient_count - 1].address;
    t->envelope_size += 3 * strlen(rcpt->address) + strlen(rcpt->orcpt) + RECIPIENT_FIELDS;
}

int may_wait
transaction_open(struct session *s, struct transaction *t, struct err *err)
{
    if (t->queue_id[0])
        return 0;
    if (s->server->stand_alone) {
        t->is_local = true; /* pickup makes the id */
        return 0;
    }
    if (local_clients_has(s->server->local_clients, s, &t->is_local, err) < 0)
        return -1;
    if (submitter_new_id(s->server->submitter, s->server->set.enable_long_queue_ids, &t->number, t->queue_id, err) <
        0) {
        t->queue_id[0] = '\0';
        return -1;
    }
    log_client(t->queue_id, s->client, login_log_text(s), xforward_log_text(s->xforward, s->cmd));
    return 0;
}

struct envelope
transaction_envelope(const struct session *s, const struct transaction *t)
{
    struct envelope e = envelope_empty();
    usec_t now = loop_now_wall();

    e.queue_id = t->queue_id;
    e.number = t->number;
    e.arrival_sec = now / SECONDS(1);
    e.arrival_usec = now % SECONDS(1);
    e.rewrite_context = t->is_local ? "local" : "remote";
    e.envelope_id = t->envid;
    e.ret_flags = t->ret;
    e.sendopts = t->sendopts;
    e.verp = t->verp;
    e.sender = t->sender;
    e.encoding = t->body;
    e.log_client_name = e.client_name = s->peer.name;
    e.log_client_address = e.client_address = s->peer.address;
    e.log_client_port = e.client_port = arena_printf(t->arena, "%u", s->peer.port);
    e.log_message_origin = s->client;
    e.log_protocol_name = e.protocol_name = s->protocol;
    if (s->helo)
        e.log_helo_name = e.helo_name = s->helo;
    e.reverse_client_name = s->peer.reverse_name;
    e.server_address = s->server_address;
    e.server_port = arena_printf(t->arena, "%u", s->server_port);
    e.client_address_type = s->peer.family;
    e.recipients = t->recipients;
    e.recipient_count = t->recipient_count;
    if (s->sasl_method) {
        e.sasl_method = s->sasl_method;
        e.sasl_username = s->sasl_username;
        e.sasl_sender = t->sasl_sender;
    }
    if (s->xforward)
        xforward_apply(s->xforward, t->arena, &e);
    e.content_filter = s->server->set.content_filter;
    e.submit_flags = s->server->submit_flags;
    effects_apply(&t->effects, t->arena, &e);
    return e;
}
