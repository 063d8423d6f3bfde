/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/message.h"

#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/map.h"

enum {
    MESSAGE_MAGIC = 0x6d736771,
    MANY_RECIPIENTS = 200, /* that each request would read: then it is spared that */
};

static struct map *by_id;
static size_t in_memory; /* recipients */

struct message *
message_new(void)
{
    struct arena *arena = arena_new();
    struct message *message = ARENA_NEW(arena, struct message);

    message->magic = MESSAGE_MAGIC;
    message->lock_fd = -1;
    message->arena = message->pass_arena = message->sched.arena = arena;
    return message;
}

static void
make_hint(struct message *message)
{
    struct envelope bare = *message->envelope;
    struct buf encoded = {0};

    bare.recipients = NULL;
    bare.recipient_count = 0;
    msg_encode(&type_envelope, &bare, &encoded);
    message->hint = arena_slice(message->arena, buf_slice(&encoded));
    buf_release(&encoded);
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
    message->recipients = arena_array(message->pass_arena, envelope->recipient_count, sizeof(*message->recipients));
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        message->recipients[i].address = envelope->recipients[i].address;
        if (envelope->recipients[i].status != RCPT_TODO)
            message->recipients[i].state = RECIPIENT_DONE;
    }
    in_memory += envelope->recipient_count;
    message->in_passes = message->rest.more;
    if (envelope->recipient_count > MANY_RECIPIENTS || message->rest.total > MANY_RECIPIENTS)
        make_hint(message);
    return true;
}

static void
free_pass(struct message *message)
{
    if (message->pass_arena != message->arena)
        arena_free(&message->pass_arena);
}

void
message_free(struct message **message)
{
    struct arena *arena = (*message)->arena;

    check((*message)->magic == MESSAGE_MAGIC && !(*message)->segment && message_is_idle(*message));
    if ((*message)->recipients) {
        map_remove_text(by_id, (*message)->id);
        in_memory -= (*message)->envelope->recipient_count;
    }
    free_pass(*message);
    if ((*message)->lock_fd >= 0)
        close((*message)->lock_fd);
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

size_t
message_recipients(void)
{
    return in_memory;
}

static bool
is_to_be_told(const struct recipient *recipient)
{
    return recipient->result && (recipient->state == RECIPIENT_FAILED || recipient->tell_success);
}

static void
take_along(struct arena *arena, struct envelope_recipient *given, struct recipient *recipient)
{
    given->address = arena_strdup(arena, given->address);
    given->original = arena_strdup(arena, given->original);
    given->dsn_original = arena_strdup(arena, given->dsn_original);
    recipient->address = given->address;
    recipient->result = message_copy_result(arena, recipient->result);
}

void
message_next_pass(struct message *message, struct arena *arena, const struct envelope_recipient *more, size_t count)
{
    struct envelope *envelope = message->envelope;
    struct envelope_recipient *given = arena_array(arena, envelope->recipient_count + count, sizeof(*given));
    struct recipient *recipients = arena_array(arena, envelope->recipient_count + count, sizeof(*recipients));
    size_t kept = 0;

    check(message_is_idle(message));
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        check(message->recipients[i].state != RECIPIENT_TODO);
        if (message->recipients[i].state == RECIPIENT_DEFERRED)
            message->left_deferred = true;
        if (!is_to_be_told(&message->recipients[i]))
            continue;
        given[kept] = envelope->recipients[i];
        recipients[kept] = message->recipients[i];
        take_along(arena, &given[kept], &recipients[kept]);
        kept++;
    }
    for (size_t i = 0; i < count; i++) {
        given[kept + i] = more[i];
        recipients[kept + i].address = more[i].address;
    }
    in_memory += kept + count;
    in_memory -= envelope->recipient_count;
    free_pass(message);
    message->pass_arena = arena;
    message->route = NULL;
    message->notice_failed = message->pass_told_of_delay = false;
    envelope->recipients = given;
    envelope->recipient_count = kept + count;
    message->recipients = recipients;
}

const struct delivered_recipient *
message_copy_result(struct arena *arena, const struct delivered_recipient *from)
{
    struct delivered_recipient *to = ARENA_NEW(arena, struct delivered_recipient);

    to->index = from->index;
    to->result = from->result;
    to->status = arena_strdup(arena, from->status);
    to->action = arena_strdup(arena, from->action);
    to->reason = arena_strdup(arena, from->reason);
    to->diag_type = arena_strdup(arena, from->diag_type);
    to->diag_text = arena_strdup(arena, from->diag_text);
    to->mta_type = arena_strdup(arena, from->mta_type);
    to->mta_name = arena_strdup(arena, from->mta_name);
    return to;
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
