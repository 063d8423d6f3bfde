/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/notice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/mail/verp.h"
#include "lib/run/loop.h"
#include "qmgr/active.h"
#include "qmgr/filing.h"
#include "qmgr/outlet.h"
#include "qmgr/segment.h"

enum { PATH_SIZE = 300 };

struct notice {
    struct message *message;
    int kind;
    uint32_t *recipients; /* that it tells of */
    size_t count;
    bool reads_image;
};

static bool
concerns(const struct notice *notice, size_t i)
{
    const struct recipient *recipient = &notice->message->recipients[i];

    if (notice->kind == BOUNCE_SUCCESS || notice->kind == BOUNCE_VERIFY)
        return recipient->tell_success;
    return recipient->result &&
           recipient->state == (notice->kind == BOUNCE_DELAYED ? RECIPIENT_DEFERRED : RECIPIENT_FAILED);
}

/* ---- the answer ---- */

static void
note_told(struct message *message, uint32_t i)
{
    struct err err;

    message->recipients[i].state = RECIPIENT_DONE;
    if (message->segment && !message->in_file)
        segment_strike_recipient(message, i);
    if (!message->in_file || message->envelope->recipients[i].offset == 0)
        return;
    message->recipients[i].noted = true;
    if (filing_mark_done(message, i, &err) < 0 && err.code != ENOENT)
        log_warning("%s: %s", message->id, err.text);
}

static void
sender_was_told(struct notice *notice)
{
    struct message *message = notice->message;

    if (notice->kind == BOUNCE_DELAYED) {
        message->told_of_delay = message->pass_told_of_delay = true;
        return;
    }
    if (notice->kind == BOUNCE_VERIFY)
        message->envelope->trace_flags &= TRACE_VERIFY; /* a report of deliveries is of the first attempt only */
    for (size_t j = 0; j < notice->count; j++) {
        if (notice->kind == BOUNCE_SUCCESS || notice->kind == BOUNCE_VERIFY)
            message->recipients[notice->recipients[j]].tell_success = false;
        else
            note_told(message, notice->recipients[j]);
    }
}

/* What failed stays, deferred: it will fail again, and its sender be told then. A report of success is not worth that. */
static void
sender_was_not_told(struct notice *notice, const char *why)
{
    struct message *message = notice->message;

    log_warning("%s: sender notification failed: %s", message->id, why);
    message->notice_failed = true;
    for (size_t j = 0; j < notice->count; j++) {
        struct recipient *recipient = &message->recipients[notice->recipients[j]];
        recipient->tell_success = false;
        if (recipient->state == RECIPIENT_FAILED)
            recipient->state = RECIPIENT_DEFERRED;
    }
}

static void
on_bounced(void *ctx, struct link_message *reply, const struct err *err)
{
    struct notice *notice = ctx;
    struct message *message = notice->message;

    message->telling = false;
    if (notice->reads_image)
        message->image_readers--;
    if (!reply)
        sender_was_not_told(notice, err->text);
    else if (((const struct msg_bounced *)reply->message)->done)
        sender_was_told(notice);
    else
        sender_was_not_told(notice, "the notice could not be queued");
    active_want_turn();
    active_progress(message);
    segment_sync_now();
}

/* ---- the request ---- */

/* A notice of a failure for each recipient, to the sender that this recipient's copy had. */
static bool
is_for_one(const struct notice *notice)
{
    return notice->kind == BOUNCE_FAILED && verp_is_wanted(notice->message->envelope) &&
           !active_settings()->disable_verp_bounces;
}

static const char *
sender_to_tell(const struct notice *notice)
{
    const struct message *message = notice->message;

    if (!is_for_one(notice))
        return message->envelope->sender;
    return verp_sender(message->pass_arena, message->envelope, &message->envelope->recipients[notice->recipients[0]]);
}

