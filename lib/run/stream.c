/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream_private.h"

enum {
    STREAM_MAGIC = 0x5354524d,
    ROUNDS_IN_A_TURN = 64,   /* then others get theirs, even if there is always more input */
    ROUNDS_OF_BULK = 8,      /* what a large block counts for */
    DROP_LIMIT = 256 * 1024, /* what is thrown away before TLS */
    POOLED = 8,              /* free input buffers that are kept */
};

/* --- input buffers --------------------------------------------------------------------------------------------- */

static struct {
    struct pooled {
        struct pooled *next;
    } * free;
    unsigned count;
    unsigned large; /* large buffers in use: these are not kept */
} pool;

static char *
pool_take(void)
{
    struct pooled *buffer = pool.free;
    if (buffer) {
        pool.free = buffer->next;
        pool.count--;
        return (char *)buffer;
    }
    char *made = malloc(STREAM_IN_SIZE);
    if (!made)
        fatal("out of memory");
    return made;
}

static void
pool_give(char *buffer)
{
    if (pool.count >= POOLED) {
        free(buffer);
        return;
    }
    struct pooled *pooled = (struct pooled *)(void *)buffer;
    pooled->next = pool.free;
    pool.free = pooled;
    pool.count++;
}

static void
take_in(struct stream *s)
{
    if (s->bulk && pool.large < STREAM_BULK_COUNT && (s->in = malloc(STREAM_BULK_SIZE)) != NULL) {
        s->in_size = STREAM_BULK_SIZE;
        pool.large++;
        return;
    }
    s->in = pool_take();
    s->in_size = STREAM_IN_SIZE;
}

static void
give_in(struct stream *s)
{
    if (s->in_size == STREAM_IN_SIZE) {
        pool_give(s->in);
    } else {
        free(s->in);
        pool.large--;
    }
    s->in = NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

struct stream *
stream_new(int fd)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        fatal("out of memory");
    s->magic = STREAM_MAGIC;
    s->deadline = NO_DEADLINE;
    s->may_have_input = true;
    task_fd_init(&s->tfd, fd);
    check(net_set_nonblocking(fd, true) == 0);
    return s;
}

void
stream_free(struct stream **stream)
{
    struct stream *s = *stream;
    if (!s)
        return;
    check(s->magic == STREAM_MAGIC);
    if (s->layer) {
        if (!s->error)
            s->layer->shutdown(s);
        if (!s->error && s->wire.len > 0 && write(s->tfd.fd, s->wire.ptr, s->wire.len) < 0)
            s->ended = true; /* the goodbye is a courtesy */
        s->layer->release(s);
    }
    task_fd_release(&s->tfd);
    close(s->tfd.fd);
    stream_drop_buffered(s);
    if (s->in)
        give_in(s);
    buf_release(&s->out);
    buf_release(&s->wire);
    free(s->error);
    s->magic = 0;
    free(s);
    *stream = NULL;
}

int
stream_fd(const struct stream *s)
{
    return s->tfd.fd;
}

void
stream_set_duplex(struct stream *s, bool on)
{
    s->duplex = on;
}

void
stream_set_bulk(struct stream *s, bool on)
{
    s->bulk = on;
}

void
stream_set_deadline(struct stream *s, usec_t deadline)
{
    s->deadline = deadline;
}

void
stream_forgive_timeout(struct stream *s)
{
    if (!s->error || (s->error->kind != ERR_TIMEOUT && s->error->kind != ERR_CANCELLED))
        return;
    free(s->error);
    s->error = NULL;
}

void
stream_cancel(struct stream *s)
{
    s->cancelled = true;
    task_fd_wake(&s->tfd);
}

int
stream_fail(struct stream *s, const struct err *why, struct err *err)
{
    if (!s->error) {
        s->error = malloc(sizeof(*s->error));
        if (!s->error)
            fatal("out of memory");
        *s->error = *why;
    }
    if (err)
        *err = *s->error;
    return -1;
}

