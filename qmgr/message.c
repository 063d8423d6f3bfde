/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/message.h"

#include "lib/base/check.h"
#include "lib/base/map.h"

enum { MESSAGE_MAGIC = 0x6d736771 };

static struct map *by_id;

struct message *
message_new(void)
{
    struct arena *arena = arena_new();
    struct message *message = ARENA_NEW(arena, struct message);

    message->magic = MESSAGE_MAGIC;
    message->arena = arena;
    return message;
}

bool
message_register(struct message *message)
{
    const struct envelope *envelope = message->envelope;

    if (!by_id)
        by_id = map_new();
    if (map_get_text(by_id, message->id))
        return false;
    map_put_text(by_id, message->id, message);
    message->recipients = arena_array(message->arena, envelope->recipient_count, sizeof(*message->recipients));
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        message->recipients[i].address = envelope->recipients[i].address;
        if (envelope->recipients[i].status != RCPT_TODO)
            message->recipients[i].state = RECIPIENT_DONE;
    }
    return true;
}

void
message_free(struct message **message)
{
    struct arena *arena = (*message)->arena;

    check((*message)->magic == MESSAGE_MAGIC && !(*message)->segment && message_is_idle(*message));
    if ((*message)->recipients)
        map_remove_text(by_id, (*message)->id);
    list_remove(&(*message)->by_age);
    loop_timer_clear(&(*message)->again);
    (*message)->magic = 0;
    *message = NULL;
    arena_free(&arena);
}

struct message *
message_find(const char *id)
{
    struct message *message = by_id ? map_get_text(by_id, id) : NULL;

    check(!message || message->magic == MESSAGE_MAGIC);
    return message;
}

unsigned
message_count(void)
{
    return by_id ? (unsigned)map_count(by_id) : 0;
}

bool
message_next(size_t *position, struct message **message)
{
    void *value;

    if (!by_id || !map_next(by_id, position, NULL, &value))
        return false;
    *message = value;
    check((*message)->magic == MESSAGE_MAGIC);
    return true;
}

bool
message_is_idle(const struct message *message)
{
    return message->sched.open == 0 && !message->routing && !message->filing && !message->telling;
}

usec_t
message_arrival(const struct message *message)
{
    return SECONDS(message->envelope->arrival_sec) + message->envelope->arrival_usec;
}

unsigned
message_count_recipients(const struct message *message, enum recipient_state state)
{
    unsigned count = 0;

    for (size_t i = 0; i < message->envelope->recipient_count; i++)
        if (message->recipients[i].state == state)
            count++;
    return count;
}
