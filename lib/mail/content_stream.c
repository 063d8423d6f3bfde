/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/content_stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CHUNK = 1 << 20,
    SMALL = 4 << 10, /* goes out with what follows */
};

int
content_stream_pair(int fds[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return err_errno(err, "socketpair");
    return 0;
}

int may_wait
content_stream_send(struct stream *stream, struct slice bytes, struct err *err)
{
    while (bytes.len > 0) {
        uint32_t n = bytes.len < CHUNK ? (uint32_t)bytes.len : CHUNK;

        stream_write(stream, &n, sizeof(n));
        if (n < SMALL)
            stream_write(stream, bytes.ptr, n);
        else if (stream_write_through(stream, bytes.ptr, n, err) < 0)
            return -1;
        bytes = slice_make(bytes.ptr + n, bytes.len - n);
    }
    return 0;
}

int may_wait
content_stream_finish(struct stream *stream, struct err *err)
{
    static const uint32_t end = 0;

    stream_write(stream, &end, sizeof(end));
    return stream_flush(stream, err);
}

int may_wait
content_stream_receive(struct stream *stream, uint32_t *left, struct slice *bytes, struct err *err)
{
    *bytes = slice_make(NULL, 0);
    if (*left == 0) {
        if (stream_read(stream, left, sizeof(*left), err) < 0)
            return -1;
        if (*left == 0)
            return 0;
    }
    if (stream_peek(stream, bytes, err) < 0)
        return -1;
    if (bytes->len > *left)
        bytes->len = *left;
    stream_take(stream, bytes->len);
    *left -= (uint32_t)bytes->len;
    return 0;
}
