/* SPDX-License-Identifier: Apache-2.0 */
/* A text made wire form and read as an mbox: no line of it begins with "From ", and with the quoting undone it is the text again.
 * The first byte says how it is cut in pieces. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/mail/wire.h"
#include "lib/store/letter.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

struct source {
    struct slice left;
    size_t piece;
};

static int
next(void *ctx, struct slice *wire, struct err *err)
{
    struct source *s = ctx;
    size_t n = s->left.len < s->piece ? s->left.len : s->piece;

    (void)err;
    *wire = slice_make(s->left.ptr, n);
    if (n > 0)
        s->left = slice_make(s->left.ptr + n, s->left.len - n);
    return 0;
}

static void
read_all(struct slice wire, size_t piece, unsigned flags, struct buf *out)
{
    struct source source = {wire, piece};
    struct letter letter = {.sender = "a@b", .next = next, .ctx = &source};
    struct letter_reader reader = {0};
    struct store_fault fault;
    bool done = false;

    letter_begin(&reader, &letter, flags);
    while (!done)
        check(letter_read(&reader, piece, out, &done, &fault) == 0);
    check(reader.bytes == out->len);
    letter_end(&reader);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    size_t piece = len ? 1u + bytes[0] : 1;
    struct slice text = slice_make(bytes, len), rest, line;
    struct wire_state state = {0};
    struct buf wire = {0}, plain = {0}, mbox = {0}, unquoted = {0};

    wire_encode(&state, text, &wire);
    wire_encode_end(&state, &wire);
    read_all(buf_slice(&wire), piece, 0, &plain);
    read_all(buf_slice(&wire), piece, LETTER_QUOTE_FROM, &mbox);
    rest = buf_slice(&mbox);
    while (slice_cut(&rest, '\n', &line)) {
        check(line.len < 5 || memcmp(line.ptr, "From ", 5) != 0);
        if (line.len > 5 && memcmp(line.ptr, ">From ", 6) == 0)
            line = slice_make(line.ptr + 1, line.len - 1);
        buf_append_slice(&unquoted, line);
        buf_append_byte(&unquoted, '\n');
    }
    /* ">From " that stood in the text loses its '>' too: compare what is left of both. */
    struct buf same = {0};
    rest = buf_slice(&plain);
    while (slice_cut(&rest, '\n', &line)) {
        if (line.len > 5 && memcmp(line.ptr, ">From ", 6) == 0)
            line = slice_make(line.ptr + 1, line.len - 1);
        buf_append_slice(&same, line);
        buf_append_byte(&same, '\n');
    }
    check(slice_equal(buf_slice(&same), buf_slice(&unquoted)));
    buf_release(&wire);
    buf_release(&plain);
    buf_release(&mbox);
    buf_release(&unquoted);
    buf_release(&same);
    return 0;
}
