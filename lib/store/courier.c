/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/courier.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"
#include "lib/store/courier_group.h"

enum { WHOLE_LIMIT = 256 * 1024, END_LENGTH = 3 /* ".\r\n" */ };

struct courier {
    struct list link; /* in pool.idle */
    struct courier_ids ids;
    struct stream *stream;
    usec_t idle_since;
};

static struct {
    int helper;
    bool can_change;
    unsigned limit, count;
    usec_t idle_time;
    struct list idle; /* the one that was used last is first */
    struct task_cond changed;
    struct loop_timer timer;
} pool = {.helper = -1};

/* ---- the helper ---- */

int
courier_prepare(unsigned limit, usec_t idle, struct err *err)
{
    int pair[2];
    pid_t pid;

    list_init(&pool.idle);
    pool.limit = limit;
    pool.idle_time = idle;
    pool.can_change = geteuid() == 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, "socketpair");
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        courier_help(pair[1]);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_errno(err, "fork");
    }
    pool.helper = pair[0];
    if (!pool.can_change)
        log_not_root((unsigned long)geteuid());
    return 0;
}

bool
courier_can_change_user(void)
{
    return pool.can_change;
}

/* The helper answers at once: it does nothing that takes long, so the loop waits for it. fd -1: none goes along. */
int
courier_ask_helper(struct helper_request *request, int fd, struct helper_answer *answer, struct err *err)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {request, sizeof *request};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    }
    while ((n = sendmsg(pool.helper, &msg, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    if (n < 0)
        return err_errno(err, "the helper process");
    while ((n = recv(pool.helper, answer, sizeof *answer, 0)) < 0 && errno == EINTR)
        ;
    if (n < 0)
        return err_errno(err, "the helper process");
    return n == sizeof *answer ? 0 : err_set(err, ERR_TEMP, "the helper process has gone");
}

int
courier_stat(const char *path, bool *found, struct courier_stat *st, struct err *err)
{
    struct helper_request *request = calloc(1, sizeof *request);
    struct helper_answer answer;
    int result;

    if (!request)
        fatal("out of memory");
    request->what = HELPER_STAT;
    snprintf(request->path, sizeof request->path, "%s", path);
    result = strlen(path) < sizeof request->path ? courier_ask_helper(request, -1, &answer, err)
                                                 : err_set(err, ERR_PERM, "path name too long");
    free(request);
    if (result < 0)
        return -1;
    *found = answer.error != ENOENT && answer.error != ENOTDIR;
    *st = (struct courier_stat){.uid = answer.uid, .gid = answer.gid, .mode = answer.mode};
    errno = answer.error;
    return *found && answer.error ? err_errno(err, "%s", "") : 0;
}

/* ---- the pool ---- */

static void
courier_free(struct courier *c)
{
    list_remove(&c->link);
    stream_free(&c->stream);
    free(c);
    pool.count--;
    task_wake_one(&pool.changed);
}

static void
on_timer(void *arg)
{
    usec_t now = loop_now();

    (void)arg;
    while (!list_is_empty(&pool.idle)) {
        struct courier *last = LIST_ENTRY(pool.idle.prev, struct courier, link);

        if (last->idle_since + pool.idle_time > now) {
            loop_timer_set(&pool.timer, last->idle_since + pool.idle_time, on_timer, NULL);
            return;
        }
        courier_free(last);
    }
}

static void
put_back(struct courier *c)
{
    c->idle_since = loop_now();
    if (list_is_empty(&pool.idle))
        loop_timer_set(&pool.timer, c->idle_since + pool.idle_time, on_timer, NULL);
    list_prepend(&pool.idle, &c->link);
    task_wake_one(&pool.changed);
}

static struct courier *
find_idle(struct courier_ids ids)
{
    LIST_EACH(link, &pool.idle)
    {
        struct courier *c = LIST_ENTRY(link, struct courier, link);

        if (c->ids.uid != ids.uid || c->ids.gid != ids.gid)
            continue;
        list_remove(&c->link);
        if (stream_is_idle_alive(c->stream))
            return c;
        courier_free(c);
    }
    return NULL;
}

static struct courier *
fork_courier(struct courier_ids ids, struct err *err)
{
    struct helper_request *request = calloc(1, sizeof *request);
    struct courier *c = calloc(1, sizeof *c);
    struct helper_answer answer;
    int pair[2], result;

    if (!request || !c)
        fatal("out of memory");
    *c = (struct courier){.ids = ids};
    request->what = HELPER_FORK;
    request->uid = ids.uid;
    request->gid = ids.gid;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        result = err_errno(err, "socketpair");
    } else {
        result = courier_ask_helper(request, pair[1], &answer, err);
        close(pair[1]);
        errno = answer.error;
        if (result == 0 && answer.error)
            result = err_errno(err, "fork");
        if (result == 0 && net_set_nonblocking(pair[0], true) < 0)
            result = err_errno(err, "socket");
        if (result < 0)
            close(pair[0]);
    }
    free(request);
    if (result < 0) {
        free(c);
        return NULL;
    }
    c->stream = stream_new(pair[0]);
    pool.count++;
    return c;
}

static struct courier *may_wait
acquire(struct courier_ids ids, usec_t deadline, struct err *err)
{
    if (!pool.can_change)
        ids = (struct courier_ids){geteuid(), getegid()};
    for (;;) {
        struct courier *c = find_idle(ids);

        if (c)
            return c;
        if (pool.count >= pool.limit && !list_is_empty(&pool.idle))
            courier_free(LIST_ENTRY(pool.idle.prev, struct courier, link));
        if (pool.count < pool.limit)
            return fork_courier(ids, err);
        if (task_wait(&pool.changed, deadline, err) < 0)
            return NULL;
    }
}

/* ---- a job ---- */

static void may_wait
send_chunk(struct stream *stream, struct slice bytes)
{
    while (bytes.len > 0) {
        uint32_t len = bytes.len < COURIER_CHUNK ? (uint32_t)bytes.len : COURIER_CHUNK;

        stream_write(stream, &len, sizeof len);
        stream_write(stream, bytes.ptr, len);
        bytes = slice_make(bytes.ptr + len, bytes.len - len);
    }
}

static void may_wait
send_end(struct stream *stream, uint32_t how)
{
    stream_write(stream, &how, sizeof how);
}

/* The content without its final dot line: the last bytes of a piece wait for the next one. */
static int may_wait
send_pieces(struct stream *stream, struct source *source, struct err *err)
{
    char held[END_LENGTH];
    size_t holding = 0;
    struct slice piece;
    int more;

    source_rewind(source);
    while ((more = source_next_wire(source, &piece, err)) > 0) {
        if (holding + piece.len <= END_LENGTH) {
            memcpy(held + holding, piece.ptr, piece.len);
            holding += piece.len;
            continue;
        }
        send_chunk(stream, slice_make(held, piece.len >= END_LENGTH ? holding : holding + piece.len - END_LENGTH));
        if (piece.len >= END_LENGTH) {
            send_chunk(stream, slice_make(piece.ptr, piece.len - END_LENGTH));
            memcpy(held, piece.ptr + piece.len - END_LENGTH, END_LENGTH);
        } else {
            size_t keep = END_LENGTH - piece.len;
            memmove(held, held + holding - keep, keep);
            memcpy(held + keep, piece.ptr, piece.len);
        }
        holding = END_LENGTH;
    }
    return more;
}

/* A source that is not whole in memory has one place where it is read, so that deliveries of one message take turns. Those of
 * others don't wait for them: what takes the content may be a user's command, as slow as he likes. */
struct reader {
    struct list link; /* in readers */
    const struct source *source;
};
static struct list readers = {&readers, &readers};
static struct task_cond reading_ended;

static bool
is_being_read(const struct source *source)
{
    LIST_EACH(link, &readers)
    if (LIST_ENTRY(link, struct reader, link)->source == source)
        return true;
    return false;
}

int
courier_send_content(struct stream *stream, struct source *source, usec_t deadline, struct err *err)
{
    struct slice whole = source_whole_wire(source, WHOLE_LIMIT);
    struct reader own = {.source = source};
    int result;

    if (whole.len >= END_LENGTH) {
        send_chunk(stream, slice_make(whole.ptr, whole.len - END_LENGTH));
        send_end(stream, 0);
        return 0;
    }
    while (is_being_read(source))
        if (task_wait(&reading_ended, deadline, err) < 0)
            return -1;
    list_append(&readers, &own.link);
    result = send_pieces(stream, source, err);
    list_remove(&own.link);
    task_wake_all(&reading_ended);
    send_end(stream, result < 0 ? COURIER_BROKEN : 0);
    return result;
}

static int may_wait
send_job(struct stream *stream, const struct msg_user_job *job, struct source *content, usec_t deadline,
         struct err *err)
{
    struct buf message = {0};
    struct courier_head head = {.content = content != NULL};

    msg_encode(&type_user_job, job, &message);
    head.length = (uint32_t)message.len;
    stream_write(stream, &head, sizeof head);
    stream_write(stream, message.ptr, message.len);
    buf_release(&message);
    if (content && courier_send_content(stream, content, deadline, err) < 0)
        return -1;
    return stream_flush(stream, err);
}

int
courier_receive(struct arena *arena, struct stream *stream, const struct msg_user_done **done, struct err *err)
{
    struct courier_head head;
    struct slice rest;
    char *bytes;

    if (stream_read(stream, &head, sizeof head, err) < 0)
        return -1;
    if (head.length > COURIER_MESSAGE_LIMIT)
        return err_set(err, ERR_SYNTAX, "an answer of %u bytes", head.length);
    *done = NULL;
    if (head.length == 0)
        return 0;
    bytes = arena_alloc(arena, head.length);
    if (stream_read(stream, bytes, head.length, err) < 0)
        return -1;
    *done = msg_decode(arena, &type_user_done, slice_make(bytes, head.length), &rest, err);
    return *done ? 0 : -1;
}

int
courier_call(struct arena *arena, struct courier_ids ids, const struct msg_user_job *job, struct source *content,
             usec_t deadline, const struct msg_user_done **done, struct err *err)
{
    struct courier *c;

    if (pool.can_change && courier_group_takes(ids, job, content)) {
        int result = courier_group_call(arena, ids, job, content, deadline, done, err);

        if (result != 0)
            return result > 0 ? 0 : err_context(err, "delivery process");
    }
    c = acquire(ids, deadline, err);
    if (!c)
        return err_context(err, "can't start a delivery process");
    stream_set_deadline(c->stream, deadline);
    if (send_job(c->stream, job, content, deadline, err) < 0 || courier_receive(arena, c->stream, done, err) < 0) {
        courier_free(c);
        return err_context(err, "delivery process");
    }
    if (!*done) {
        courier_free(c);
        return err_set(err, ERR_SYNTAX, "delivery process: an empty answer");
    }
    put_back(c);
    return 0;
}