static int
fail_closed(struct stream *s, struct err *err)
{
    struct err why;
    err_set(&why, ERR_CLOSED, "connection closed");
    return stream_fail(s, &why, err);
}

int
stream_usable(struct stream *s, struct err *err)
{
    check(s->magic == STREAM_MAGIC);
    if (s->error)
        return stream_fail(s, s->error, err);
    return s->cancelled ? fail_closed(s, err) : 0;
}

/* --- waiting --------------------------------------------------------------------------------------------------- */

static int
wait_over(struct stream *s, int status, const struct err *why, struct err *err)
{
    s->rounds = 0;
    if (s->cancelled)
        return fail_closed(s, err);
    return status < 0 ? stream_fail(s, why, err) : 0;
}

int
stream_wait_input(struct stream *s, struct err *err)
{
    struct err why;
    int status = task_fd_wait_read(&s->tfd, s->deadline, &why);
    s->may_have_input = true;
    return wait_over(s, status, &why, err);
}

static int
wait_output(struct stream *s, struct err *err)
{
    struct err why;
    int status = task_fd_wait_write(&s->tfd, s->deadline, &why);
    return wait_over(s, status, &why, err);
}

/* Called for each read and write: who never waits gives others a turn now and then, and minds the deadline there. */
static int
be_fair(struct stream *s, struct err *err)
{
    struct err why;
    s->rounds += s->bulk ? ROUNDS_OF_BULK : 1;
    if (s->rounds < ROUNDS_IN_A_TURN)
        return 0;
    int status = task_yield(&why);
    if (status == 0 && loop_now() >= s->deadline)
        status = err_set(&why, ERR_TIMEOUT, "timed out");
    return wait_over(s, status, &why, err);
}

/* --- the descriptor -------------------------------------------------------------------------------------------- */

ssize_t
stream_raw_read(struct stream *s, void *bytes, size_t size)
{
    ssize_t n;
    if (!s->may_have_input) {
        errno = EAGAIN;
        return -1;
    }
    s->tfd.readable = false;
    do
        n = read(s->tfd.fd, bytes, size);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        s->ended = true;
    s->may_have_input = n == (ssize_t)size || (n >= 0 && s->tfd.closing);
    s->tfd.unsure = n > 0 && n < (ssize_t)size;
    return n;
}

/* One write of clear text or wire form; waits while the descriptor takes nothing. */
static int
raw_write(struct stream *s, const struct iovec *iov, int count, size_t *sent, struct err *err)
{
    for (;;) {
        ssize_t n = count == 1 ? write(s->tfd.fd, iov->iov_base, iov->iov_len) : writev(s->tfd.fd, iov, count);
        if (n >= 0) {
            *sent = (size_t)n;
            return be_fair(s, err);
        }
        if (errno == EAGAIN) {
            if (wait_output(s, err) < 0)
                return -1;
        } else if (errno != EINTR) {
            struct err why;
            err_errno(&why, "write");
            return stream_fail(s, &why, err);
        }
    }
}

int
stream_send_all(struct stream *s, struct buf *buf, struct err *err)
{
    while (buf->len > 0) {
        size_t sent;
        struct iovec iov = {buf->ptr, buf->len};
        if (raw_write(s, &iov, 1, &sent, err) < 0)
            return -1;
        buf_consume(buf, sent);
    }
    return 0;
}

/* --- output ---------------------------------------------------------------------------------------------------- */

int
stream_flush(struct stream *s, struct err *err)
{
    struct err why;
    if (stream_usable(s, err) < 0)
        return -1;
    if (!s->layer)
        return stream_send_all(s, &s->out, err);
    if (s->out.len > 0) {
        if (s->layer->write(s, s->out.ptr, s->out.len, &why) < 0)
            return stream_fail(s, &why, err);
        buf_clear(&s->out);
    }
    return stream_send_all(s, &s->wire, err);
}

