/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/user_process_internal.h"

#define PAUSE (20 * 1000)

union control {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int) * USER_PACKET_FDS)];
};

int
user_packet_send(int channel, struct slice packet, const int *fds, unsigned fd_count, struct err *err)
{
    union control control = {0};
    struct iovec iov = {(void *)(uintptr_t)packet.ptr, packet.len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    usec_t deadline = loop_now() + USER_SEND_TIME;

    if (packet.len > USER_PACKET_LIMIT)
        return err_set(err, ERR_PERM, "a session's state is too large");
    if (fd_count > 0) {
        struct cmsghdr *c = &control.head;
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    while (sendmsg(channel, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        if (errno != EAGAIN)
            return err_errno(err, "user process");
        if (loop_now() >= deadline)
            return err_set(err, ERR_TEMP, "the user's process does not answer");
        if (task_sleep(PAUSE, err) < 0)
            return -1;
    }
    return 0;
}

static void
take_fds(struct msghdr *msg, struct user_packet *packet)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + sizeof(int) * i, sizeof(fd));
            if (packet->fd_count < USER_PACKET_FDS) {
                packet->fds[packet->fd_count++] = fd;
            } else { /* there is room for one more than asked, by alignment */
                close(fd);
                msg->msg_flags |= MSG_CTRUNC;
            }
        }
    }
}

int
user_packet_read(int channel, char *room, struct user_packet *packet)
{
    union control control;
    struct iovec iov = {room, USER_PACKET_LIMIT};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC); /* the spawner's end waits, all others are non-blocking */

    *packet = (struct user_packet){0};
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    take_fds(&msg, packet);
    if (n == 0 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        user_packet_close_fds(packet);
        return -1;
    }
    packet->kind = room[0];
    packet->bytes = slice_make(room + 1, (size_t)n - 1);
    return 1;
}

void
user_packet_close_fds(struct user_packet *packet)
{
    for (unsigned i = 0; i < packet->fd_count; i++)
        close(packet->fds[i]);
    packet->fd_count = 0;
}
