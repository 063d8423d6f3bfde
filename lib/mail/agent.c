/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"

enum { REASON_LIMIT = 2000 };

static struct agent agent;
static unsigned active;

/* ---- segments: descriptors that a qmgr passed, kept while the link or a delivery needs them ---- */

struct segment {
    struct list link;
    int64_t number, generation;
    int fd;
    unsigned users; /* deliveries that read from it, and one for the list */
};

/* One for each connection of a qmgr. */
struct feed {
    struct list segments;
};

static void
segment_drop(struct segment *segment)
{
    if (--segment->users > 0)
        return;
    close(segment->fd);
    free(segment);
}

static struct segment *
segment_find(struct feed *feed, int64_t number, int64_t generation)
{
    LIST_EACH(link, &feed->segments)
    {
        struct segment *segment = LIST_ENTRY(link, struct segment, link);
        if (segment->number == number && segment->generation == generation)
            return segment;
    }
    return NULL;
}

static void
forget(struct segment *segment)
{
    list_remove(&segment->link);
    segment_drop(segment);
}

static void
on_segment(struct link_request *request, struct link_message *in, void *ctx)
{
    (void)request;
    const struct msg_segment *message = in->message;
    struct feed *feed = ctx;
    struct segment *known = segment_find(feed, message->segment, message->generation);

    if (known)
        forget(known);
    if (message->gone || in->fd_count != 1) {
        link_close_fds(in);
        return;
    }
    struct segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        fatal("out of memory");
    *segment =
        (struct segment){.number = message->segment, .generation = message->generation, .fd = in->fds[0], .users = 1};
    in->fd_count = 0;
    list_append(&feed->segments, &segment->link);
}

static void
feed_closed(void *ctx, struct link *link)
{
    (void)link;
    struct feed *feed = ctx;

    LIST_EACH(at, &feed->segments)
    forget(LIST_ENTRY(at, struct segment, link));
    free(feed);
}

/* ---- deliveries ---- */

static struct source *
open_source(struct delivery *d, struct link_message *in, struct segment *segment, struct err *err)
{
    if (d->request->segment_length == 0) {
        if (in->fd_count != 1) {
            err_set(err, ERR_TEMP, "no queue file came with the request");
            return NULL;
        }
        return source_open_file(d->arena, in->fds[0], err);
    }
    if (!segment) {
        err_set(err, ERR_TEMP, "journal segment %" PRId64 " is not known", d->request->segment);
        return NULL;
    }
    struct source *source = source_open_image(d->arena, segment->fd, (uint64_t)d->request->segment_offset,
                                              (uint64_t)d->request->segment_length, err);
    /* A place may be used again when a request waited for long: never take another message for this one. */
    if (source && strcmp(source_envelope(source)->queue_id, d->request->queue_id) != 0) {
        err_set(err, ERR_TEMP, "the image is another message's");
        return NULL;
    }
    return source;
}

static void
on_deliver(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_deliver *message = in->message;
    struct segment *segment = segment_find(ctx, message->segment, message->generation);
    struct delivery d = {.arena = link_request_arena(request), .request = message, .started = loop_now_wall()};
    struct err err;

    active++;
    if (segment)
        segment->users++;
    d.is_done = arena_array(d.arena, message->recipient_count, sizeof *d.is_done);
    d.answer = (struct msg_delivered){.hop_status = "", .hop_reason = ""};
    d.answer.recipients = arena_array(d.arena, message->recipient_count, sizeof *d.answer.recipients);
    d.source = open_source(&d, in, segment, &err);
    if (d.source)
        agent.deliver(&d);
    else
        log_warning("%s: can't read the message: %s", message->queue_id, err.text);
    delivery_result_rest(&d, &(struct delivery_status){.result = DELIVERED_DEFERRED,
                                                       .dsn = "4.3.0",
                                                       .reason = d.source ? "delivery was not finished" : err.text,
                                                       .relay = "none"});
    link_close_fds(in);
    if (segment)
        segment_drop(segment);
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
        {&type_segment, false, on_segment},
        {&type_deliver, true, on_deliver},
    };
    (void)peer;
    (void)socket;
    struct feed *feed = calloc(1, sizeof *feed);

    if (!feed)
        fatal("out of memory");
    list_init(&feed->segments);
    if (!link_accept(fd, handlers, ARRAY_LEN(handlers), feed, feed_closed))
        free(feed);
}

unsigned
agent_active(void)
{
    return active;
}

/* ---- results ---- */

/* Seconds with two significant digits, and never more than two behind the point: "0.05", "1.2", "340", "0". */
static void
format_delay(usec_t delay, char *text, size_t size)
{
    double seconds = delay > 0 ? (double)delay / 1e6 : 0;
    int digits = seconds >= 9.95 ? 0 : seconds >= 0.995 ? 1 : 2;

    snprintf(text, size, "%.*f", digits, seconds);
    if (!strchr(text, '.'))
        return;
    for (char *end = text + strlen(text) - 1; *end == '0' || *end == '.'; *end-- = '\0')
        if (*end == '.') {
            *end = '\0';
            break;
        }
}

/* Before qmgr, in qmgr, until the connection stood, in transmission. */
static void
format_delays(const struct delivery *d, usec_t now, char *text, size_t size)
{
    char part[4][32];
    usec_t connected = d->connected ? d->connected : now;

    format_delay(d->request->active_usec - d->request->arrival_usec, part[0], sizeof part[0]);
    format_delay(d->started - d->request->active_usec, part[1], sizeof part[1]);
    format_delay(connected - d->started, part[2], sizeof part[2]);
    format_delay(now - connected, part[3], sizeof part[3]);
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
log_result(const struct delivery *d, unsigned i, const struct delivery_status *status, const char *reason)
{
    const struct deliver_recipient *rcpt = &d->request->recipients[i];
    bool show_original = *rcpt->original && strcasecmp(rcpt->original, rcpt->address) != 0;
    char delay[32], delays[160], conn_use[32] = "";
    usec_t now = clock_wall();

    format_delay(now - d->request->arrival_usec, delay, sizeof delay);
    format_delays(d, now, delays, sizeof delays);
    if (status->conn_use > 1)
        snprintf(conn_use, sizeof conn_use, "conn_use=%u, ", status->conn_use);
    log_info("%s: to=<%s>, %s%s%srelay=%s, %sdelay=%s, delays=%s, dsn=%s, status=%s (%s)", d->request->queue_id,
             rcpt->address, show_original ? "orig_to=<" : "", show_original ? rcpt->original : "",
             show_original ? ">, " : "", status->relay, conn_use, delay, delays, status->dsn,
             status_word(d, status->result), reason);
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
delivery_result(struct delivery *d, unsigned i, const struct delivery_status *status)
{
    check(i < d->request->recipient_count && !d->is_done[i]);
    struct delivered_recipient *out = &d->answer.recipients[d->answer.recipient_count++];

    d->is_done[i] = true;
    *out = (struct delivered_recipient){
        .index = d->request->recipients[i].index,
        .result = status->result,
        .status = clean(d->arena, status->dsn),
        .action = action_word(status->result),
        .reason = clean(d->arena, status->reason),
        .diag_type = clean(d->arena, status->diag_type),
        .diag_text = clean(d->arena, status->diag_text),
        .mta_type = clean(d->arena, status->mta_type),
        .mta_name = clean(d->arena, status->mta_name),
    };
    log_result(d, i, status, out->reason);
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