static void
flush_if_full(struct stream *s)
{
    if (s->out.len >= STREAM_OUT_LIMIT && stream_flush(s, NULL) < 0)
        buf_release(&s->out); /* the error shows at the next flush or read */
}

void
stream_write(struct stream *s, const void *bytes, size_t n)
{
    if (s->error)
        return;
    buf_append(&s->out, bytes, n);
    flush_if_full(s);
}

void
stream_write_text(struct stream *s, const char *text)
{
    stream_write(s, text, strlen(text));
}

void
stream_printf(struct stream *s, const char *fmt, ...)
{
    va_list args;
    if (s->error)
        return;
    va_start(args, fmt);
    buf_vprintf(&s->out, fmt, args);
    va_end(args);
    flush_if_full(s);
}

/* Encrypted in pieces, so that wire does not grow with n. */
static int
write_through_layer(struct stream *s, const char *bytes, size_t n, struct err *err)
{
    struct err why;
    if (stream_flush(s, err) < 0)
        return -1;
    while (n > 0) {
        size_t piece = n < STREAM_OUT_LIMIT ? n : STREAM_OUT_LIMIT;
        if (s->layer->write(s, bytes, piece, &why) < 0)
            return stream_fail(s, &why, err);
        if (stream_send_all(s, &s->wire, err) < 0)
            return -1;
        bytes += piece;
        n -= piece;
    }
    return 0;
}

int
stream_write_through(struct stream *s, const void *bytes, size_t n, struct err *err)
{
    const char *at = bytes;
    if (stream_usable(s, err) < 0)
        return -1;
    if (s->layer)
        return write_through_layer(s, at, n, err);
    while (s->out.len > 0 || n > 0) {
        size_t sent;
        struct iovec iov[2] = {{s->out.ptr, s->out.len}, {(void *)(uintptr_t)at, n}};
        if (raw_write(s, s->out.len > 0 ? iov : iov + 1, s->out.len > 0 ? 2 : 1, &sent, err) < 0)
            return -1;
        size_t buffered = sent < s->out.len ? sent : s->out.len;
        buf_consume(&s->out, buffered);
        at += sent - buffered;
        n -= sent - buffered;
    }
    return 0;
}

/* --- input ----------------------------------------------------------------------------------------------------- */

/* Reads once, without waiting. */
static enum stream_io
read_some(struct stream *s, void *bytes, size_t size, size_t *n, struct err *why)
{
    if (s->layer)
        return s->layer->read(s, bytes, size, n, why);
    ssize_t got = stream_raw_read(s, bytes, size);
    if (got > 0) {
        *n = (size_t)got;
        return STREAM_IO_DONE;
    }
    if (got == 0)
        return STREAM_IO_END;
    if (errno == EAGAIN)
        return STREAM_IO_WANT_INPUT;
    err_errno(why, "read");
    return STREAM_IO_FAILED;
}

/* Nothing is buffered, so nothing is held while we wait. */
static void
give_buffers_back(struct stream *s)
{
    if (s->in && s->in_len == 0)
        give_in(s);
    if (s->duplex) /* the rest is the writer's */
        return;
    if (s->out.base)
        buf_release(&s->out);
    if (s->wire.base)
        buf_release(&s->wire);
}

/* Waits for more input, after sending what has gathered. */
static int
await_input(struct stream *s, struct err *err)
{
    if (!s->duplex && (s->out.len > 0 || s->wire.len > 0) && stream_flush(s, err) < 0)
        return -1;
    give_buffers_back(s);
    return stream_wait_input(s, err);
}

/* The input has ended: the replies that gathered still go out, then the stream is closed for us. */
static int
input_ended(struct stream *s, struct err *err)
{
    if (!s->duplex && stream_flush(s, err) < 0)
        return -1;
    return fail_closed(s, err);
}

