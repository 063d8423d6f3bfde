/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/link_internal.h"

enum {
    SCRATCH_SIZE = 128 << 10,
    READS_IN_A_ROW = 16, /* then others get a turn */
    REQUEST_SIZE = 2048, /* what a request takes beside its bytes */
};

static const usec_t RECHECK_TIME = SECONDS(1);

void
link_close_fds(struct link_message *message)
{
    for (unsigned i = 0; i < message->fd_count; i++)
        close(message->fds[i]);
    message->fd_count = 0;
}

/* --- requests --- */

struct arena *
link_request_arena(struct link_request *request)
{
    return request->arena;
}

struct link *
link_request_link(struct link_request *request)
{
    return request->owner;
}

bool
link_request_is_oneway(const struct link_request *request)
{
    return request->oneway;
}

static void
free_request(struct link_request *request)
{
    struct arena *arena = request->arena;
    struct link *owner = request->owner;

    list_remove(&request->link);
    owner->held -= request->size;
    if (owner->paused && owner->fd >= 0 && owner->held < LINK_IN_LIMIT / 2) {
        owner->paused = false;
        event_active(owner->readable, EV_READ, 0);
    }
    arena_free(&arena);
    link_report_closed(owner);
    link_release(owner);
}

void
link_reply(struct link_request *request, const struct msg_type *type, const void *message, struct slice payload,
           const int *fds, unsigned fd_count)
{
    struct link *link = request->owner;
    struct link_head head = {
        .type = type->code, .flags = LINK_FLAG_ANSWER, .fd_count = (uint8_t)fd_count, .request = request->number};

    struct err err;

    check(!request->answered && !request->oneway && fd_count <= LINK_MAX_FDS);
    request->answered = true;
    if (link->fd >= 0 && link_queue(link, &head, type, message, payload, fds, &err) < 0) {
        log_warning("%s", err.text);
        link_end(link, "an answer was too large");
    }
    if (!request->in_handler)
        free_request(request);
}

/* A request outlives its connection, but a new connection's numbers are not its own: server links have only one
 * connection, and a client's requests are answered into the void once cancelled. */
void
link_cancel_requests(struct link *link)
{
    LIST_EACH(at, &link->requests)
    {
        struct link_request *request = LIST_ENTRY(at, struct link_request, link);

        if (request->task)
            task_cancel(request->task);
    }
}

static void
run_request(void *arg)
{
    struct link_request *request = arg;

    request->handler->fn(request, request->in, request->owner->ctx);
    request->task = NULL;
    if (!request->oneway && !request->answered && request->owner->fd >= 0) {
        log_warning("link with %s: %s was not answered", link_name(request->owner), request->in->type->name);
        link_end(request->owner, "a request was not answered");
    }
    free_request(request);
}

static int
decode_into(struct arena *arena, struct link_message *to, const struct msg_type *type, const struct link_head *head,
            struct slice bytes, const int *fds, struct err *err)
{
    struct slice rest;

    to->type = type;
    to->message = msg_decode(arena, type, slice_make(bytes.ptr, head->message_len), &rest, err);
    if (!to->message)
        return -1;
    if (rest.len > 0)
        return err_set(err, ERR_SYNTAX, "%s: bytes after its end", type->name);
    to->payload = slice_make(bytes.ptr + head->message_len, bytes.len - head->message_len);
    to->fd_count = head->fd_count;
    if (to->fd_count)
        memcpy(to->fds, fds, sizeof(int) * to->fd_count);
    return 0;
}

static const struct link_handler *
find_handler(const struct link *link, const struct msg_type *type)
{
    for (unsigned i = 0; i < link->handler_count; i++)
        if (link->handlers[i].type == type)
            return &link->handlers[i];
    return NULL;
}

/* In the loop, without an answer: nothing is copied. */
static int
serve_passing(struct link *link, const struct link_handler *handler, const struct link_head *head, struct slice bytes,
              const int *fds, struct err *err)
{
    struct link_request request = {.owner = link, .arena = link_state.passing, .oneway = true, .handler = handler};
    struct link_message in;

    if (decode_into(link_state.passing, &in, handler->type, head, bytes, fds, err) < 0)
        return -1;
    handler->fn(&request, &in, link->ctx);
    return 0;
}

