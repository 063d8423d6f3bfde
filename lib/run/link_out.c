/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/link_internal.h"

enum { KEEP_CAPACITY = 1 << 20 }; /* an empty output buffer larger than this goes back at once: see link_trim() */

static void
close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

/* The caller may close its own right after the call. A descriptor that can't be duplicated is missing at the other
 * side, which ends the link: so end it here, where the reason is known. */
static int
attach_fds(struct link *link, const int *fds, unsigned count)
{
    struct link_out_fds *mark = calloc(1, sizeof(*mark));

    if (!mark)
        fatal("out of memory");
    mark->position = link->out_position + link->out.len;
    for (; mark->count < count; mark->count++) {
        mark->fds[mark->count] = fcntl(fds[mark->count], F_DUPFD_CLOEXEC, 3);
        if (mark->fds[mark->count] < 0) {
            log_warning("link with %s: passing a descriptor: %s", link_name(link), strerror(errno));
            close_all(mark->fds, mark->count);
            free(mark);
            return -1;
        }
    }
    *link->out_fds_end = mark;
    link->out_fds_end = &mark->next;
    return 0;
}

/* Those that were attached last. */
static void
detach_fds(struct link *link)
{
    struct link_out_fds **at = &link->out_fds, *last;

    while ((*at)->next)
        at = &(*at)->next;
    last = *at;
    *at = NULL;
    link->out_fds_end = at;
    close_all(last->fds, last->count);
    free(last);
}

void
link_want_flush(struct link *link)
{
    if (link->flush.wanted)
        return;
    link_hold(link);
    loop_want_turn_end(&link->flush);
}

/* Encodes the frame behind what is unsent; one that is too large is taken back. */
static int
append_frame(struct link *link, struct link_head *head, const struct msg_type *type, const void *message,
             struct slice payload, struct err *err)
{
    size_t at = link->out.len, len;

    buf_reserve(&link->out, sizeof(*head));
    buf_added(&link->out, sizeof(*head));
    msg_encode(type, message, &link->out);
    len = link->out.len - at - sizeof(*head);
    head->message_len = (uint32_t)len;
    len += payload.len;
    if (len > LINK_FRAME_LIMIT) {
        link->out.len = at;
        return err_set(err, ERR_PERM, "link with %s: %s of %zu bytes is too large", link_name(link), type->name, len);
    }
    buf_append_slice(&link->out, payload);
    head->len = (uint32_t)len;
    check(head->type != LINK_CODE_HELLO || head->len <= LINK_HELLO_LIMIT);
    memcpy(link->out.ptr + at, head, sizeof(*head));
    return 0;
}

int
link_queue(struct link *link, const struct link_head *template, const struct msg_type *type, const void *message,
           struct slice payload, const int *fds, struct err *err)
{
    struct link_head head = *template;

    check(head.fd_count <= LINK_MAX_FDS);
    if (head.fd_count && attach_fds(link, fds, head.fd_count) < 0) {
        err_set(err, ERR_TEMP, "link with %s: out of descriptors", link_name(link));
        link_end(link, "out of descriptors");
        return -1;
    }
    if (append_frame(link, &head, type, message, payload, err) < 0) {
        if (head.fd_count)
            detach_fds(link);
        return -1;
    }
    if (link->out.len > LINK_UNREAD_LIMIT) {
        log_warning("link with %s: the other side does not read", link_name(link));
        err_set(err, ERR_TEMP, "link with %s: the other side does not read", link_name(link));
        link_end(link, "the other side does not read");
        return -1;
    }
    link_want_flush(link);
    return 0;
}

/* One sendmsg of n bytes, with descriptors for the first of them if mark is given. */
static ssize_t
send_some(struct link *link, size_t n, const struct link_out_fds *mark)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * LINK_MAX_FDS)];
    } control;
    struct iovec iov = {link->out.ptr, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t sent;

    if (mark) {
        memset(&control, 0, sizeof(control));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int) * mark->count);
        memcpy(CMSG_DATA(&control.head), mark->fds, sizeof(int) * mark->count);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * mark->count);
    }
    do
        sent = sendmsg(link->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent;
}

static void
drop_mark(struct link *link)
{
    struct link_out_fds *mark = link->out_fds;

    link->out_fds = mark->next;
    if (!link->out_fds)
        link->out_fds_end = &link->out_fds;
    close_all(mark->fds, mark->count);
    free(mark);
}

/* Writes up to the next frame with descriptors, or such a frame and what follows it. False: the kernel takes no more. */
static bool
flush_run(struct link *link)
{
    struct link_out_fds *mark = link->out_fds, *next = mark;
    size_t n = link->out.len;
    ssize_t sent;

    if (mark && mark->position == link->out_position)
        next = mark->next;
    else
        mark = NULL;
    if (next)
        n = (size_t)(next->position - link->out_position);
    sent = send_some(link, n, mark);
    if (sent < 0)
        return false;
    buf_consume(&link->out, (size_t)sent);
    link->out_position += (uint64_t)sent;
    if (mark)
        drop_mark(link);
    return true;
}

void
link_flush(struct link *link)
{
    bool was_full = link_is_full(link);

    while (link->fd >= 0 && link->out.len > 0 && !link->blocked) {
        if (flush_run(link))
            continue;
        if (errno != EAGAIN) {
            link_end(link, strerror(errno));
            return;
        }
        link->blocked = true;
        if (event_add(link->writable, NULL) < 0)
            fatal("event_add: %s", strerror(errno));
    }
    if (link->out.len == 0 && link->out.cap > KEEP_CAPACITY)
        buf_release(&link->out);
    if (was_full && !link_is_full(link))
        task_wake_all(&link->room);
}

void
link_drop_output(struct link *link)
{
    buf_release(&link->out);
    while (link->out_fds)
        drop_mark(link);
}

int
link_send(struct link *link, const struct msg_type *type, const void *message, struct slice payload, const int *fds,
          unsigned fd_count, struct err *err)
{
    struct link_head head = {.type = type->code, .fd_count = (uint8_t)fd_count};
    bool try_later;

    check(fd_count <= LINK_MAX_FDS);
    if (link_ensure_connected(link, &try_later, err) < 0)
        return -1;
    return link_queue(link, &head, type, message, payload, fds, err);
}