/* Reads at least one byte into bytes. */
static int
read_waiting(struct stream *s, void *bytes, size_t size, size_t *n, struct err *err)
{
    struct err why;
    switch (read_some(s, bytes, size, n, &why)) {
    case STREAM_IO_DONE: return be_fair(s, err);
    case STREAM_IO_END: return input_ended(s, err);
    case STREAM_IO_FAILED: return stream_fail(s, &why, err);
    case STREAM_IO_WANT_INPUT: break;
    }
    *n = 0;
    return 0;
}

/* Adds at least one byte to the buffer, which has room. */
static int
fill(struct stream *s, struct err *err)
{
    size_t n;
    if (stream_usable(s, err) < 0)
        return -1;
    for (;;) {
        if (s->in && s->in_len == 0 && (s->in_size != STREAM_IN_SIZE) != s->bulk)
            give_in(s);
        if (!s->in)
            take_in(s);
        if (s->in_len == 0)
            s->in_start = 0;
        if (s->in_start > 0 && s->in_start + s->in_len > s->in_size / 2) {
            memmove(s->in, s->in + s->in_start, s->in_len);
            s->in_start = 0;
        }
        size_t used = s->in_start + s->in_len;
        if (read_waiting(s, s->in + used, s->in_size - used, &n, err) < 0)
            return -1;
        s->in_len += n;
        if (n > 0)
            return 0;
        if (await_input(s, err) < 0)
            return -1;
    }
}

static char *
input(const struct stream *s)
{
    return s->in + s->in_start;
}

void
stream_take(struct stream *s, size_t n)
{
    check(n <= s->in_len);
    s->in_start += n;
    s->in_len -= n;
}

static void
take_line(struct stream *s, size_t len, size_t with_end, struct slice *line)
{
    *line = slice_make(input(s), len);
    stream_take(s, with_end);
}

/* A line in the first `window` bytes of the buffer, of which `looked` hold no LF? */
static bool
find_line(struct stream *s, size_t max, size_t looked, size_t window, struct slice *line, enum stream_line_end *ending)
{
    const char *lf = window > looked ? memchr(input(s) + looked, '\n', window - looked) : NULL;
    if (lf) {
        size_t at = (size_t)(lf - input(s));
        bool crlf = at > 0 && lf[-1] == '\r';
        size_t len = crlf ? at - 1 : at;
        if (len <= max) {
            *ending = crlf ? STREAM_LINE_CRLF : STREAM_LINE_LF;
            take_line(s, len, at + 1, line);
            return true;
        }
    }
    if (window < max + 2 && !lf)
        return false;
    *ending = STREAM_LINE_CUT;
    take_line(s, max, max, line);
    return true;
}

int
stream_read_line(struct stream *s, size_t max, struct slice *line, enum stream_line_end *ending, struct err *err)
{
    size_t looked = 0;
    check(max > 0 && max <= STREAM_IN_SIZE - 2);
    if (stream_usable(s, err) < 0)
        return -1;
    for (;;) {
        size_t window = s->in_len < max + 2 ? s->in_len : max + 2;
        if (find_line(s, max, looked, window, line, ending))
            return 0;
        looked = window;
        if (fill(s, err) < 0)
            return -1;
    }
}

/* A layer gives a record at a time: those that are there come too. Should the next read fail, its error shows at the next call. */
static void
fill_from_layer(struct stream *s)
{
    struct err why;
    size_t n;
    while (s->in_start + s->in_len + STREAM_IN_SIZE <= s->in_size) {
        enum stream_io got = s->layer->read(s, input(s) + s->in_len, STREAM_IN_SIZE, &n, &why);
        if (got == STREAM_IO_FAILED)
            (void)stream_fail(s, &why, NULL);
        if (got != STREAM_IO_DONE)
            return;
        s->in_len += n;
    }
}

