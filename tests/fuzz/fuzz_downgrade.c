/* SPDX-License-Identifier: Apache-2.0 */
/* A message for a server without 8BITMIME: the same comes out however it is cut, and what has been
 * converted is not converted again. */
#include <stdint.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "smtp/downgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct smtp_settings settings = {
    .header_size_limit = 102400, .mime_boundary_length_limit = 2048, .mime_nesting_limit = 100};

static int
collect(void *ctx, struct slice bytes, bool is_copy)
{
    (void)is_copy;
    buf_append_slice(ctx, bytes);
    return 0;
}

static void
convert(struct slice wire, size_t step, struct buf *out)
{
    const struct mime_sink sink = {collect, out};
    struct arena *arena = arena_new();
    struct downgrade *d = downgrade_new(arena, &settings, &sink);

    for (size_t at = 0; at < wire.len; at += step)
        check(downgrade_add(d, slice_make(wire.ptr + at, wire.len - at < step ? wire.len - at : step)) == 0);
    check(downgrade_end(d) == 0);
    arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice wire = slice_make(data, size);
    struct buf whole = {0}, pieces = {0}, again = {0};

    convert(wire, size + 1, &whole);
    convert(wire, 1 + size % 7, &pieces);
    check(slice_equal(buf_slice(&whole), buf_slice(&pieces)));
    if (size < 60000) { /* more than a line that is put together is another matter */
        convert(buf_slice(&whole), whole.len + 1, &again);
        check(slice_equal(buf_slice(&whole), buf_slice(&again)));
    }
    buf_release(&whole);
    buf_release(&pieces);
    buf_release(&again);
    return 0;
}