static void
collect(struct notice *notice, struct bounce_recipient *recipients)
{
    struct message *message = notice->message;
    size_t most = is_for_one(notice) ? 1 : RECIPIENTS_IN_A_NOTICE;

    for (size_t i = 0; i < message->envelope->recipient_count && notice->count < most; i++) {
        const struct envelope_recipient *given = &message->envelope->recipients[i];
        const struct delivered_recipient *result = message->recipients[i].result;

        if (!concerns(notice, i))
            continue;
        /* Who is told of a success was decided when it came: bounce need not look at NOTIFY. */
        bool tells_success = notice->kind == BOUNCE_SUCCESS;
        recipients[notice->count] = (struct bounce_recipient){.address = given->address,
                                                              .original = given->original,
                                                              .dsn_original = given->dsn_original,
                                                              .notify = tells_success ? NOTIFY_SUCCESS : given->notify,
                                                              .status = result->status,
                                                              .action = notice->kind == BOUNCE_FAILED    ? "failed"
                                                                        : notice->kind == BOUNCE_DELAYED ? "delayed"
                                                                        : *result->action ? result->action
                                                                                          : "relayed",
                                                              .reason = result->reason,
                                                              .diag_type = result->diag_type,
                                                              .diag_text = result->diag_text,
                                                              .mta_type = result->mta_type,
                                                              .mta_name = result->mta_name};
        notice->recipients[notice->count++] = (uint32_t)i;
    }
}

static const char *
service_for(const struct notice *notice)
{
    if (notice->kind == BOUNCE_SUCCESS || notice->kind == BOUNCE_VERIFY)
        return active_settings()->trace_service_name;
    if (notice->kind == BOUNCE_DELAYED || notice->message->expired)
        return active_settings()->defer_service_name;
    return active_settings()->bounce_service_name;
}

static int
ask(struct notice *notice, struct bounce_recipient *recipients, struct err *err)
{
    struct message *message = notice->message;
    struct msg_bounce bounce = {.kind = notice->kind,
                                .queue_id = message->id,
                                .queue_name = "active",
                                .sender = sender_to_tell(notice),
                                .envelope_id = message->envelope->envelope_id,
                                .content_offset = message->content_offset,
                                .ret_flags = message->envelope->ret_flags,
                                .arrival_usec = message_arrival(message),
                                .expires =
                                    (message_arrival(message) + active_settings()->maximal_queue_lifetime) / SECONDS(1),
                                .recipients = recipients,
                                .recipient_count = notice->count};
    char service[PATH_SIZE];
    int fd = -1, result;

    if (message->in_file) {
        fd = filing_open(message, O_RDONLY, err);
        if (fd < 0)
            return -1;
    } else {
        bounce.segment = message->segment->number;
        bounce.generation = message->segment->generation;
        bounce.segment_offset = (int64_t)message->offset;
        bounce.segment_length = (int64_t)message->length;
    }
    snprintf(service, sizeof(service), "private/%s", service_for(notice));
    result =
        outlet_call(outlet_find(service), message, fd, &type_bounce, &bounce, &type_bounced, on_bounced, notice, err);
    if (fd >= 0)
        close(fd);
    return result;
}

void
notice_send(struct message *message, int kind)
{
    struct notice *notice = ARENA_NEW(message->pass_arena, struct notice);
    struct bounce_recipient *recipients;
    size_t most = message->envelope->recipient_count < RECIPIENTS_IN_A_NOTICE ? message->envelope->recipient_count
                                                                              : RECIPIENTS_IN_A_NOTICE;
    struct err err;

    *notice = (struct notice){.message = message, .kind = kind};
    notice->recipients = arena_array(message->pass_arena, most, sizeof(uint32_t));
    recipients = arena_array(message->pass_arena, most, sizeof(*recipients));
    collect(notice, recipients);
    if (ask(notice, recipients, &err) < 0) {
        sender_was_not_told(notice, err.text);
        active_progress(message);
        return;
    }
    message->telling = true;
    notice->reads_image = !message->in_file;
    if (notice->reads_image) {
        message->image_readers++;
        message->image_given = loop_now();
    }
}
