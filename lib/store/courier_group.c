/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/courier_group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/task.h"

enum { GROUPS = 3 }; /* at once */

/* So long a gathering waits for a place. A member whose mailbox does not answer (a server that is gone) may hold one for hours;
 * then each of the others gets a process of its own, as where there are no groups. */
#define PATIENCE SECONDS(10)

/* A delivery that waits for its group. The first member's task does the work for all. */
struct member {
    struct list link;
    struct arena *arena;
    struct courier_ids ids;
    const struct msg_user_job *job;
    const struct msg_user_done *done;
    int result; /* as courier_group_call() gives it */
    struct err err;
    bool settled;
    struct task_cond changed;
};

/* Lives on the first member's stack. */
struct gathering {
    struct list link; /* in groups.open */
    struct source *source;
    struct list members;
    unsigned count;
    bool closed;
    struct member *first;
};

static struct {
    struct list open; /* gatherings that take more */
    struct loop_hook hook;
    unsigned running;
    struct task_cond ended;
    bool prepared, impossible;
} groups;

/* ---- gathering ---- */

static void
close_gathering(struct gathering *g)
{
    list_remove(&g->link);
    g->closed = true;
    task_wake_all(&g->first->changed);
}

static void
on_turn_end(void *arg)
{
    (void)arg;
    while (!list_is_empty(&groups.open))
        close_gathering(LIST_ENTRY(groups.open.next, struct gathering, link));
}

static void
prepare(void)
{
    if (groups.prepared)
        return;
    list_init(&groups.open);
    groups.hook.fn = on_turn_end;
    groups.prepared = true;
}

static struct gathering *
find_open(const struct source *source)
{
    LIST_EACH(link, &groups.open)
    {
        struct gathering *g = LIST_ENTRY(link, struct gathering, link);

        if (g->source == source)
            return g;
    }
    return NULL;
}

static void
join(struct gathering *g, struct member *m)
{
    list_append(&g->members, &m->link);
    if (++g->count == COURIER_GROUP_LIMIT)
        close_gathering(g);
}

/* It leaves the list: it lies on its task's stack, which goes when that wakes. */
static void
settle_one(struct member *m, int result)
{
    m->result = result;
    m->settled = true;
    list_remove(&m->link);
    task_wake_all(&m->changed);
}

static void
settle(struct gathering *g, int result, const struct err *err)
{
    LIST_EACH(link, &g->members)
    {
        struct member *m = LIST_ENTRY(link, struct member, link);

        if (err)
            m->err = *err;
        settle_one(m, result);
    }
}

/* ---- the process ---- */

static int
ask_for_process(const struct gathering *g, int fd, struct err *err)
{
    struct helper_request *request = calloc(1, sizeof *request);
    struct helper_answer answer;
    int result;

    if (!request)
        fatal("out of memory");
    request->what = HELPER_GROUP;
    request->uid = geteuid();
    request->gid = getegid();
    LIST_EACH(link, &g->members)
    request->ids[request->count++] = LIST_ENTRY(link, struct member, link)->ids;
    result = courier_ask_helper(request, fd, &answer, err);
    free(request);
    errno = result == 0 ? answer.error : 0;
    if (errno == EPERM || errno == ENOSYS || errno == EINVAL || errno == ENOSPC || errno == EUSERS)
        groups.impossible = true; /* no namespaces here, or none are allowed */
    return result == 0 && answer.error ? err_errno(err, "a namespace of users") : result;
}

static struct stream *
start_process(const struct gathering *g, struct err *err)
{
    int pair[2], result;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        err_set(err, ERR_TEMP, "socketpair: %s", strerror(errno));
        return NULL;
    }
    result = ask_for_process(g, pair[1], err);
    close(pair[1]);
    if (result == 0 && net_set_nonblocking(pair[0], true) < 0)
        result = err_errno(err, "socket");
    if (result == 0)
        return stream_new(pair[0]);
    close(pair[0]);
    return NULL;
}

