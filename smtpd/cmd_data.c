/* SPDX-License-Identifier: Apache-2.0 */
/* DATA: RFC 5321 section 4.1.1.4. */
#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "smtpd/content.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

/* Does anybody mind a bare LF? It is made proper in any case. */
static void may_wait
judge_bare_lf(struct session *s, struct transaction *t)
{
    bool exempt = false;

    if (!t->scan.saw_bare_lf || s->server->bare_lf == BARE_LF_NORMALIZE)
        return;
    if (match_list_host(s->server->bare_lf_exempt, slice_from(s->peer.name), &s->addr, &exempt, &s->err) < 0)
        log_warning("%s", s->err.text);
    if (exempt)
        return;
    log_bare_newline(t->queue_id, s->client);
    if (s->server->bare_lf == BARE_LF_REJECT && t->problem == CONTENT_FINE)
        t->problem = CONTENT_BARE_LF;
}

/* With smtpd_per_request_deadline the whole content must come at smtpd_min_data_rate, else each piece in smtpd_timeout. */
static void
set_deadline(struct session *s, usec_t begun)
{
    const struct smtpd_settings *set = &s->server->set;

    if (set->smtpd_per_request_deadline && set->smtpd_min_data_rate > 0)
        stream_set_deadline(s->stream,
                            begun + set->smtpd_timeout + s->transaction->size / set->smtpd_min_data_rate * SECONDS(1));
    else
        session_set_deadline(s);
}

/* Takes what it can of the bytes; what is clean of a large content goes on without a copy. */
static void may_wait
take_bytes(struct session *s, struct transaction *t, struct slice bytes)
{
    size_t before = t->content.len, clean = 0;

    if (t->submission)
        clean = data_scan_clean(&t->scan, bytes);
    if (clean > 0) {
        content_pass(s, slice_make(bytes.ptr, clean));
        stream_take(s->stream, clean);
    } else {
        stream_take(s->stream, data_scan(&t->scan, bytes, &t->content));
        content_added(s, before);
    }
}

/* Reads up to the final dot. -1: the connection failed. */
static int may_wait
read_content(struct session *s, struct transaction *t, struct err *err)
{
    usec_t begun = loop_now();
    struct slice bytes;

    while (!t->scan.done) {
        set_deadline(s, begun);
        stream_set_bulk(s->stream, t->submission != NULL);
        if (stream_peek(s->stream, &bytes, err) < 0)
            return -1;
        take_bytes(s, t, bytes);
    }
    stream_set_bulk(s->stream, false);
    judge_bare_lf(s, t);
    return 0;
}

struct smtp_reply may_wait
cmd_data(struct session *s, struct slice args)
{
    struct transaction *t = s->transaction;
    struct smtp_reply refusal;

    (void)args;
    if (access_check_data(s, &refusal) < 0)
        return refusal;
    session_send(s, smtp_reply(s->cmd, 354, NULL, "End data with <CR><LF>.<CR><LF>"));
    content_begin(s);
    if (read_content(s, t, &s->err) < 0) {
        s->where = arena_printf(s->arena, "DATA (%lld bytes)", (long long)t->size);
        return session_input_failed(s, &s->err);
    }
    return content_end(s);
}
