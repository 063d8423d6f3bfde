/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/mail/log_form.h"
#include "lib/mail/segment_feed.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"

enum {
    REASON_LIMIT = 5000, /* a command's output and the words around it */
    REASON_LOGGED = 2000,
};

static struct agent agent;
static unsigned active;

static void
feed_closed(void *ctx, struct link *link)
{
    struct segment_feed *feed = ctx;

    (void)link;
    segment_feed_free(&feed);
}

/* ---- deliveries ---- */

static struct source *
open_source(struct delivery *d, struct link_message *in, const struct fed_segment *segment, struct err *err)
{
    const struct source_hint hint = {in->payload, (uint64_t)d->request->content_offset};

    if (d->request->segment_length == 0) {
        if (in->fd_count != 1) {
            err_set(err, ERR_TEMP, "no queue file came with the request");
            return NULL;
        }
        return source_open_file_told(d->arena, in->fds[0], &hint, err);
    }
    if (!segment) {
        err_set(err, ERR_TEMP, "journal segment %" PRId64 " is not known", d->request->segment);
        return NULL;
    }
    struct source *source =
        source_open_image_told(d->arena, fed_segment_fd(segment), fed_segment_info(segment),
                               (uint64_t)d->request->segment_offset, (uint64_t)d->request->segment_length, &hint, err);
    /* A place may be used again when a request waited for long: never take another message for this one. */
    if (source && strcmp(source_envelope(source)->queue_id, d->request->queue_id) != 0) {
        err_set(err, ERR_TEMP, "the image is another message's");
        return NULL;
    }
    return source;
}

/* A question whether mail would be taken, not mail. */
static void
answer_probe(struct delivery *d)
{
    delivery_result_rest(
        d, &(struct delivery_status){.result = DELIVERED_SENT,
                                     .dsn = "2.0.0",
                                     .reason = arena_printf(d->arena, "delivers to %s service", d->request->transport),
                                     .relay = d->request->transport,
                                     .action = "deliverable"});
}

static void
on_deliver(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_deliver *message = in->message;
    struct fed_segment *segment = segment_feed_hold(ctx, message->segment, message->generation);
    struct delivery d = {.arena = link_request_arena(request), .request = message, .started = loop_now_wall()};
    struct err err;

    active++;
    d.fd = segment ? fed_segment_fd(segment) : in->fd_count == 1 ? in->fds[0] : -1;
    d.is_done = arena_array(d.arena, message->recipient_count, sizeof *d.is_done);
    d.answer = (struct msg_delivered){.hop_status = "", .hop_reason = ""};
    d.answer.recipients = arena_array(d.arena, message->recipient_count, sizeof *d.answer.recipients);
    d.source = open_source(&d, in, segment, &err);
    if (d.source && (message->flags & DELIVER_VERIFY) && !agent.verifies)
        answer_probe(&d);
    else if (d.source)
        agent.deliver(&d);
    else
        log_warning("%s: can't read the message: %s", message->queue_id, err.text);
    delivery_result_rest(&d, &(struct delivery_status){.result = DELIVERED_DEFERRED,
                                                       .dsn = "4.3.0",
                                                       .reason = d.source ? "delivery was not finished" : err.text,
                                                       .relay = "none"});
    link_close_fds(in);
    segment_feed_drop(segment);
    active--;
    link_reply(request, &type_delivered, &d.answer, slice_make(NULL, 0), NULL, 0);
}

void
agent_init(const struct agent *what)
{
    agent = *what;
}

void
agent_serve(int fd, const struct net_addr *peer, unsigned socket)
{
    static const struct link_handler handlers[] = {
        {&type_segment, false, segment_feed_take},
        {&type_deliver, true, on_deliver},
    };
    (void)peer;
    (void)socket;
    struct segment_feed *feed = segment_feed_new();

    if (!link_accept(fd, handlers, ARRAY_LEN(handlers), feed, feed_closed))
        segment_feed_free(&feed);
}

unsigned
agent_active(void)
{
    return active;
}

/* ---- results ---- */

