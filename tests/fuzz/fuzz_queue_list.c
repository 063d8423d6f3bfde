/* SPDX-License-Identifier: Apache-2.0 */
/* What showq sends, and defer logs, as their readers take them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/mail/bounce_log.h"
#include "lib/mail/queue_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever was read is written in a form that is read as the same. */
static void
try_log(struct arena *arena, struct slice text)
{
    struct bounce_log_entry *entries, *again;
    struct buf out = {0};
    size_t count, count_again;

    entries = bounce_log_parse(arena, text, "4.0.0", "delayed", &count);
    for (size_t i = 0; i < count; i++)
        bounce_log_format(&entries[i], i & 1, &out);
    again = bounce_log_parse(arena, buf_slice(&out), "4.0.0", "delayed", &count_again);
    check(count == count_again);
    for (size_t i = 0; i < count; i++)
        check(entries[i].notify == again[i].notify && entries[i].offset == again[i].offset);
    buf_release(&out);
}

static void
try_list(struct arena *arena, struct slice bytes)
{
    struct queue_list_totals totals = {0};
    struct queue_list_message message, again;
    struct buf out = {0}, shown = {0};
    size_t used = 0, used_again;
    struct err err;

    if (queue_list_decode(arena, bytes, &used, &message, &err) == 1) {
        check(used <= bytes.len);
        queue_list_encode(&message, &out);
        check(queue_list_decode(arena, buf_slice(&out), &used_again, &again, &err) == 1);
        check(message.recipient_count == again.recipient_count && strcmp(message.id, again.id) == 0);
        queue_list_print(&message, false, &totals, &shown);
        queue_list_print_json(&message, &shown);
    }
    buf_release(&out);
    buf_release(&shown);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();

    try_log(arena, slice_make(data, size));
    try_list(arena, slice_make(data, size));
    arena_free(&arena);
    return 0;
}
