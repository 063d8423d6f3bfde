/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

enum { SMALLEST = 64 };

void
buf_release(struct buf *buf)
{
    free(buf->base);
    *buf = (struct buf){0};
}

/* Nothing is left in it: begin at the front again. */
static void
buf_rewind(struct buf *buf)
{
    buf->cap += (size_t)(buf->ptr - buf->base);
    buf->ptr = buf->base;
    buf->len = 0;
}

void
buf_clear(struct buf *buf)
{
    buf_rewind(buf);
}

/* Moves the bytes to the front if that makes room cheaply, else to a larger allocation. */
static void
buf_grow(struct buf *buf, size_t n)
{
    size_t consumed = (size_t)(buf->ptr - buf->base);
    if (n > SIZE_MAX / 4)
        fatal("out of memory: %zu bytes", n);
    if (buf->base && consumed >= buf->len && consumed + buf->cap >= buf->len + n) {
        memmove(buf->base, buf->ptr, buf->len);
        buf->ptr = buf->base;
        buf->cap += consumed;
        return;
    }
    size_t cap = 2 * buf->cap < SMALLEST ? SMALLEST : 2 * buf->cap;
    if (cap < buf->len + n)
        cap = buf->len + n;
    char *base = malloc(cap);
    if (!base)
        fatal("out of memory: %zu bytes", cap);
    if (buf->len)
        memcpy(base, buf->ptr, buf->len);
    free(buf->base);
    buf->base = buf->ptr = base;
    buf->cap = cap;
}

char *
buf_reserve(struct buf *buf, size_t n)
{
    if (buf->cap - buf->len < n || !buf->base)
        buf_grow(buf, n);
    return buf->ptr + buf->len;
}

void
buf_added(struct buf *buf, size_t n)
{
    check(n <= buf->cap - buf->len);
    buf->len += n;
}

void
buf_append(struct buf *buf, const void *bytes, size_t n)
{
    if (!n)
        return;
    memcpy(buf_reserve(buf, n), bytes, n);
    buf->len += n;
}

void
buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void
buf_append_slice(struct buf *buf, struct slice slice)
{
    buf_append(buf, slice.ptr, slice.len);
}

void
buf_append_byte(struct buf *buf, char byte)
{
    *buf_reserve(buf, 1) = byte;
    buf->len++;
}

void
buf_vprintf(struct buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    char *at = buf_reserve(buf, SMALLEST);
    size_t room = buf->cap - buf->len;
    int len = vsnprintf(at, room, fmt, args);
    check(len >= 0);
    if ((size_t)len >= room) {
        at = buf_reserve(buf, (size_t)len + 1);
        check(vsnprintf(at, (size_t)len + 1, fmt, again) == len);
    }
    va_end(again);
    buf->len += (size_t)len;
}

void
buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(buf, fmt, args);
    va_end(args);
}

void
buf_consume(struct buf *buf, size_t n)
{
    check(n <= buf->len);
    if (n == buf->len) {
        buf_rewind(buf);
        return;
    }
    buf->ptr += n;
    buf->len -= n;
    buf->cap -= n;
}

struct slice
buf_slice(const struct buf *buf)
{
    return slice_make(buf->ptr, buf->len);
}

const char *
buf_text(struct buf *buf)
{
    *buf_reserve(buf, 1) = '\0';
    return buf->ptr;
}
