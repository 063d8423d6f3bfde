/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/room: places for contents, who gets one next, and who loses it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup/room.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "tests/unit/with_loop.h"

enum { MANY = 1000 };

static struct task_group group;
static unsigned order;

/* A task that wants a place, and what became of it. */
struct guest {
    struct room room;
    unsigned place; /* it got the n-th; 0: none yet */
    bool was_cancelled;
    struct task *task;
};

static struct guest crowd[MANY];

static void
want_room(void *arg)
{
    struct guest *guest = arg;
    struct err err;

    if (room_take(&guest->room, &err) == 0)
        guest->place = ++order;
    else
        guest->was_cancelled = err.kind == ERR_CANCELLED;
}

static void
come(struct guest *guest)
{
    guest->task = task_spawn(&group, "guest", want_room, guest);
}

static void
give_turns(void)
{
    struct err err;

    for (int i = 0; i < 5; i++)
        assert_int_equal(task_yield(&err), 0);
}

/* As many as there is room for: so many. */
static unsigned
fill(void)
{
    unsigned count = 0;

    task_group_init(&group);
    order = 0;
    do {
        assert_true(count < MANY);
        crowd[count] = (struct guest){.place = 0};
        come(&crowd[count]);
        give_turns();
    } while (crowd[count++].place > 0);
    /* The last waits: it goes. */
    task_cancel(crowd[--count].task);
    give_turns();
    assert_true(crowd[count].was_cancelled);
    return count;
}

static void
empty(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        room_leave(&crowd[i].room);
    task_group_join(&group);
}

static void
take_in_order(void *arg)
{
    struct guest guests[4] = {{.place = 0}};
    unsigned count = fill();

    (void)arg;
    assert_true(count > 2);
    for (int i = 0; i < 3; i++)
        come(&guests[i]);
    give_turns();
    task_cancel(guests[1].task);
    come(&guests[3]);
    room_leave(&crowd[0].room);
    room_leave(&crowd[0].room); /* a second time is none */
    give_turns();
    assert_int_equal(guests[0].place, count + 1);
    assert_true(guests[1].was_cancelled);
    assert_int_equal(guests[2].place + guests[3].place, 0);
    room_leave(&guests[0].room);
    room_leave(&crowd[1].room);
    give_turns();
    assert_int_equal(guests[2].place, count + 2);
    assert_int_equal(guests[3].place, count + 3);
    room_leave(&guests[2].room);
    room_leave(&guests[3].room);
    empty(count);
}

/* While one who was woken has not run yet, more than its place is free: the next does not wait. */
static void
take_what_is_free(void *arg)
{
    struct guest first = {.place = 0}, second = {.place = 0};
    unsigned count = fill();

    (void)arg;
    come(&first);
    give_turns();
    come(&second); /* runs before first does */
    room_leave(&crowd[0].room);
    room_leave(&crowd[1].room);
    give_turns();
    assert_true(first.place > 0);
    assert_true(second.place > 0);
    room_leave(&first.room);
    room_leave(&second.room);
    empty(count);
}

static int
wait_for_content(struct room *room, struct err *err)
{
    int fds[2], result;
    struct stream *stream;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    stream = stream_new(fds[0]);
    result = room_wait(room, stream, err);
    stream_free(&stream);
    close(fds[1]);
    return result;
}

static void
lose_when_slow(void *arg)
{
    struct guest other = {.place = 0};
    struct room *room = &crowd[0].room;
    unsigned count = fill();
    struct err err;

    (void)arg;
    room_count(room, 20 * 1024 - 1);
    room->waited = SECONDS(10);
    assert_int_equal(wait_for_content(room, &err), 0);
    assert_true(room->is_slow); /* but nobody waits */
    come(&other);
    give_turns();
    assert_int_equal(wait_for_content(room, &err), -1);
    assert_int_equal(err.kind, ERR_TEMP);
    room_count(room, 20 * 1024); /* it came at once */
    assert_int_equal(wait_for_content(room, &err), 0);
    room->waited = SECONDS(10);
    assert_int_equal(wait_for_content(room, &err), -1);
    assert_int_equal(err.kind, ERR_TEMP);
    empty(count);
    room_leave(&other.room);
}

static void
test_places_are_given_in_the_order_of_coming(void **state)
{
    (void)state;
    task_run_main(take_in_order, NULL);
}

static void
test_nobody_waits_while_a_place_is_free(void **state)
{
    (void)state;
    task_run_main(take_what_is_free, NULL);
}

static void
test_who_is_slow_loses_its_place_if_somebody_waits(void **state)
{
    (void)state;
    task_run_main(lose_when_slow, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_places_are_given_in_the_order_of_coming, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_waits_while_a_place_is_free, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_slow_loses_its_place_if_somebody_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