/* Before qmgr, in qmgr, until the connection stood, in transmission. */
static void
format_delays(const struct delivery *d, usec_t now, char *text, size_t size)
{
    char part[4][32];
    usec_t connected = d->connected ? d->connected : now;

    log_form_delay(d->request->active_usec - d->request->arrival_usec, part[0], sizeof part[0]);
    log_form_delay(d->started - d->request->active_usec, part[1], sizeof part[1]);
    log_form_delay(connected - d->started, part[2], sizeof part[2]);
    log_form_delay(now - connected, part[3], sizeof part[3]);
    snprintf(text, size, "%s/%s/%s/%s", part[0], part[1], part[2], part[3]);
}

static const char *
status_word(const struct delivery *d, int result)
{
    bool verify = d->request->flags & DELIVER_VERIFY;

    switch (result) {
    case DELIVERED_DEFERRED: return verify ? "undeliverable" : "deferred";
    case DELIVERED_BOUNCED: return verify ? "undeliverable" : "bounced";
    default: return verify ? "deliverable" : "sent";
    }
}

static const char *
action_word(int result)
{
    switch (result) {
    case DELIVERED_DEFERRED: return "delayed";
    case DELIVERED_BOUNCED: return "failed";
    case DELIVERED_EXPANDED: return "expanded";
    default: return "relayed";
    }
}

static void
log_result(const struct delivery *d, const char *address, const char *original, const struct delivery_status *status,
           const char *reason)
{
    bool show_original = *original && strcasecmp(original, address) != 0;
    char delay[32], delays[160], conn_use[32] = "";
    const char *logged = arena_strndup(d->arena, reason, strnlen(reason, REASON_LOGGED));
    usec_t now = clock_wall();

    log_form_delay(now - d->request->arrival_usec, delay, sizeof delay);
    format_delays(d, now, delays, sizeof delays);
    if (status->conn_use > 1)
        snprintf(conn_use, sizeof conn_use, "conn_use=%u, ", status->conn_use);
    log_delivery(d->request->queue_id, log_form_address(d->arena, address),
                 show_original ? log_form_address(d->arena, original) : NULL, status->relay, conn_use, delay, delays,
                 status->dsn, status_word(d, status->result), logged);
}

struct delivery_status
delivery_filter(struct delivery *d, const struct delivery_status *status)
{
    if (!agent.filter || maps_is_empty(agent.filter))
        return *status;
    return delivery_filter_ask(agent.filter, d, status);
}

/* One printable line, of bounded length; never NULL. */
static char *
clean(struct arena *arena, const char *text)
{
    size_t len = text ? strnlen(text, REASON_LIMIT) : 0;
    char *copy = arena_strndup(arena, text ? text : "", len);

    text_printable(copy, len, '?', false);
    return copy;
}

void
delivery_log(const struct delivery *d, const char *address, const char *original, const struct delivery_status *status)
{
    log_result(d, address, original, status, clean(d->arena, status->reason));
}

void
delivery_result_silent(struct delivery *d, unsigned i, const struct delivery_status *status)
{
    check(i < d->request->recipient_count && !d->is_done[i]);
    struct delivered_recipient *out = &d->answer.recipients[d->answer.recipient_count++];

    d->is_done[i] = true;
    *out = (struct delivered_recipient){
        .index = d->request->recipients[i].index,
        .result = status->result,
        .status = clean(d->arena, status->dsn),
        .action = status->action ? status->action : action_word(status->result),
        .reason = clean(d->arena, status->reason),
        .diag_type = clean(d->arena, status->diag_type),
        .diag_text = clean(d->arena, status->diag_text),
        .mta_type = clean(d->arena, status->mta_type),
        .mta_name = clean(d->arena, status->mta_name),
    };
}

void
delivery_result(struct delivery *d, unsigned i, const struct delivery_status *given)
{
    const struct deliver_recipient *rcpt = &d->request->recipients[i];
    const struct delivery_status status = delivery_filter(d, given);

    delivery_result_silent(d, i, &status);
    log_result(d, rcpt->address, rcpt->original, &status, d->answer.recipients[d->answer.recipient_count - 1].reason);
}

void
delivery_result_rest(struct delivery *d, const struct delivery_status *status)
{
    for (unsigned i = 0; i < d->request->recipient_count; i++)
        if (!d->is_done[i])
            delivery_result(d, i, status);
}

void
delivery_hop(struct delivery *d, int hop, const char *dsn, const char *reason)
{
    d->answer.hop = hop;
    d->answer.hop_status = clean(d->arena, dsn);
    d->answer.hop_reason = clean(d->arena, reason);
}
