/* SPDX-License-Identifier: Apache-2.0 */
/* A stream's layer that compresses both ways: DEFLATE without a header (RFC 1951), flushed at each flush of the stream. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "lib/base/check.h"
#include "lib/run/stream_private.h"

enum { PIECE = 4096, WINDOW_BITS = -13, MEMORY_LEVEL = 6, WINDOW_READ = -15 };

struct deflating {
    z_stream in, out;
    bool more; /* the last read filled all the room that it had */
    unsigned char bytes[PIECE];
};

/* 1: something was read; 0: more input is needed; -1: the bytes make no sense. */
static int
inflate_some(struct deflating *d, void *bytes, size_t size, size_t *n)
{
    unsigned room = size > UINT_MAX ? UINT_MAX : (unsigned)size;
    if (d->in.avail_in == 0 && !d->more)
        return 0;
    d->in.next_out = bytes;
    d->in.avail_out = room;
    int result = inflate(&d->in, Z_SYNC_FLUSH);
    if (result != Z_OK && result != Z_BUF_ERROR)
        return -1;
    *n = room - d->in.avail_out;
    d->more = d->in.avail_out == 0;
    return *n > 0 ? 1 : d->in.avail_in > 0 ? -1 : 0;
}

static enum stream_io
deflating_read(struct stream *s, void *bytes, size_t size, size_t *n, struct err *err)
{
    struct deflating *d = s->layer_state;
    for (;;) {
        int result = inflate_some(d, bytes, size, n);
        if (result > 0)
            return STREAM_IO_DONE;
        if (result < 0) {
            err_set(err, ERR_SYNTAX, "compressed input makes no sense");
            return STREAM_IO_FAILED;
        }
        ssize_t got = stream_raw_read(s, d->bytes, sizeof(d->bytes));
        if (got == 0)
            return STREAM_IO_END;
        if (got < 0 && errno == EAGAIN)
            return STREAM_IO_WANT_INPUT;
        if (got < 0) {
            err_errno(err, "read");
            return STREAM_IO_FAILED;
        }
        d->in.next_in = d->bytes;
        d->in.avail_in = (unsigned)got;
    }
}

static int
deflating_write(struct stream *s, const void *bytes, size_t n, struct err *err)
{
    struct deflating *d = s->layer_state;
    const unsigned char *at = bytes;
    (void)err;
    while (n > 0) {
        unsigned part = n > INT_MAX ? INT_MAX : (unsigned)n;
        d->out.next_in = (unsigned char *)(uintptr_t)at;
        d->out.avail_in = part;
        do {
            d->out.next_out = (unsigned char *)buf_reserve(&s->wire, PIECE);
            d->out.avail_out = PIECE;
            check(deflate(&d->out, Z_SYNC_FLUSH) != Z_STREAM_ERROR);
            buf_added(&s->wire, PIECE - d->out.avail_out);
        } while (d->out.avail_out == 0);
        at += part;
        n -= part;
    }
    return 0;
}

static bool
deflating_has_pending(const struct stream *s)
{
    const struct deflating *d = s->layer_state;
    return d->more || d->in.avail_in > 0;
}

static void
deflating_shutdown(struct stream *s)
{
    (void)s; /* a flush has ended what was said */
}

static void
deflating_release(struct stream *s)
{
    struct deflating *d = s->layer_state;
    deflateEnd(&d->out);
    inflateEnd(&d->in);
    free(d);
    s->layer_state = NULL;
}

static const struct stream_layer deflate_layer = {.read = deflating_read,
                                                  .write = deflating_write,
                                                  .has_pending = deflating_has_pending,
                                                  .shutdown = deflating_shutdown,
                                                  .release = deflating_release};

int
stream_start_deflate(struct stream *s, struct err *err)
{
    check(!s->layer);
    if (stream_flush(s, err) < 0)
        return -1;
    if (s->in_len > PIECE)
        return err_set(err, ERR_SYNTAX, "input came before compression began");
    struct deflating *d = calloc(1, sizeof(*d));
    if (!d ||
        deflateInit2(&d->out, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) !=
            Z_OK ||
        inflateInit2(&d->in, WINDOW_READ) != Z_OK)
        fatal("out of memory");
    for (size_t i = 0; i < s->in_len; i++)
        d->bytes[i] = (unsigned char)s->in[s->in_start + i];
    d->in.next_in = d->bytes;
    d->in.avail_in = (unsigned)s->in_len;
    stream_drop_buffered(s);
    s->layer = &deflate_layer;
    s->layer_state = d;
    return 0;
}
