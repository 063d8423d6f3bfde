/* SPDX-License-Identifier: Apache-2.0 */
/* Aliases' right sides, .forward and :include: lines: no destination is empty or holds a NUL, none is longer than the input, and one that is
 * quoted and read again is the same. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/store/destinations.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

struct seen {
    size_t input, count;
    struct slice want; /* ptr NULL: anything */
};

static void
take(void *ctx, struct slice text)
{
    struct seen *seen = ctx;

    check(text.len > 0 && text.len <= seen->input && !memchr(text.ptr, '\0', text.len) && text.ptr[text.len] == '\0');
    check(!seen->want.ptr || slice_equal(text, seen->want));
    seen->count++;
}

static void
quote_and_read(void *ctx, struct slice text)
{
    struct seen again = {.input = text.len, .want = text};
    struct buf quoted = {0};

    take(ctx, text);
    buf_append_byte(&quoted, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            buf_append_byte(&quoted, '\\');
        buf_append_byte(&quoted, text.ptr[i]);
    }
    buf_append_byte(&quoted, '"');
    destinations_parse(buf_slice(&quoted), take, &again);
    check(again.count == 1);
    buf_release(&quoted);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct seen seen = {.input = len};

    destinations_parse(slice_make(bytes, len), quote_and_read, &seen);
    return 0;
}
