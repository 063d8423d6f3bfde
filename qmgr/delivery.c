/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/delivery.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/mail/addr.h"
#include "lib/mail/messages.h"
#include "lib/mail/verp.h"
#include "lib/run/loop.h"
#include "qmgr/active.h"
#include "qmgr/filing.h"
#include "qmgr/outlet.h"
#include "qmgr/segment.h"

enum { ATTEMPTS = 3, PATH_SIZE = 300 };

/* A request under way. */
struct request {
    struct message *message;
    struct sched_entry *entry;
    bool put_off; /* the retry service defers it: no feedback for the scheduler */
    bool reads_image;
};

static const struct conf *conf;
static const struct master_cf *services;
static struct map *unreachable; /* transports, and when that may be said again */

void
delivery_init(const struct conf *with, const struct master_cf *master_cf)
{
    conf = with;
    services = master_cf;
}

/* ---- limits ---- */

static unsigned
number(const char *transport, const char *suffix, unsigned otherwise)
{
    int64_t value;
    struct err err;

    if (conf_family_int(conf, transport, suffix, &value, &err) == 0 && value >= 0 && value <= INT32_MAX)
        return (unsigned)value;
    log_warning("%s%s: %s", transport, suffix, err.text);
    return otherwise;
}

static usec_t
duration(const char *transport, const char *suffix)
{
    int64_t value;
    struct err err;

    if (conf_family_time(conf, transport, suffix, &value, &err) == 0)
        return value;
    log_warning("%s%s: %s", transport, suffix, err.text);
    return 0;
}

static struct window_feedback
feedback(const char *transport, const char *suffix)
{
    struct window_feedback result = {.factor = 1, .scale = FEEDBACK_FIXED};
    struct arena *arena = arena_new();
    const char *name = arena_printf(arena, "%s%s", transport, suffix), *text;
    struct err err;

    if (!conf_is_set(conf, name))
        name = arena_printf(arena, "default%s", suffix);
    text = conf_string(conf, arena, name, &err);
    if (!text || window_feedback_parse(text, &result, &err) < 0)
        log_warning("%s: %s", name, err.text);
    arena_free(&arena);
    return result;
}

/* The number that the administrator wrote for the service in master.cf; 0: none. */
static unsigned
process_limit(const char *transport)
{
    const struct master_service *service = services ? master_cf_find(services, transport, "unix") : NULL;

    return service && service->maxproc_is_given ? service->maxproc : 0;
}

void
delivery_limits(void *ctx, const char *transport, struct sched_limits *limits)
{
    (void)ctx;
    *limits = (struct sched_limits){
        .request_limit = process_limit(transport),
        .window = {.limit = number(transport, "_destination_concurrency_limit", 20),
                   .initial = number(transport, "_initial_destination_concurrency", 5),
                   .positive = feedback(transport, "_destination_concurrency_positive_feedback"),
                   .negative = feedback(transport, "_destination_concurrency_negative_feedback"),
                   .failed_cohort_limit = number(transport, "_destination_concurrency_failed_cohort_limit", 1)},
        .memory_limit = number(transport, "_recipient_limit", 20000),
        .recipient_limit = number(transport, "_destination_recipient_limit", 50),
        .rate_delay = duration(transport, "_destination_rate_delay"),
        .transport_rate_delay = duration(transport, "_transport_rate_delay"),
        .slot_cost = number(transport, "_delivery_slot_cost", 5),
        .slot_loan = number(transport, "_delivery_slot_loan", 3),
        .slot_discount = number(transport, "_delivery_slot_discount", 50),
        .minimum_slots = number(transport, "_minimum_delivery_slots", 3),
        .dead_time = active_settings()->minimal_backoff_time,
    };
    if (limits->rate_delay > 0)
        limits->window.limit = limits->window.initial = 1;
}

/* ---- results ---- */

