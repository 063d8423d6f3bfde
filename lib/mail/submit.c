/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/submit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/content_stream.h"
#include "lib/mail/queue_id.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

enum {
    IDS_AT_ONCE = 1024,
    IDS_LOW = 256, /* so few are left: more are fetched while these are used */
};

static const usec_t ANSWER_TIME = SECONDS(600); /* longer than any sync takes */
static const usec_t IDS_TIME = SECONDS(60);

struct submitter {
    struct link *link;
    int64_t next, end;      /* numbers in hand */
    int64_t then, then_end; /* and the range after them */
    bool fetching;
    struct err fetch_err;
    struct task_cond fetched;
};

struct submitter *
submitter_new(const char *path)
{
    struct submitter *s = calloc(1, sizeof(*s));

    if (!s)
        fatal("out of memory");
    s->link = link_connect(path, NULL, 0, s, NULL);
    return s;
}

void
submitter_free(struct submitter **submitter)
{
    struct submitter *s = *submitter;

    if (!s)
        return;
    link_free(&s->link); /* what is outstanding fails, and may still look into s */
    free(s);
    *submitter = NULL;
}

/* ---- queue ids ---- */

static void
ids_came(void *ctx, struct link_message *reply, const struct err *err)
{
    struct submitter *s = ctx;
    const struct msg_ids *ids = reply ? reply->message : NULL;

    s->fetching = false;
    s->fetch_err.kind = ERR_NONE;
    if (!ids)
        s->fetch_err = *err;
    else if (ids->count == 0)
        err_set(&s->fetch_err, ERR_TEMP, "no numbers for queue ids now");
    else {
        s->then = ids->first;
        s->then_end = ids->first + ids->count;
    }
    task_wake_all(&s->fetched);
}

static int
fetch_ids(struct submitter *s, struct err *err)
{
    struct msg_want_ids want = {.count = IDS_AT_ONCE};

    if (s->fetching || s->then < s->then_end)
        return 0;
    if (link_call_async(s->link, &type_want_ids, &want, slice_make(NULL, 0), NULL, 0, &type_ids, ids_came, s, err) < 0)
        return -1;
    s->fetching = true;
    return 0;
}

/* The next range takes the place of the one that is used up. */
static void
move_up(struct submitter *s)
{
    if (s->next < s->end || s->then == s->then_end)
        return;
    s->next = s->then;
    s->end = s->then_end;
    s->then = s->then_end = 0;
}

static int may_wait
want_number(struct submitter *s, struct err *err)
{
    usec_t deadline = loop_now() + IDS_TIME;

    for (move_up(s); s->next == s->end; move_up(s)) {
        if (fetch_ids(s, err) < 0)
            return -1;
        if (task_wait(&s->fetched, deadline, err) < 0)
            return -1;
        if (!s->fetching && s->fetch_err.kind != ERR_NONE) {
            *err = s->fetch_err;
            return -1;
        }
    }
    return 0;
}

int may_wait
submitter_new_id(struct submitter *s, bool long_form, int64_t *number, char *id, struct err *err)
{
    struct err not_now;

    if (want_number(s, err) < 0)
        return -1;
    *number = s->next++;
    queue_id_format(loop_now_wall(), (uint64_t)*number, long_form, id);
    if (s->end - s->next < IDS_LOW)
        (void)!fetch_ids(s, &not_now); /* it matters only when the last is gone */
    return 0;
}

/* ---- contents in memory ---- */

static void
copy_answer(struct arena *arena, const struct msg_submitted *from, struct msg_submitted *to)
{
    *to = *from;
    to->enhanced = arena_strdup(arena, from->enhanced);
    to->text = arena_strdup(arena, from->text);
}

static int may_wait
send_in_pieces(struct submitter *s, struct arena *arena, const struct envelope *envelope, struct slice content,
               struct msg_submitted *answer, struct err *err)
{
    struct submission *submission = submission_begin(s, arena, envelope, err);

    if (!submission)
        return -1;
    if (submission_write(submission, content, err) < 0) {
        submission_abort(submission);
        return -1;
    }
    return submission_finish(submission, answer, err);
}

