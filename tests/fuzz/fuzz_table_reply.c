/* SPDX-License-Identifier: Apache-2.0 */
/* What servers of look-ups answer; the first byte says which. A value has no NUL, a length keeps to its limit, and what we encode
 * reads back the same. */
#include <stdint.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/table/proxy_messages.h"
#include "lib/table/remote_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 5000 };

static void
try_lines(struct arena *arena, struct slice text, unsigned kind)
{
    const char *value = NULL;
    bool found = false;
    size_t len = 0, head = 0;
    struct err err;

    if (kind == 0 && tcp_reply_read(arena, text, &value, &err) < 0)
        check(!value);
    if (kind == 1 && socketmap_reply_read(arena, text, &value, &err) < 0)
        check(!value);
    if (kind == 2 && netstring_head_read(text, LIMIT, &len, &head, &err) == 1)
        check(len <= LIMIT && head >= 2 && head <= NETSTRING_HEAD_LIMIT && head <= text.len);
    if (kind == 3 && memcache_value_read(text, slice_from("key"), LIMIT, &found, &len, &err) == 0)
        check(len <= LIMIT);
    if (kind == 4 && redis_value_read(text, LIMIT, &found, &len, &err) == 0)
        check(len <= LIMIT);
    check(!value || strlen(value) <= text.len);
}

static void
try_round_trip(struct arena *arena, struct slice text)
{
    struct buf line = {0};
    const char *value;
    struct err err;

    if (text.len == 0 || memchr(text.ptr, '\0', text.len))
        return;
    buf_append_text(&line, "200 ");
    tcp_encode(text, &line);
    check(tcp_reply_read(arena, buf_slice(&line), &value, &err) == 0);
    check(slice_equal_text(text, value));
    buf_release(&line);
}

static void
try_message(struct arena *arena, const struct msg_type *type, const uint8_t *data, size_t size)
{
    struct slice rest;
    struct buf again = {0};
    struct err err;
    void *message = msg_decode(arena, type, arena_slice(arena, slice_make(data, size)), &rest, &err);

    if (message) {
        msg_encode(type, message, &again);
        check(msg_decode(arena, type, buf_slice(&again), &rest, &err));
    }
    buf_release(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct msg_type *const types[] = {&type_proxy_find, &type_proxy_found, &type_proxy_change,
                                                   &type_proxy_next, &type_proxy_pair};
    struct arena *arena = arena_new();

    if (size > 0) {
        unsigned kind = data[0] % 11;
        struct slice text = slice_make(data + 1, size - 1);

        if (kind < 5)
            try_lines(arena, text, kind);
        else if (kind == 5)
            try_round_trip(arena, text);
        else
            try_message(arena, types[kind - 6], data + 1, size - 1);
    }
    arena_free(&arena);
    return 0;
}