static int
serve_kept(struct link *link, const struct link_handler *handler, const struct link_head *head, struct slice bytes,
           const int *fds, struct err *err)
{
    struct arena *arena = arena_new();
    struct link_request *request = ARENA_NEW(arena, struct link_request);
    struct link_message *in = ARENA_NEW(arena, struct link_message);

    *request = (struct link_request){.owner = link,
                                     .arena = arena,
                                     .number = head->request,
                                     .size = REQUEST_SIZE + bytes.len,
                                     .oneway = !(head->flags & LINK_FLAG_REQUEST),
                                     .in_handler = true,
                                     .handler = handler,
                                     .in = in};
    if (decode_into(arena, in, handler->type, head, arena_slice(arena, bytes), fds, err) < 0) {
        arena_free(&arena);
        return -1;
    }
    link_hold(link);
    link->held += request->size;
    if (handler->task) {
        list_append(&link->requests, &request->link);
        request->task = task_spawn(&link_state.tasks, handler->type->name, run_request, request);
    } else {
        handler->fn(request, in, link->ctx);
        request->in_handler = false;
        if (request->answered)
            free_request(request);
    }
    return 0;
}

static int
serve(struct link *link, const struct link_head *head, const struct msg_type *type, struct slice bytes, const int *fds,
      struct err *err)
{
    const struct link_handler *handler = find_handler(link, type);

    if (!handler)
        return err_set(err, ERR_SYNTAX, "%s is not served here", type->name);
    if (handler->task || (head->flags & LINK_FLAG_REQUEST))
        return serve_kept(link, handler, head, bytes, fds, err);
    return serve_passing(link, handler, head, bytes, fds, err);
}

/* --- frames --- */

/* bytes: what follows the head. fds are the frame's; on failure they are still the link's to close. */
static int
take_frame(struct link *link, const struct link_head *head, struct slice bytes, const int *fds, struct err *err)
{
    const struct msg_type *type;

    if (!link->hello_seen) {
        if (head->type != LINK_CODE_HELLO || head->fd_count || head->message_len != head->len)
            return err_set(err, ERR_SYNTAX, "no hello");
        return link_take_hello(link, bytes, err);
    }
    if (head->type == LINK_CODE_RETIRE && !link->server) {
        link_take_retire(link);
        return 0;
    }
    type = head->type < link_state.code_count ? link_state.by_code[head->type] : NULL;
    if (!type)
        return err_set(err, ERR_SYNTAX, "unknown message type %u", head->type);
    if (!(type->senders & link->peer_bit))
        return err_set(err, ERR_PERM, "%s is not for %s to send", type->name, link->peer_program);
    if (head->flags == LINK_FLAG_ANSWER)
        return link_take_answer(link, head, type, bytes, fds, err);
    if (head->flags & ~LINK_FLAG_REQUEST)
        return err_set(err, ERR_SYNTAX, "unknown flags");
    return serve(link, head, type, bytes, fds, err);
}

static int
check_head(const struct link *link, const struct link_head *head, struct err *err)
{
    if (head->len > LINK_FRAME_LIMIT || (!link->hello_seen && head->len > LINK_HELLO_LIMIT))
        return err_set(err, ERR_SYNTAX, "frame of %u bytes", head->len);
    if (head->message_len > head->len || head->fd_count > LINK_MAX_FDS)
        return err_set(err, ERR_SYNTAX, "malformed frame");
    return 0;
}

/* A whole frame. Its descriptors are taken off the queue first, so that the end of the link does not close what a
 * handler owns by now. */
static int
deliver(struct link *link, const struct link_head *head, struct slice bytes, struct err *err)
{
    int fds[LINK_MAX_FDS];

    if (head->fd_count > link->in_fd_count)
        return err_set(err, ERR_SYNTAX, "a descriptor is missing");
    memcpy(fds, link->in_fds, sizeof(int) * head->fd_count);
    link->in_fd_count -= head->fd_count;
    memmove(link->in_fds, link->in_fds + head->fd_count, sizeof(int) * link->in_fd_count);
    if (take_frame(link, head, bytes, fds, err) < 0) {
        for (unsigned i = 0; i < head->fd_count; i++)
            close(fds[i]);
        return -1;
    }
    return 0;
}

/* Moves bytes to link->in until it holds `want` of them. */
static bool
fill(struct link *link, struct slice *bytes, size_t want)
{
    size_t n = link->in.len < want ? want - link->in.len : 0;

    if (n > bytes->len)
        n = bytes->len;
    buf_append(&link->in, bytes->ptr, n);
    *bytes = slice_make(bytes->ptr + n, bytes->len - n);
    return link->in.len >= want;
}

/* Cuts the next frame off: from bytes alone if it lies there whole, else by way of link->in. 0: none is complete. */
static int
next_frame(struct link *link, struct slice *bytes, struct link_head *head, struct slice *frame, struct err *err)
{
    if (link->in.len == 0 && bytes->len >= sizeof(*head)) {
        memcpy(head, bytes->ptr, sizeof(*head));
        if (check_head(link, head, err) < 0)
            return -1;
        if (bytes->len - sizeof(*head) >= head->len) {
            *frame = slice_make(bytes->ptr + sizeof(*head), head->len);
            *bytes = slice_make(frame->ptr + frame->len, bytes->len - sizeof(*head) - head->len);
            return 1;
        }
    }
    if (!fill(link, bytes, sizeof(*head)))
        return 0;
    memcpy(head, link->in.ptr, sizeof(*head));
    if (check_head(link, head, err) < 0)
        return -1;
    if (!fill(link, bytes, sizeof(*head) + head->len))
        return 0;
    *frame = slice_make(link->in.ptr + sizeof(*head), head->len);
    return 1;
}

