/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/control.h"

#include <inttypes.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_id.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "qmgr/active.h"
#include "qmgr/message.h"
#include "qmgr/replay.h"
#include "qmgr/scan.h"
#include "qmgr/segment.h"

enum { LIST_BYTES = 12 << 20 }; /* of a list of messages: below a frame's limit */
#define FILES_TIME SECONDS(60)

static int journal_fd = -1;

void
control_init(int fd)
{
    journal_fd = fd;
}

static void
released(struct link_request *request)
{
    static const struct msg_released message;

    link_reply(request, &type_released, &message, slice_make(NULL, 0), NULL, 0);
}

/* ---- cleanup ---- */

static void
on_segment(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_segment *message = in->message;
    struct segment *segment;
    struct err err;

    (void)ctx;
    if (message->gone || in->fd_count != 1) {
        segment_gone((uint32_t)message->segment, (uint32_t)message->generation);
        link_close_fds(in);
        return;
    }
    in->fd_count = 0;
    segment = segment_add(journal_fd, in->fds[0], link_request_link(request), &err);
    if (!segment)
        log_warning("journal segment %08" PRIX64 ": %s", message->segment, err.text);
}

/* Announced a second time, over a new link: the answer goes there. */
static void
announced_again(struct message *message, struct link_request *request)
{
    if (message->announcement)
        released(message->announcement); /* nobody hears it */
    message->announcement = request;
}

/* A new message. NULL: what came is no envelope. */
static struct message *
message_of(const struct msg_announce *announce, struct slice payload, struct err *err)
{
    struct message *message = message_new();
    struct slice rest;

    message->envelope = msg_decode(message->arena, &type_envelope, arena_slice(message->arena, payload), &rest, err);
    if (message->envelope && !queue_id_is_valid(slice_from(message->envelope->queue_id))) {
        err_set(err, ERR_SYNTAX, "bad queue id");
        message->envelope = NULL;
    }
    if (!message->envelope) {
        message_free(&message);
        return NULL;
    }
    message->id = message->envelope->queue_id;
    message->offset = (uint64_t)announce->offset;
    message->length = (uint64_t)announce->length;
    return message;
}

/* The image is one too many. */
static void
strike_image(struct segment *segment, struct message *message, struct link_request *request)
{
    message->announcement = request;
    segment_attach(segment, message);
    segment_strike(message);
    message_free(&message);
    active_want_turn();
}

/* What can't be used is never answered: the image stays in the journal. */
static void
on_announce(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_announce *announce = in->message;
    struct segment *segment = segment_find((uint32_t)announce->segment, (uint32_t)announce->generation);
    struct message *message, *known;
    struct err err;

    (void)ctx;
    link_close_fds(in);
    if (!segment) {
        log_warning("message announced in journal segment %08" PRIX64 ", which is not known", announce->segment);
        return;
    }
    if (segment_is_struck(segment, (uint64_t)announce->offset)) {
        released(request);
        return;
    }
    message = message_of(announce, in->payload, &err);
    if (!message) {
        log_warning("message announced in journal segment %08" PRIX64 ": %s", announce->segment, err.text);
        return;
    }
    segment_apply_struck(segment, message->offset, message->envelope);
    known = message_find(message->id);
    if (known && known->segment == segment && known->offset == message->offset) {
        announced_again(known, request);
        message_free(&message);
        return;
    }
    if (known ? known->in_file : replay_is_filed(message)) {
        strike_image(segment, message, request);
        return;
    }
    if (known) {
        log_warning("%s: announced twice", message->id);
        message_free(&message);
        return;
    }
    (void)!message_register(message);
    message->announcement = request;
    segment_attach(segment, message);
    active_take_up(message);
}

static void
on_closed(void *ctx, struct link *link)
{
    (void)ctx;
    segment_announcer_gone(link);
}

/* ---- commands ---- */

static size_t
entry_size(const struct message *message, size_t i)
{
    const struct delivered_recipient *result = message->recipients[i].result;

    return 200 + strlen(message->id) + strlen(message->envelope->sender) +
           strlen(message->envelope->recipients[i].address) + (result ? strlen(result->reason) : 0);
}

/* Messages that no file shows: one entry for each recipient that is not done. */
static void
list_messages(struct arena *arena, struct msg_queue_list *list)
{
    size_t position = 0, size = 0, bytes = 0;
    struct message *message;

    while (message_next(&position, &message))
        if (message->segment && !message->in_file)
            size += message->envelope->recipient_count;
    list->entries = arena_array(arena, size + 1, sizeof(*list->entries));
    position = 0;
    while (message_next(&position, &message)) {
        if (!message->segment || message->in_file)
            continue;
        for (size_t i = 0; i < message->envelope->recipient_count && bytes < LIST_BYTES; i++) {
            const struct recipient *recipient = &message->recipients[i];
            if (recipient->state == RECIPIENT_DONE || list->entry_count >= type_queue_list.item_max)
                continue;
            bytes += entry_size(message, i);
            list->entries[list->entry_count++] =
                (struct queue_entry){.queue_id = message->id,
                                     .sender = message->envelope->sender,
                                     .arrival_sec = message->envelope->arrival_sec,
                                     .size = message->envelope->text_length,
                                     .recipient = message->envelope->recipients[i].address,
                                     .reason = recipient->result ? recipient->result->reason : ""};
        }
    }
}

static void
on_control(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_queue_control *control = in->message;
    struct msg_queue_list list = {0};

    (void)ctx;
    link_close_fds(in);
    if (strcmp(control->command, "list") == 0) {
        replay_now();
        list_messages(link_request_arena(request), &list);
    } else if (strcmp(control->command, "files") == 0) {
        active_file(*control->queue_id ? control->queue_id : NULL, loop_now() + FILES_TIME);
    } else if (strcmp(control->command, "incoming") == 0) {
        scan_want_incoming(false);
    }
    link_reply(request, &type_queue_list, &list, slice_make(NULL, 0), NULL, 0);
}

/* ---- triggers ---- */

static void
on_trigger(void *ctx, const char *bytes, size_t len)
{
    struct slice text = slice_make(bytes, len);
    bool all = slice_has_byte(text, 'A');

    (void)ctx;
    if (slice_has_byte(text, 'F'))
        sched_revive(active_scheduler());
    if (slice_has_byte(text, 'D'))
        scan_want_deferred(all);
    if (slice_has_byte(text, 'I'))
        scan_want_incoming(all);
    if (slice_has_byte(text, 'W'))
        scan_remind();
    active_want_turn();
}

static const struct link_handler handlers[] = {
    {.type = &type_segment, .fn = on_segment},
    {.type = &type_announce, .fn = on_announce},
    {.type = &type_queue_control, .task = true, .fn = on_control},
};

void
control_serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    link_accept_public(fd, handlers, ARRAY_LEN(handlers), NULL, on_closed, on_trigger);
}
