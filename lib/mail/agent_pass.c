/* SPDX-License-Identifier: Apache-2.0 */
/* delivery_pass(), delivery_tell(): one agent in the place of qmgr before another, or before bounce. */
#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/mail/agent.h"
#include "lib/run/loop.h"

#define PASS_TIME SECONDS(3600)

/* A link for each service; they stay as long as the process. */
static struct link *
link_to(struct delivery *d, const char *transport)
{
    static struct map *links;
    struct link *link;

    if (!links)
        links = map_new();
    link = map_get_text(links, transport);
    if (!link) {
        link = link_connect(arena_printf(d->arena, "private/%s", transport), NULL, 0, NULL, NULL);
        (void)map_put_text(links, transport, link);
    }
    return link;
}

static int may_wait
call(struct delivery *d, const char *service, const struct msg_type *type, const void *request,
     const struct msg_type *answer, struct link_message *reply, struct err *err)
{
    const struct msg_deliver *place = d->request;
    const struct msg_segment segment = {.segment = place->segment, .generation = place->generation};
    bool in_segment = place->segment_length > 0;
    struct link *link = link_to(d, service);

    if (in_segment && link_send(link, &type_segment, &segment, slice_make(NULL, 0), &d->fd, 1, err) < 0)
        return -1;
    return link_call(link, d->arena, type, request, slice_make(NULL, 0), in_segment ? NULL : &d->fd, in_segment ? 0 : 1,
                     answer, reply, loop_now() + PASS_TIME, err);
}

int
delivery_pass(struct delivery *d, unsigned i, const char *address, const char *transport, const char *nexthop,
              struct delivery_status *status, struct err *err)
{
    struct deliver_recipient recipient = d->request->recipients[i];
    struct msg_deliver request = *d->request;
    struct link_message reply;

    recipient.address = address;
    recipient.index = 0;
    request.transport = transport;
    request.nexthop = nexthop;
    request.recipients = &recipient;
    request.recipient_count = 1;
    if (call(d, transport, &type_deliver, &request, &type_delivered, &reply, err) < 0)
        return err_context(err, "mail transport \"%s\" unavailable", transport);
    const struct msg_delivered *delivered = reply.message;
    if (delivered->recipient_count != 1)
        return err_set(err, ERR_TEMP, "mail transport \"%s\" gave no result", transport);
    const struct delivered_recipient *done = delivered->recipients;
    *status = (struct delivery_status){.result = (int)done->result,
                                       .dsn = done->status,
                                       .reason = done->reason,
                                       .relay = transport,
                                       .diag_type = done->diag_type,
                                       .diag_text = done->diag_text,
                                       .mta_type = done->mta_type,
                                       .mta_name = done->mta_name,
                                       .action = done->action};
    return 0;
}

static const char *
text_or_empty(const char *text)
{
    return text ? text : "";
}

int
delivery_tell(struct delivery *d, const char *service, const char *owner, const struct deliver_recipient *failed,
              const struct delivery_status *status, struct err *err)
{
    const struct msg_deliver *request = d->request;
    struct bounce_recipient recipient = {.address = failed->address,
                                         .original = failed->original,
                                         .dsn_original = failed->dsn_original,
                                         .notify = failed->notify,
                                         .status = status->dsn,
                                         .action = "failed",
                                         .reason = text_or_empty(status->reason),
                                         .diag_type = text_or_empty(status->diag_type),
                                         .diag_text = text_or_empty(status->diag_text),
                                         .mta_type = text_or_empty(status->mta_type),
                                         .mta_name = text_or_empty(status->mta_name)};
    const struct msg_bounce bounce = {.kind = BOUNCE_FAILED,
                                      .queue_id = request->queue_id,
                                      .queue_name = request->queue_name,
                                      .segment = request->segment,
                                      .generation = request->generation,
                                      .segment_offset = request->segment_offset,
                                      .segment_length = request->segment_length,
                                      .sender = owner,
                                      .envelope_id = "",
                                      .arrival_usec = request->arrival_usec,
                                      .recipients = &recipient,
                                      .recipient_count = 1};
    struct link_message reply;

    if (call(d, service, &type_bounce, &bounce, &type_bounced, &reply, err) < 0)
        return -1;
    return ((const struct msg_bounced *)reply.message)->done ? 0
                                                             : err_set(err, ERR_TEMP, "the notice could not be queued");
}