static int
feed(struct link *link, struct slice bytes, struct err *err)
{
    unsigned generation = link->generation;
    struct link_head head;
    struct slice frame;
    int got;

    if (link->trigger && !link->hello_seen && link->in.len == 0 && bytes.ptr[0] >= 'A' && bytes.ptr[0] <= 'Z') {
        link->trigger(link->ctx, bytes.ptr, bytes.len);
        link_end(link, "trigger");
        return 0;
    }
    while ((got = next_frame(link, &bytes, &head, &frame, err)) > 0) {
        struct buf hold = {0};
        int result;

        if (link->in.len) { /* frame lies in it, and the handler may end the link */
            hold = link->in;
            link->in = (struct buf){0};
        }
        result = deliver(link, &head, frame, err);
        buf_release(&hold);
        arena_reset(link_state.passing);
        if (link->fd < 0 || link->generation != generation)
            return 0;
        if (result < 0)
            return -1;
    }
    if (got == 0 && link->in_fd_count > 0) {
        /* Only a frame that is still incomplete may own them. */
        bool has_head = link->in.len >= sizeof(head);

        if (link->in.len == 0 || (has_head && head.fd_count != link->in_fd_count))
            return err_set(err, ERR_SYNTAX, "a descriptor that no frame announced");
    }
    return got;
}

/* --- reading --- */

static void
take_fds(struct link *link, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (link->in_fd_count < ARRAY_LEN(link->in_fds))
                link->in_fds[link->in_fd_count++] = fd;
            else
                close(fd); /* then a frame misses it, or its number is wrong: the link ends */
        }
    }
}

/* One read into the scratch buffer. -1: nothing there (err kind ERR_NONE), or the end. */
static ssize_t
read_some(struct link *link, bool *got_fds, struct err *err)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * LINK_MAX_FDS)];
    } control;
    struct iovec iov = {link_state.scratch, SCRATCH_SIZE};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n;

    do
        n = recvmsg(link->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        err->kind = ERR_NONE;
        return -1;
    }
    if (n < 0)
        return err_errno(err, "read");
    *got_fds = msg.msg_controllen > 0;
    take_fds(link, &msg);
    if (msg.msg_flags & MSG_CTRUNC)
        return err_set(err, ERR_SYNTAX, "descriptors were cut off");
    if (n == 0)
        return err_set(err, ERR_CLOSED, "connection closed");
    return n;
}

static void
on_recheck(void *arg)
{
    link_read(arg);
}

/* Reads until the kernel has no more: a short read says so, unless descriptors made it short. Returns -1 when the
 * connection is to end.
 * If the peer ended together with its last bytes, there was one edge for both, and libevent does not tell that it meant
 * an error too. So a link that goes quiet after a short read is read once more. */
static int
read_all(struct link *link, struct err *err)
{
    unsigned generation = link->generation;

    for (unsigned i = 0; i < READS_IN_A_ROW; i++) {
        bool got_fds = false;

        if (link->held >= LINK_IN_LIMIT) {
            link->paused = true;
            return 0;
        }
        ssize_t n = read_some(link, &got_fds, err);

        if (n < 0)
            return err->kind == ERR_NONE ? 0 : -1;
        if (feed(link, slice_make(link_state.scratch, (size_t)n), err) < 0)
            return -1;
        if (link->fd < 0 || link->generation != generation)
            return 0;
        if (n < SCRATCH_SIZE && !got_fds) {
            loop_timer_set(&link->recheck_timer, loop_now() + RECHECK_TIME, on_recheck, link);
            return 0;
        }
    }
    event_active(link->readable, EV_READ, 0);
    return 0;
}

void
link_read(struct link *link)
{
    struct err err;

    if (link->fd < 0)
        return;
    if (!link_state.scratch) {
        link_state.scratch = malloc(SCRATCH_SIZE);
        if (!link_state.scratch)
            fatal("out of memory");
    }
    link_hold(link);
    if (read_all(link, &err) < 0) {
        if (err.kind != ERR_CLOSED)
            log_warning("link with %s: %s", link_name(link), err.text);
        link_end(link, err.text);
    }
    link_release(link);
}

void
link_drop_input(struct link *link)
{
    buf_release(&link->in);
    for (unsigned i = 0; i < link->in_fd_count; i++)
        close(link->in_fds[i]);
    link->in_fd_count = 0;
}