static void
note_done(struct message *message, uint32_t i)
{
    struct recipient *recipient = &message->recipients[i];
    struct err err;

    recipient->state = RECIPIENT_DONE;
    if (message->envelope->recipient_count == 1 && !message->in_passes)
        return; /* the message itself is struck or removed */
    if (message->segment && !message->in_file)
        segment_strike_recipient(message, i);
    if (!message->in_file || message->envelope->recipients[i].offset == 0)
        return;
    recipient->noted = true;
    if (filing_mark_done(message, i, &err) < 0 && err.code != ENOENT)
        log_warning("%s: %s", message->id, err.text);
}

/* Of a question, whatever the answer: it is reported, and nothing is left to do. */
static void
take_verdict(struct message *message, uint32_t i, const struct delivered_recipient *result)
{
    struct delivered_recipient verdict = *result;

    verdict.action =
        result->result == DELIVERED_DEFERRED || result->result == DELIVERED_BOUNCED ? "undeliverable" : "deliverable";
    message->recipients[i].tell_success = true;
    message->recipients[i].result = message_copy_result(message->pass_arena, &verdict);
    note_done(message, i);
}

/* The first attempt is to be reported (sendmail -v), however it ended. A message that has become a file had its own. */
static bool
is_traced(const struct message *message)
{
    return (message->envelope->trace_flags & TRACE_VERBOSE) && !message->in_file;
}

/* Is the sender to be told that this recipient has the message: because it was asked for, and no host behind us will tell; or
 * because a notice of its delay went out? */
static bool
is_to_be_told(const struct message *message, uint32_t i, const struct delivered_recipient *result)
{
    int64_t notify = message->envelope->recipients[i].notify;
    bool was_delayed = message->envelope->warn_time < 0 && (notify == 0 || (notify & NOTIFY_DELAY));

    if ((notify & NOTIFY_SUCCESS) && *result->action)
        return true;
    return was_delayed && active_settings()->confirm_delay_cleared && *message->envelope->sender;
}

static void
take_result(struct message *message, uint32_t i, const struct delivered_recipient *result)
{
    struct recipient *recipient = &message->recipients[i];

    if (recipient->state == RECIPIENT_DONE)
        return;
    if (message->envelope->trace_flags & TRACE_VERIFY) {
        take_verdict(message, i, result);
        return;
    }
    if (is_traced(message)) {
        recipient->tell_success = true;
        recipient->result = message_copy_result(message->pass_arena, result);
    }
    if (result->result == DELIVERED_DEFERRED) {
        recipient->state = RECIPIENT_DEFERRED;
        recipient->result = message_copy_result(message->pass_arena, result);
    } else if (result->result == DELIVERED_BOUNCED) {
        recipient->state = RECIPIENT_FAILED;
        recipient->result = message_copy_result(message->pass_arena, result);
    } else {
        if (is_to_be_told(message, i, result)) {
            recipient->tell_success = true;
            recipient->result = message_copy_result(message->pass_arena, result);
        }
        note_done(message, i);
    }
}

/* For recipients that no agent gave a result for. */
static void
defer_rest(struct message *message, const struct sched_entry *entry, const char *status, const char *reason)
{
    struct delivered_recipient result = {.result = DELIVERED_DEFERRED,
                                         .status = status,
                                         .action = "delayed",
                                         .reason = reason,
                                         .diag_type = "",
                                         .diag_text = "",
                                         .mta_type = "",
                                         .mta_name = ""};

    for (unsigned j = 0; j < entry->count; j++)
        if (message->recipients[entry->recipients[j]].state == RECIPIENT_TODO)
            take_result(message, entry->recipients[j], &result);
}

static bool
belongs_to(const struct sched_entry *entry, int64_t index)
{
    for (unsigned j = 0; j < entry->count; j++)
        if (entry->recipients[j] == index)
            return true;
    return false;
}

