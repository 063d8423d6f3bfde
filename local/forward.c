/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarding: a new message for all that have the same sender and the same Delivered-To, posted when everything else of
 * the job is done. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/submit.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "local/local.h"

enum { INLINE_LIMIT = 60 * 1024, END_LENGTH = 3 /* ".\r\n" */ };

struct batch {
    struct list link;
    const char *sender, *delivered;
    const struct step **steps;
    size_t count, room;
};

static struct submitter *cleanup;

void
forward_prepare(void)
{
    cleanup = submitter_new(arena_printf(service_arena(), "public/%s", local.s.cleanup_service_name));
}

static struct batch *
find_batch(struct job *job, const struct step *step)
{
    struct batch *batch;

    LIST_EACH(link, &job->batches)
    {
        batch = LIST_ENTRY(link, struct batch, link);
        if (strcmp(batch->sender, step->sender) == 0 && strcmp(batch->delivered, step->delivered) == 0)
            return batch;
    }
    batch = ARENA_NEW(job->arena, struct batch);
    batch->sender = step->sender;
    batch->delivered = step->delivered;
    list_append(&job->batches, &batch->link);
    return batch;
}

void
forward_add(struct job *job, const struct step *step)
{
    struct batch *batch;

    if (job_seen_address(job, "indirect", step->address))
        return;
    batch = find_batch(job, step);
    if (batch->count == batch->room) {
        size_t room = batch->room ? batch->room * 2 : 8;
        const struct step **larger = arena_array(job->arena, room, sizeof(*larger));

        if (batch->count)
            memcpy(larger, batch->steps, batch->count * sizeof(*larger));
        batch->steps = larger;
        batch->room = room;
    }
    batch->steps[batch->count++] = step;
}

/* ---- posting ---- */

static void
put_recipients(struct job *job, const struct batch *batch, struct envelope *e)
{
    e->recipients = arena_array(job->arena, batch->count, sizeof *e->recipients);
    e->recipient_count = batch->count;
    for (size_t i = 0; i < batch->count; i++) {
        const struct step *step = batch->steps[i];

        e->recipients[i] = (struct envelope_recipient){.address = step->address,
                                                       .original = step->original,
                                                       .dsn_original = step->dsn_original,
                                                       .notify = step->notify};
    }
}

static struct envelope
make_envelope(struct job *job, const struct batch *batch, const char *id, int64_t number)
{
    const struct envelope *was = source_envelope(job->d->source);
    struct envelope e = envelope_empty();
    usec_t now = loop_now_wall();

    e.queue_id = id;
    e.number = number;
    e.arrival_sec = now / SECONDS(1);
    e.arrival_usec = now % SECONDS(1);
    e.rewrite_context = *was->rewrite_context ? was->rewrite_context : "local";
    e.sender = batch->sender;
    e.encoding = was->encoding;
    e.sendopts = was->sendopts;
    e.log_client_name = was->log_client_name;
    e.log_client_address = was->log_client_address;
    e.log_client_port = was->log_client_port;
    e.log_message_origin = was->log_message_origin;
    e.log_helo_name = was->log_helo_name;
    e.log_protocol_name = was->log_protocol_name;
    if (strcmp(batch->sender, job->d->request->sender) == 0) {
        e.envelope_id = was->envelope_id;
        e.ret_flags = was->ret_flags;
    }
    e.submit_flags = SUBMIT_INTERNAL;
    put_recipients(job, batch, &e);
    return e;
}

/* In wire form. */
static void
put_head(struct job *job, const struct batch *batch, const char *id, struct buf *out)
{
    char date[64], *delivered = arena_strdup(job->arena, addr_quote(job->arena, batch->delivered));

    clock_format_rfc5322(loop_now_wall(), date, sizeof date);
    text_printable(delivered, strlen(delivered), '?', true);
    buf_printf(out, "Received: by %s (%s)\r\n\tid %s; %s\r\n", local.s.myhostname, local.s.mail_name, id, date);
    if (local.delivered_mask & CONTEXT_FORWARD)
        buf_printf(out, "Delivered-To: %s\r\n", delivered);
}

/* Pieces as they come, but for the final dot line: the last bytes wait for the next piece. */
static int may_wait
write_content(struct submission *submission, struct source *source, struct err *err)
{
    struct buf held = {0};
    struct slice piece;
    int more, result = 0;

    source_rewind(source);
    while (result == 0 && (more = source_next_wire(source, &piece, err)) != 0) {
        if (more < 0) {
            result = -1;
            break;
        }
        buf_append_slice(&held, piece);
        if (held.len > END_LENGTH) {
            result = submission_write(submission, slice_make(held.ptr, held.len - END_LENGTH), err);
            buf_consume(&held, held.len - END_LENGTH);
        }
    }
    buf_release(&held);
    return result;
}

static int may_wait
send_stream(struct job *job, const struct envelope *e, struct buf *head, struct msg_submitted *answer, struct err *err)
{
    struct submission *submission = submission_begin(cleanup, job->arena, e, err);

    if (!submission)
        return -1;
    if (submission_write(submission, buf_slice(head), err) < 0 || write_content(submission, job->d->source, err) < 0) {
        submission_abort(submission);
        return -1;
    }
    return submission_finish(submission, answer, err);
}

static int may_wait
post(struct job *job, const struct batch *batch, const char *id, int64_t number, struct err *err)
{
    const struct envelope e = make_envelope(job, batch, id, number);
    struct slice whole = source_whole_wire(job->d->source, INLINE_LIMIT);
    struct msg_submitted answer;
    struct buf content = {0};
    int result;

    put_head(job, batch, id, &content);
    if (whole.len >= END_LENGTH) {
        buf_append(&content, whole.ptr, whole.len - END_LENGTH);
        result = submitter_send(cleanup, job->arena, &e, &content, &answer, err);
    } else {
        result = send_stream(job, &e, &content, &answer, err);
        buf_release(&content);
    }
    if (result == 0 && answer.code / 100 != 2)
        return err_set(err, ERR_TEMP, "%s", answer.text);
    return result;
}

static void may_wait
send_batch(struct job *job, const struct batch *batch)
{
    char id[QUEUE_ID_SIZE];
    int64_t number;
    const char *reason;
    struct err err;
    int result = submitter_new_id(cleanup, local.s.enable_long_queue_ids, &number, id, &err);

    if (result == 0)
        result = post(job, batch, arena_strdup(job->arena, id), number, &err);
    reason = result < 0 ? arena_printf(job->arena, "unable to forward mail: %s", err.text)
                        : arena_printf(job->arena, "forwarded as %s", id);
    if (result < 0)
        job_failed(job, job->first, "4.3.0", reason);
    else
        job_result(
            job, job->first,
            &(struct delivery_status){
                .result = DELIVERED_SENT, .dsn = "2.0.0", .reason = reason, .relay = "local", .action = "relayed"});
}

void
forward_send(struct job *job)
{
    LIST_EACH(link, &job->batches)
    send_batch(job, LIST_ENTRY(link, struct batch, link));
}
