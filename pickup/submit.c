/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/mail/log_form.h"
#include "lib/mail/queue_id.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "pickup/pickup.h"

static int
log_drop(const struct drop *drop)
{
    const char *from = log_form_address(drop->arena, drop->envelope.sender);

    if (drop->is_requeued)
        log_pickup_again(drop->envelope.queue_id, (long)drop->uid, from, drop->name);
    else
        log_pickup(drop->envelope.queue_id, (long)drop->uid, from);
    return 0;
}

static void
put_received(const struct drop *drop, struct buf *out)
{
    char date[64];

    clock_format_rfc5322(loop_now_wall(), date, sizeof date);
    buf_printf(out, "Received: by %s (%s, from userid %ld)\r\n\tid %s; %s\r\n", pickup.settings.myhostname,
               pickup.settings.mail_name, (long)drop->uid, drop->envelope.queue_id, date);
}

/* The rest of a content that is too large for one frame. */
static int may_wait
send_rest(struct drop *drop, struct submission *submission, struct buf *piece, struct err *err)
{
    while (piece->len > 0) {
        if (submission_write(submission, buf_slice(piece), err) < 0)
            return -1;
        buf_clear(piece);
        if (drop_content(drop, LINK_PAYLOAD_INLINE, piece, err) < 0)
            return -1;
    }
    return 0;
}

static int may_wait
send_large(struct drop *drop, struct buf *piece, struct msg_submitted *answer, struct err *err)
{
    struct submission *submission = submission_begin(pickup.submitter, drop->arena, &drop->envelope, err);

    if (!submission)
        return -1;
    if (send_rest(drop, submission, piece, err) < 0) {
        submission_abort(submission);
        return -1;
    }
    return submission_finish(submission, answer, err);
}

static int may_wait
send_once(struct drop *drop, struct msg_submitted *answer, struct err *err)
{
    struct buf piece = {0};
    int result = -1;

    put_received(drop, &piece);
    if (drop_content_begin(drop, err) == 0 && drop_content(drop, LINK_PAYLOAD_INLINE, &piece, err) == 0) {
        if (drop->ended && piece.len <= LINK_PAYLOAD_INLINE)
            result = submitter_send(pickup.submitter, drop->arena, &drop->envelope, &piece, answer, err);
        else
            result = send_large(drop, &piece, answer, err);
    }
    buf_release(&piece);
    return result;
}

/* A message that cleanup refuses for good goes back to its sender: it is sent on the way of a message that was taken in,
 * and the error agent returns it. */
static void
turn_back(struct drop *drop, const struct msg_submitted *why)
{
    drop->envelope.submit_flags |= SUBMIT_INTERNAL | SUBMIT_NO_HEADER_CHECKS | SUBMIT_NO_MILTERS;
    drop->envelope.content_filter = arena_printf(drop->arena, "error:%s %s", why->enhanced, why->text);
}

bool may_wait
submit_drop(struct drop *drop)
{
    struct envelope *e = &drop->envelope;
    struct msg_submitted answer;
    char id[QUEUE_ID_SIZE];
    struct err err;

    if (submitter_new_id(pickup.submitter, pickup.settings.enable_long_queue_ids, &e->number, id, &err) < 0) {
        log_warning("maildrop/%s: %s", drop->name, err.text);
        return false;
    }
    e->queue_id = arena_strdup(drop->arena, id);
    e->content_filter = pickup.settings.content_filter;
    e->submit_flags = pickup.submit_flags;
    log_drop(drop);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        if (send_once(drop, &answer, &err) < 0) {
            log_warning("%s: maildrop/%s: %s", e->queue_id, drop->name, err.text);
            return false;
        }
        if (answer.code / 100 == 2)
            return true;
        log_warning("%s: maildrop/%s: not accepted: %s %s", e->queue_id, drop->name, answer.enhanced, answer.text);
        if (answer.code / 100 == 4 || !*e->sender)
            break;
        turn_back(drop, &answer);
    }
    return false;
}
