/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/buf.h: a growable run of bytes, consumed from the front.
 *
 * struct buf is held by value; zero-filled is empty and valid, and an empty buf may hold no memory at all. Growing may
 * move the bytes: keep offsets, not pointers. Out of memory is fatal; limits on size are the caller's. */
#ifndef LIB_BASE_BUF_H
#define LIB_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>

#include "lib/base/compiler.h"
#include "lib/base/slice.h"

struct buf {
    char *ptr;  /* first unconsumed byte */
    size_t len; /* bytes from ptr on */
    size_t cap; /* bytes that fit from ptr on before it must grow */
    char *base; /* what was allocated */
};

void buf_release(struct buf *); /* frees the memory; the buf is empty and valid again */
void buf_clear(struct buf *);   /* empty, but keeps the memory */

/* Makes room for n more bytes behind the last, and returns where they go; buf_added() then counts them. */
char *buf_reserve(struct buf *, size_t n);
void buf_added(struct buf *, size_t n);

void buf_append(struct buf *, const void *bytes, size_t n);
void buf_append_text(struct buf *, const char *text);
void buf_append_slice(struct buf *, struct slice);
void buf_append_byte(struct buf *, char byte);
void buf_printf(struct buf *, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

/* Drops n bytes from the front; n is at most len. Costs no move. */
void buf_consume(struct buf *, size_t n);

/* The content, valid until the buf changes. */
struct slice buf_slice(const struct buf *);

/* The content as NUL-ended text (the NUL is not counted); valid until the buf changes. */
const char *buf_text(struct buf *);

#endif