static void
take_results(struct message *message, const struct sched_entry *entry, const struct msg_delivered *delivered)
{
    for (size_t j = 0; j < delivered->recipient_count; j++)
        if (belongs_to(entry, delivered->recipients[j].index))
            take_result(message, (uint32_t)delivered->recipients[j].index, &delivered->recipients[j]);
    defer_rest(message, entry, "4.3.0", *delivered->hop_reason ? delivered->hop_reason : "delivery was not finished");
}

static void
finish(struct request *request, enum sched_outcome outcome, const char *status, const char *reason)
{
    if (request->put_off)
        sched_finish_put_off(active_scheduler(), request->entry);
    else
        sched_finish(active_scheduler(), request->entry, outcome, status, reason, loop_now());
}

static bool
may_warn(const char *transport)
{
    usec_t *until;

    if (!unreachable)
        unreachable = map_new();
    until = map_get_text(unreachable, transport);
    if (until && loop_now() < *until)
        return false;
    if (!until) {
        until = calloc(1, sizeof(*until));
        if (!until)
            fatal("out of memory");
        map_put_text(unreachable, transport, until);
    }
    *until = loop_now() + SECONDS(10);
    return true;
}

/* Nothing is known of these recipients: tried again shortly, then deferred. */
static void
lost(struct request *request, const char *why)
{
    struct sched_entry *entry = request->entry;
    const char *transport = sched_entry_transport(entry);

    if (!request->put_off && !active_is_stopping() && may_warn(transport))
        log_warning("problem with transport %s: %s", transport, why);
    if (request->message->going_out) {
        /* They stay to be done, in the file that is written now. */
        finish(request, SCHED_UNKNOWN, "", "");
    } else if (request->put_off) {
        defer_rest(request->message, entry, "4.3.0", "mail transport unavailable");
        finish(request, SCHED_UNKNOWN, "", "");
    } else if (entry->attempts < ATTEMPTS) {
        sched_retry(active_scheduler(), entry, SECONDS(1) << entry->attempts, loop_now());
    } else {
        /* The retry service takes this one and all that wait for the transport. */
        sched_retry(active_scheduler(), entry, 0, loop_now());
        sched_fail_transport(active_scheduler(), transport, "4.3.0", "mail transport unavailable", loop_now(),
                             active_settings()->transport_retry_time);
    }
}

static const char *
suspended(struct arena *arena, const char *reason)
{
    return arena_printf(arena, "delivery temporarily suspended: %s", reason);
}

static void
on_delivered(void *ctx, struct link_message *reply, const struct err *err)
{
    static const enum sched_outcome outcomes[] = {SCHED_OK, SCHED_DEAD, SCHED_BUSY};
    struct request *request = ctx;
    struct message *message = request->message;

    if (request->reads_image)
        message->image_readers--;
    if (reply) {
        const struct msg_delivered *delivered = reply->message;
        take_results(message, request->entry, delivered);
        finish(request, outcomes[delivered->hop], delivered->hop_status,
               delivered->hop == HOP_DEAD ? suspended(message->pass_arena, delivered->hop_reason) : "");
        link_close_fds(reply);
    } else {
        lost(request, err->text);
    }
    active_want_turn();
    active_progress(message);
}

/* ---- requests ---- */

static void
fill_place(const struct message *message, struct msg_deliver *deliver)
{
    deliver->segment = message->segment->number;
    deliver->generation = message->segment->generation;
    deliver->segment_offset = (int64_t)message->offset;
    deliver->segment_length = (int64_t)message->length;
}

static void
fill_recipients(const struct message *message, const struct sched_entry *entry, struct deliver_recipient *recipients)
{
    for (unsigned j = 0; j < entry->count; j++) {
        uint32_t i = entry->recipients[j];
        const struct envelope_recipient *given = &message->envelope->recipients[i];

        recipients[j] = (struct deliver_recipient){.address = message->recipients[i].address,
                                                   .original = given->original,
                                                   .dsn_original = given->dsn_original,
                                                   .notify = given->notify,
                                                   .index = i};
    }
}