static void may_wait
send_jobs(const struct gathering *g, struct stream *stream)
{
    const struct group_head head = {.count = g->count, .uid = geteuid(), .gid = getegid()};
    struct buf message = {0};

    stream_write(stream, &head, sizeof head);
    LIST_EACH(link, &g->members)
    {
        const struct member *m = LIST_ENTRY(link, struct member, link);
        struct group_member member = {.ids = m->ids};

        buf_clear(&message);
        msg_encode(&type_user_job, m->job, &message);
        member.length = (uint32_t)message.len;
        stream_write(stream, &member, sizeof member);
        stream_write(stream, message.ptr, message.len);
    }
    buf_release(&message);
}

/* *untouched: the process ended before it had the whole content, or looked at a mailbox. */
static int may_wait
talk(struct gathering *g, struct stream *stream, usec_t deadline, bool *untouched, struct err *err)
{
    char begun;

    *untouched = true;
    send_jobs(g, stream);
    if (courier_send_content(stream, g->source, deadline, err) < 0 || stream_flush(stream, err) < 0)
        return -1;
    if (stream_read(stream, &begun, 1, err) < 0) {
        *untouched = err->kind == ERR_CLOSED;
        return -1;
    }
    *untouched = false;
    LIST_EACH(link, &g->members)
    {
        struct member *m = LIST_ENTRY(link, struct member, link);

        if (courier_receive(m->arena, stream, &m->done, err) < 0)
            return -1;
        settle_one(m, m->done ? 1 : 0);
    }
    return 0;
}

/* By the first member's task. */
static void may_wait
lead(struct gathering *g, usec_t deadline)
{
    usec_t patience = loop_now() + PATIENCE;
    struct stream *stream;
    bool untouched;
    struct err err;

    while (groups.running >= GROUPS)
        if (task_wait(&groups.ended, deadline < patience ? deadline : patience, &err) < 0) {
            settle(g, 0, NULL);
            return;
        }
    stream = start_process(g, &err);
    if (!stream) {
        log_warning("many users in one process: %s; each gets one of its own", err.text);
        settle(g, 0, NULL);
        return;
    }
    groups.running++;
    stream_set_deadline(stream, deadline);
    if (talk(g, stream, deadline, &untouched, &err) < 0) {
        if (untouched)
            log_warning("many users in one process: %s; each gets one of its own", err.text);
        settle(g, untouched ? 0 : -1, &err);
    }
    stream_free(&stream);
    groups.running--;
    task_wake_one(&groups.ended);
}

bool
courier_group_takes(struct courier_ids ids, const struct msg_user_job *job, const struct source *content)
{
    return content && job->work == USER_STORE && !(job->flags & USER_JOB_DEVICES) && !groups.impossible &&
           ids.uid != 0 && ids.gid != 0 && geteuid() != 0 && getegid() != 0 && job->size <= COURIER_GROUP_CONTENT;
}

int
courier_group_call(struct arena *arena, struct courier_ids ids, const struct msg_user_job *job, struct source *content,
                   usec_t deadline, const struct msg_user_done **done, struct err *err)
{
    struct member m = {.arena = arena, .ids = ids, .job = job};
    struct gathering *g;

    prepare();
    g = find_open(content);
    if (g) {
        join(g, &m);
    } else {
        struct gathering own = {.source = content, .first = &m};

        list_init(&own.members);
        list_append(&groups.open, &own.link);
        join(&own, &m);
        loop_want_turn_end(&groups.hook);
        while (!own.closed)
            task_wait_always(&m.changed);
        if (own.count < COURIER_GROUP_LEAST)
            settle(&own, 0, NULL);
        else
            lead(&own, deadline);
    }
    while (!m.settled)
        task_wait_always(&m.changed);
    *done = m.done;
    if (m.result < 0)
        *err = m.err;
    return m.result;
}