int
stream_peek(struct stream *s, struct slice *bytes, struct err *err)
{
    if (stream_usable(s, err) < 0)
        return -1;
    if (s->in_len == 0) {
        if (fill(s, err) < 0)
            return -1;
        if (s->layer && s->bulk)
            fill_from_layer(s);
    }
    *bytes = slice_make(input(s), s->in_len);
    return 0;
}

int
stream_peek_more(struct stream *s, struct slice *bytes, struct err *err)
{
    if (s->in && s->in_len == s->in_size)
        return err_set(err, ERR_SYNTAX, "more than %zu bytes of input at once", s->in_size);
    if (fill(s, err) < 0)
        return -1;
    *bytes = slice_make(input(s), s->in_len);
    return 0;
}

/* Large rests are read straight to where they go. */
static int
read_direct(struct stream *s, char *bytes, size_t n, struct err *err)
{
    while (n > 0) {
        size_t got;
        if (read_waiting(s, bytes, n, &got, err) < 0)
            return -1;
        if (got == 0 && await_input(s, err) < 0)
            return -1;
        bytes += got;
        n -= got;
    }
    return 0;
}

int
stream_read(struct stream *s, void *bytes, size_t n, struct err *err)
{
    char *to = bytes;
    if (stream_usable(s, err) < 0)
        return -1;
    while (n > 0) {
        if (s->in_len == 0 && n >= STREAM_IN_SIZE)
            return read_direct(s, to, n, err);
        if (s->in_len == 0 && fill(s, err) < 0)
            return -1;
        size_t part = n < s->in_len ? n : s->in_len;
        memcpy(to, input(s), part);
        stream_take(s, part);
        to += part;
        n -= part;
    }
    return 0;
}

void
stream_unread(struct stream *s, struct slice bytes)
{
    check(!s->in && bytes.len <= STREAM_IN_SIZE);
    if (bytes.len == 0)
        return;
    take_in(s);
    memcpy(s->in, bytes.ptr, bytes.len);
    s->in_start = 0;
    s->in_len = bytes.len;
}

size_t
stream_buffered(const struct stream *s)
{
    return s->in_len;
}

/* What a look into the socket tells: 1 something is there, 0 its end, -1 nothing (or an error). */
static int
look_into_socket(const struct stream *s)
{
    char byte;
    ssize_t n = recv(s->tfd.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    return (int)n;
}

bool
stream_has_input(struct stream *s)
{
    if (s->in_len > 0 || (s->layer && s->layer->has_pending(s)))
        return true;
    return look_into_socket(s) > 0;
}

bool
stream_is_idle_alive(struct stream *s)
{
    struct err why;
    char byte;
    size_t n;
    if (s->error || s->cancelled || s->ended || s->in_len > 0)
        return false;
    if (s->tfd.read_event && !s->may_have_input && !s->tfd.readable && !s->tfd.closing)
        return true; /* since a read emptied it the loop has seen nothing: no need to ask */
    int seen = look_into_socket(s);
    if (seen <= 0 || !s->layer)
        return seen < 0;
    s->may_have_input = true; /* perhaps only a record of TLS's own, such as a session ticket */
    return read_some(s, &byte, 1, &n, &why) == STREAM_IO_WANT_INPUT;
}

bool
stream_is_tls(const struct stream *s)
{
    return s->layer != NULL && s->layer->is_tls;
}

void
stream_drop_buffered(struct stream *s)
{
    s->in_start = s->in_len = 0;
}

int
stream_drop_socket(struct stream *s, struct err *err)
{
    char bytes[1024];
    struct err why;
    ssize_t n;
    size_t dropped = 0;
    s->may_have_input = true;
    while ((n = stream_raw_read(s, bytes, sizeof(bytes))) > 0 && dropped < DROP_LIMIT)
        dropped += (size_t)n;
    if (n == 0)
        return fail_closed(s, err);
    if (n > 0) {
        err_set(&why, ERR_SYNTAX, "clear text instead of a TLS handshake");
        return stream_fail(s, &why, err);
    }
    return 0;
}
