/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/wire.h"

#include <stdint.h>
#include <string.h>

/* The bytes up to the next CR or LF, or all. */
static size_t
plain_run(const char *at, size_t len)
{
    const char *lf = memchr(at, '\n', len);
    size_t run = lf ? (size_t)(lf - at) : len;
    const char *cr = memchr(at, '\r', run);
    return cr ? (size_t)(cr - at) : run;
}

void
wire_encode(struct wire_state *state, struct slice text, struct buf *out)
{
    const char *at = text.ptr, *end = text.ptr + text.len;

    while (at < end) {
        if (state->after_cr && *at != '\n')
            buf_append_byte(out, ' '); /* a CR without its LF */
        state->after_cr = false;
        if (*at == '\n') {
            buf_append(out, "\r\n", 2);
            state->in_line = false;
            at++;
            continue;
        }
        if (!state->in_line && *at == '.')
            buf_append_byte(out, '.');
        state->in_line = true;
        if (*at == '\r') {
            state->after_cr = true;
            at++;
            continue;
        }
        size_t run = plain_run(at, (size_t)(end - at));
        buf_append(out, at, run);
        at += run;
    }
}

void
wire_encode_end(struct wire_state *state, struct buf *out)
{
    if (state->in_line || state->after_cr)
        buf_append(out, "\r\n", 2);
    state->in_line = state->after_cr = false;
}

void
wire_decode_some(struct wire_state *state, struct slice *wire, size_t full,
                 bool (*start)(void *ctx, char byte, struct buf *out), void *ctx, struct buf *out)
{
    const char *at = wire->ptr, *end = wire->ptr + wire->len;

    while (at < end && out->len < full) {
        if (state->after_cr) {
            state->after_cr = false;
            if (*at == '\n') {
                buf_append_byte(out, '\n');
                state->in_line = false;
                at++;
                continue;
            }
            buf_append_byte(out, '\r');
        }
        if (!state->in_line && start(ctx, *at, out)) {
            at++;
            continue;
        }
        if (*at == '\r') {
            state->after_cr = true;
            at++;
            continue;
        }
        const char *cr = memchr(at, '\r', (size_t)(end - at));
        size_t run = cr ? (size_t)(cr - at) : (size_t)(end - at);
        buf_append(out, at, run);
        at += run;
    }
    *wire = slice_make(at, (size_t)(end - at));
}

static bool
take_dot(void *ctx, char byte, struct buf *out)
{
    (void)out;
    ((struct wire_state *)ctx)->in_line = true;
    return byte == '.';
}

void
wire_decode(struct wire_state *state, struct slice wire, struct buf *out)
{
    wire_decode_some(state, &wire, SIZE_MAX, take_dot, state, out);
}