static int
call_agent(struct request *request, const char *transport, const char *nexthop, int file_fd, struct err *err)
{
    struct message *message = request->message;
    const struct envelope *envelope = message->envelope;
    struct sched_entry *entry = request->entry;
    struct deliver_recipient few[4], *recipients = few;
    struct arena *arena = entry->count > ARRAY_LEN(few) ? arena_new() : NULL;
    struct msg_deliver deliver = {.queue_id = message->id,
                                  .queue_name = "active",
                                  .transport = transport,
                                  .nexthop = nexthop,
                                  .sender = envelope->sender,
                                  .encoding = envelope->encoding,
                                  .size = envelope->text_length,
                                  .content_offset = message->content_offset,
                                  .arrival_usec = message_arrival(message),
                                  .active_usec = message->taken_up_wall,
                                  .flags = (envelope->trace_flags & TRACE_VERIFY ? DELIVER_VERIFY : 0) |
                                           (envelope->trace_flags & TRACE_VERBOSE ? DELIVER_TRACE : 0) |
                                           (!request->put_off && sched_entry_has_followers(entry) ? DELIVER_KEEP : 0)};
    char service[PATH_SIZE];
    int result;

    if (verp_is_wanted(envelope))
        deliver.sender = verp_sender(message->pass_arena, envelope, &envelope->recipients[entry->recipients[0]]);
    if (arena)
        recipients = arena_array(arena, entry->count, sizeof(*recipients));
    fill_recipients(message, entry, recipients);
    deliver.recipients = recipients;
    deliver.recipient_count = entry->count;
    if (file_fd < 0)
        fill_place(message, &deliver);
    snprintf(service, sizeof(service), "private/%s", transport);
    result = outlet_call(outlet_find(service), message, file_fd, &type_deliver, &deliver, &type_delivered, on_delivered,
                         request, err);
    if (arena)
        arena_free(&arena);
    return result;
}

/* The file is not there any more: somebody removed or moved the message, which is none of our business now. */
static void
file_is_gone(struct request *request)
{
    struct message *message = request->message;

    finish(request, SCHED_UNKNOWN, "", "");
    message->removed = true;
    sched_withdraw(active_scheduler(), &message->sched);
    if (!message->filing && !message->routing)
        active_progress(message);
}

static void
start(struct request *request, const char *transport, const char *nexthop)
{
    struct message *message = request->message;
    struct err err = {.kind = ERR_NONE};
    int fd = message->in_file ? filing_open(message, O_RDONLY, &err) : -1;

    if (message->in_file && fd < 0 && err.code == ENOENT) {
        file_is_gone(request);
        return;
    }
    request->reads_image = !message->in_file;
    if ((message->in_file && fd < 0) || call_agent(request, transport, nexthop, fd, &err) < 0) {
        lost(request, err.text);
        active_want_turn();
        active_progress(message);
    } else if (request->reads_image) {
        message->image_readers++;
        message->image_given = loop_now();
    }
    if (fd >= 0)
        close(fd);
}

static struct request *
request_new(struct sched_entry *entry, bool put_off)
{
    struct message *message = CONTAINER_OF(entry->message, struct message, sched);
    struct request *request = ARENA_NEW(message->pass_arena, struct request);

    *request = (struct request){.message = message, .entry = entry, .put_off = put_off};
    return request;
}

void
delivery_start(void *ctx, struct sched_entry *entry)
{
    (void)ctx;
    start(request_new(entry, false), sched_entry_transport(entry), sched_entry_nexthop(entry));
}

/* The retry service defers them for that reason, and logs it. */
void
delivery_put_off(void *ctx, struct sched_entry *entry, const char *status, const char *reason)
{
    struct request *request = request_new(entry, true);

    (void)ctx;
    start(request, "retry", arena_printf(request->message->pass_arena, "%s %s", status, reason));
}
