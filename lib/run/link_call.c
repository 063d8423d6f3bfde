/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/run/link_internal.h"

/* A task in link_call(): lies on its stack. */
struct link_wait {
    struct link *link; /* where its slot is: see leave_behind() in link.c */
    struct task_cond answered;
    bool done;
    int result;
    struct arena *arena;
    struct link_message *reply;
    struct err *err;
};

#define RETRY_CONNECT_TIME (10 * 1000) /* a listener's backlog was full */

/* --- request numbers --- */

static uint32_t
slot_new(struct link *link)
{
    struct link_slot *slot;
    uint32_t number = link->slot_free;

    if (number == 0) {
        uint32_t old = link->slot_count, count = old ? old * 2 : 16;

        check(count < 1U << 30);
        link->slots = realloc(link->slots, count * sizeof(*link->slots));
        if (!link->slots)
            fatal("out of memory");
        memset(link->slots + old, 0, (count - old) * sizeof(*link->slots));
        for (uint32_t i = old; i < count; i++)
            link->slots[i].next_free = i + 1 < count ? i + 2 : 0;
        link->slot_count = count;
        number = old + 1;
    }
    slot = &link->slots[number - 1];
    link->slot_free = slot->next_free;
    *slot = (struct link_slot){.used = true};
    link->outstanding++;
    return number;
}

static struct link_slot
slot_take(struct link *link, uint32_t number)
{
    struct link_slot slot = link->slots[number - 1];

    link->slots[number - 1] = (struct link_slot){.next_free = link->slot_free};
    link->slot_free = number;
    if (link->outstanding-- == LINK_WINDOW)
        task_wake_all(&link->room);
    if (link->outstanding == 0 && link->retiring)
        link_want_flush(link); /* which ends it */
    return slot;
}

/* --- answers --- */

static void
finish_wait(struct link_wait *wait, int result)
{
    wait->result = result;
    wait->done = true;
    task_wake_one(&wait->answered);
}

static int
decode_answer(struct arena *arena, const struct link_head *head, const struct msg_type *type,
              const struct msg_type *want, struct slice bytes, const int *fds, struct link_message *reply,
              struct err *err)
{
    struct slice rest;

    if (type != want)
        return err_set(err, ERR_SYNTAX, "answer %s where %s was due", type->name, want->name);
    *reply = (struct link_message){.type = type};
    reply->message = msg_decode(arena, type, slice_make(bytes.ptr, head->message_len), &rest, err);
    if (!reply->message)
        return -1;
    if (rest.len > 0)
        return err_set(err, ERR_SYNTAX, "%s: bytes after its end", type->name);
    reply->payload = slice_make(bytes.ptr + head->message_len, bytes.len - head->message_len);
    reply->fd_count = head->fd_count;
    if (head->fd_count)
        memcpy(reply->fds, fds, sizeof(int) * head->fd_count);
    return 0;
}

static int
answer_wait(struct link_slot *slot, const struct link_head *head, const struct msg_type *type, struct slice bytes,
            const int *fds, struct err *err)
{
    struct link_wait *wait = slot->wait;
    int result =
        decode_answer(wait->arena, head, type, slot->want, arena_slice(wait->arena, bytes), fds, wait->reply, err);

    if (result < 0)
        *wait->err = *err;
    finish_wait(wait, result);
    return result;
}

static int
answer_done(struct link_slot *slot, const struct link_head *head, const struct msg_type *type, struct slice bytes,
            const int *fds, struct err *err)
{
    struct link_message reply;

    if (decode_answer(link_state.passing, head, type, slot->want, bytes, fds, &reply, err) < 0) {
        slot->done(slot->done_ctx, NULL, err);
        return -1;
    }
    slot->done(slot->done_ctx, &reply, NULL);
    return 0;
}

int
link_take_answer(struct link *link, const struct link_head *head, const struct msg_type *type, struct slice bytes,
                 const int *fds, struct err *err)
{
    struct link_slot slot;
    struct link_message forgotten;

    if (head->request == 0 || head->request > link->slot_count || !link->slots[head->request - 1].used)
        return err_set(err, ERR_SYNTAX, "answer to nothing");
    slot = slot_take(link, head->request);
    if (slot.wait)
        return answer_wait(&slot, head, type, bytes, fds, err);
    if (slot.done)
        return answer_done(&slot, head, type, bytes, fds, err);
    if (decode_answer(link_state.passing, head, type, slot.want, bytes, fds, &forgotten, err) < 0)
        return -1;
    link_close_fds(&forgotten);
    return 0;
}

/* done() may make new calls, even on this link: they must not be failed with the old ones. */
void
link_fail_calls(struct link *link, const char *why)
{
    struct link_slot *slots = link->slots;
    uint32_t count = link->slot_count;
    struct err err;

    link->slots = NULL;
    link->slot_count = link->slot_free = 0;
    link->outstanding = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!slots[i].used)
            continue;
        err_set(&err, ERR_CLOSED, "link with %s: %s", link_name(link), why);
        if (slots[i].wait) {
            *slots[i].wait->err = err;
            finish_wait(slots[i].wait, -1);
        } else if (slots[i].done) {
            slots[i].done(slots[i].done_ctx, NULL, &err);
        }
    }
    free(slots);
}

