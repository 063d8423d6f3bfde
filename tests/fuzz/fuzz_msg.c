/* SPDX-License-Identifier: Apache-2.0 */
/* Every message type of messages.def: what decodes must encode to the very bytes that were decoded. The first byte
 * chooses the type. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/base/check.h"
#include "lib/mail/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena;
    const struct msg_type *type;
    struct buf again = {0}, text = {0};
    struct slice in, rest;
    struct err err;
    void *message;

    if (size == 0)
        return 0;
    arena = arena_new();
    type = mail_protocol.types[data[0] % mail_protocol.type_count];
    in = slice_make(data + 1, size - 1);
    message = msg_decode(arena, type, in, &rest, &err);
    if (message) {
        msg_encode(type, message, &again);
        check(slice_equal(buf_slice(&again), slice_make(in.ptr, in.len - rest.len)));
        msg_dump(type, message, &text);
    }
    buf_release(&again);
    buf_release(&text);
    arena_free(&arena);
    return 0;
}