int may_wait
submitter_send(struct submitter *s, struct arena *arena, const struct envelope *envelope, struct buf *content,
               struct msg_submitted *answer, struct err *err)
{
    struct link_message reply;

    if (content->len > LINK_PAYLOAD_INLINE) {
        int result = send_in_pieces(s, arena, envelope, buf_slice(content), answer, err);
        buf_release(content);
        return result;
    }
    if (link_call_giving(s->link, arena, &type_envelope, envelope, content, &type_submitted, &reply,
                         loop_now() + ANSWER_TIME, err) < 0)
        return -1;
    link_close_fds(&reply);
    *answer = *(const struct msg_submitted *)reply.message;
    return 0;
}

/* ---- contents in pieces ---- */

/* The submission lives in the caller's arena, the call may live longer: it waits for an answer that nobody wants. */
struct call {
    struct submission *submission; /* NULL: given up */
};

struct submission {
    struct arena *arena;
    struct stream *stream;
    struct call *call; /* NULL: the answer has come */
    struct msg_submitted answer;
    bool answered; /* else err says why there is no answer */
    struct err err;
    struct task_cond cond;
};

static void
answer_came(void *ctx, struct link_message *reply, const struct err *err)
{
    struct call *call = ctx;
    struct submission *submission = call->submission;

    free(call);
    if (reply)
        link_close_fds(reply);
    if (!submission)
        return;
    submission->call = NULL;
    submission->answered = reply != NULL;
    if (reply)
        copy_answer(submission->arena, reply->message, &submission->answer);
    else
        submission->err = *err;
    task_wake_all(&submission->cond);
}

static int
start_call(struct submitter *s, struct submission *submission, const struct envelope *envelope, int fd, struct err *err)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call)
        fatal("out of memory");
    call->submission = submission;
    if (link_call_async(s->link, &type_envelope, envelope, slice_make(NULL, 0), &fd, 1, &type_submitted, answer_came,
                        call, err) < 0) {
        free(call);
        return -1;
    }
    submission->call = call;
    return 0;
}

struct submission *may_wait
submission_begin(struct submitter *s, struct arena *arena, const struct envelope *envelope, struct err *err)
{
    struct submission *submission = ARENA_NEW(arena, struct submission);
    int fds[2], result;

    if (content_stream_pair(fds, err) < 0)
        return NULL;
    submission->arena = arena;
    result = start_call(s, submission, envelope, fds[1], err);
    close(fds[1]);
    if (result < 0) {
        close(fds[0]);
        return NULL;
    }
    submission->stream = stream_new(fds[0]);
    stream_set_deadline(submission->stream, loop_now() + ANSWER_TIME);
    return submission;
}

/* A failure to write is none if cleanup has said, or is about to say, why it reads no more: finish tells. */
static int may_wait
await_answer(struct submission *submission, struct err *err)
{
    usec_t deadline = loop_now() + ANSWER_TIME;

    while (submission->call)
        if (task_wait(&submission->cond, deadline, err) < 0)
            return -1;
    if (!submission->answered)
        *err = submission->err;
    return submission->answered ? 0 : -1;
}

int may_wait
submission_write(struct submission *submission, struct slice bytes, struct err *err)
{
    if (!submission->call)
        return 0;
    stream_set_deadline(submission->stream, loop_now() + ANSWER_TIME);
    if (content_stream_send(submission->stream, bytes, err) == 0)
        return 0;
    return err->kind == ERR_CLOSED || err->kind == ERR_IO ? await_answer(submission, err) : -1;
}

static void
submission_end(struct submission *submission)
{
    if (submission->call)
        submission->call->submission = NULL;
    submission->call = NULL;
    stream_free(&submission->stream);
}

int may_wait
submission_finish(struct submission *submission, struct msg_submitted *answer, struct err *err)
{
    struct err why;
    int result;

    if (submission->call && content_stream_finish(submission->stream, &why) < 0 && why.kind == ERR_CANCELLED) {
        *err = why;
        result = -1;
    } else {
        result = await_answer(submission, err);
    }
    *answer = submission->answer;
    submission_end(submission);
    return result;
}

void may_wait
submission_abort(struct submission *submission)
{
    submission_end(submission);
}