void
link_move_calls(struct link *from, struct link *to)
{
    to->slots = from->slots;
    to->slot_count = from->slot_count;
    to->slot_free = from->slot_free;
    to->outstanding = from->outstanding;
    from->slots = NULL;
    from->slot_count = from->slot_free = 0;
    from->outstanding = 0;
    for (uint32_t i = 0; i < to->slot_count; i++)
        if (to->slots[i].used && to->slots[i].wait)
            to->slots[i].wait->link = to;
}

/* --- asking --- */

/* Until there is room, or (backlog_full) a little time, for a listener that gives no sign. */
static int may_wait
wait_for_room(struct link *link, bool backlog_full, usec_t deadline, struct err *err)
{
    bool freed;
    int result;

    link_hold(link);
    result = backlog_full ? task_sleep(RETRY_CONNECT_TIME, err) : task_wait(&link->room, deadline, err);
    freed = link->freed;
    link_release(link);
    if (result == 0 && freed)
        return err_set(err, ERR_CLOSED, "link given up");
    return result;
}

static int may_wait
wait_until_ready(struct link *link, usec_t deadline, struct err *err)
{
    bool try_later;

    for (;;) {
        bool connected = link_ensure_connected(link, &try_later, err) == 0;

        if (!connected && (!try_later || loop_now() >= deadline))
            return -1;
        if (connected && !link_is_full(link) && link->outstanding < LINK_WINDOW && !link->retiring)
            return 0;
        if (wait_for_room(link, !connected, deadline, err) < 0)
            return -1;
    }
}

/* Sends a request that nobody waits for yet. Then head->request is its number; -1: there is none. */
static int
ask(struct link *link, struct link_head *head, const struct msg_type *type, const void *message, struct slice payload,
    const int *fds, const struct msg_type *want, struct err *err)
{
    unsigned generation = link->generation;
    int result;

    link_hold(link);
    head->request = slot_new(link);
    link->slots[head->request - 1].want = want;
    result = link_queue(link, head, type, message, payload, fds, err);
    if (result < 0 && link->fd >= 0 && link->generation == generation) /* else it has gone with the connection */
        slot_take(link, head->request);
    link_release(link);
    return result;
}

static int may_wait
wait_for_answer(uint32_t request, const struct msg_type *type, struct link_wait *wait, usec_t deadline)
{
    while (!wait->done) {
        if (task_wait(&wait->answered, deadline, wait->err) == 0)
            continue;
        /* While it is not done, the link exists and the slot is ours. */
        if (!wait->done) {
            wait->link->slots[request - 1].wait = NULL;
            return err_context(wait->err, "link with %s: %s", link_name(wait->link), type->name);
        }
    }
    return wait->result;
}

int may_wait
link_call(struct link *link, struct arena *arena, const struct msg_type *type, const void *message,
          struct slice payload, const int *fds, unsigned fd_count, const struct msg_type *want,
          struct link_message *reply, usec_t deadline, struct err *err)
{
    struct err nobody_asks;
    struct link_wait wait = {.link = link, .arena = arena, .reply = reply, .err = err ? err : &nobody_asks};
    struct link_head head = {.type = type->code, .flags = LINK_FLAG_REQUEST, .fd_count = (uint8_t)fd_count};

    check(fd_count <= LINK_MAX_FDS);
    if (wait_until_ready(link, deadline, wait.err) < 0)
        return -1;
    if (ask(link, &head, type, message, payload, fds, want, wait.err) < 0)
        return -1;
    link->slots[head.request - 1].wait = &wait;
    return wait_for_answer(head.request, type, &wait, deadline);
}

int may_wait
link_call_giving(struct link *link, struct arena *arena, const struct msg_type *type, const void *message,
                 struct buf *payload, const struct msg_type *want, struct link_message *reply, usec_t deadline,
                 struct err *err)
{
    struct err nobody_asks;
    struct link_wait wait = {.link = link, .arena = arena, .reply = reply, .err = err ? err : &nobody_asks};
    struct link_head head = {.type = type->code, .flags = LINK_FLAG_REQUEST};
    int result;

    if (wait_until_ready(link, deadline, wait.err) < 0) {
        buf_release(payload);
        return -1;
    }
    result = ask(link, &head, type, message, buf_slice(payload), NULL, want, wait.err);
    buf_release(payload);
    if (result < 0)
        return -1;
    link->slots[head.request - 1].wait = &wait;
    return wait_for_answer(head.request, type, &wait, deadline);
}

int
link_call_async(struct link *link, const struct msg_type *type, const void *message, struct slice payload,
                const int *fds, unsigned fd_count, const struct msg_type *want,
                void (*done)(void *ctx, struct link_message *reply, const struct err *), void *done_ctx,
                struct err *err)
{
    struct link_head head = {.type = type->code, .flags = LINK_FLAG_REQUEST, .fd_count = (uint8_t)fd_count};
    bool try_later;

    check(fd_count <= LINK_MAX_FDS);
    if (link_ensure_connected(link, &try_later, err) < 0)
        return -1;
    if (ask(link, &head, type, message, payload, fds, want, err) < 0)
        return -1;
    link->slots[head.request - 1].done = done;
    link->slots[head.request - 1].done_ctx = done_ctx;
    return 0;
}
