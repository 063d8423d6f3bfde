/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of each link are in this process; a task accepts on a socket in a temporary directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

struct text {
    const char *text;
    int64_t number;
};

static const struct msg_field text_fields[] = {
    {"text", MSG_TEXT, offsetof(struct text, text), 0, 1000},
    {"number", MSG_INT, offsetof(struct text, number), 0, INT64_MAX},
};

#define TEXT_TYPE(object, label, number, who)                           \
    static const struct msg_type object = {.name = label,               \
                                           .code = number,              \
                                           .senders = who,              \
                                           .size = sizeof(struct text), \
                                           .fields = text_fields,       \
                                           .field_count = ARRAY_LEN(text_fields)}

TEXT_TYPE(ask, "ask", 16, 1);
TEXT_TYPE(answer, "answer", 17, 1);
TEXT_TYPE(wrong, "wrong", 18, 1);
TEXT_TYPE(note, "note", 19, 1);
TEXT_TYPE(slow, "slow", 20, 1);
TEXT_TYPE(never, "never", 21, 1);
TEXT_TYPE(forbidden, "forbidden", 22, 2);

static const struct msg_type *const types[] = {&ask, &answer, &wrong, &note, &slow, &never, &forbidden};
static const struct link_role roles[] = {{"tester", 1}, {"other", 2}};
static const struct link_protocol protocol = {types, ARRAY_LEN(types), roles, ARRAY_LEN(roles)};

static struct {
    char directory[64], path[108];
    int listener;
    struct task_group group;
    bool public_socket;
    unsigned notes, closed, triggers;
    char trigger[8];
    struct link_request *kept[64]; /* of "never" */
    unsigned kept_count;
    char fd_content[64];
    struct link *server;
} t;

/* --- the server --- */

static void
serve_ask(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct text *asked = in->message;
    struct text reply = {asked->text, asked->number + 1};

    (void)ctx;
    for (unsigned i = 0; i < in->fd_count; i++) {
        ssize_t n = pread(in->fds[i], t.fd_content + i, 1, 0);

        assert_true(n == 1);
    }
    t.fd_content[in->fd_count] = '\0';
    link_reply(request, &answer, &reply, in->payload, in->fds, in->fd_count);
    if (in->fd_count)
        link_close_fds(in);
}

static void
serve_slow(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct text *asked = in->message;
    struct text reply = {asked->text, asked->number};
    struct err err;

    (void)ctx;
    if (task_sleep(asked->number, &err) < 0)
        return;
    link_reply(request, &answer, &reply, in->payload, NULL, 0);
}

static void
serve_never(struct link_request *request, struct link_message *in, void *ctx)
{
    (void)in;
    (void)ctx;
    t.kept[t.kept_count++] = request;
}

static void
serve_note(struct link_request *request, struct link_message *in, void *ctx)
{
    (void)in;
    (void)ctx;
    assert_true(link_request_is_oneway(request));
    t.notes++;
}

static const struct link_handler handlers[] = {
    {&ask, false, serve_ask}, {&slow, true, serve_slow}, {&never, false, serve_never}, {&note, false, serve_note}};

static void
on_closed(void *ctx, struct link *link)
{
    (void)ctx;
    (void)link;
    t.closed++;
    t.server = NULL;
}

static void
on_trigger(void *ctx, const char *bytes, size_t len)
{
    (void)ctx;
    assert_in_range(len, 1, sizeof(t.trigger) - 1);
    memcpy(t.trigger, bytes, len);
    t.triggers++;
}

static void
acceptor(void *arg)
{
    struct task_fd tfd;
    struct err err;

    (void)arg;
    task_fd_init(&tfd, t.listener);
    for (;;) {
        int fd = accept4(t.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && task_fd_wait_read(&tfd, NO_DEADLINE, &err) < 0)
            break;
        if (fd < 0)
            continue;
        if (t.public_socket)
            t.server = link_accept_public(fd, handlers, ARRAY_LEN(handlers), NULL, on_closed, on_trigger);
        else
            t.server = link_accept(fd, handlers, ARRAY_LEN(handlers), NULL, on_closed);
    }
    task_fd_release(&tfd);
}

/* --- set-up --- */

static int
raw_connect(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(sun.sun_path, t.path, strlen(t.path) + 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
    return fd;
}

static int
setup(void **state)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    (void)state;
    memset(&t, 0, sizeof(t));
    snprintf(t.directory, sizeof(t.directory), "/tmp/test_link.XXXXXX");
    if (!mkdtemp(t.directory))
        return -1;
    snprintf(t.path, sizeof(t.path), "%s/s", t.directory);
    memcpy(sun.sun_path, t.path, strlen(t.path) + 1);
    t.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(t.listener, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(t.listener, 100) < 0)
        return -1;
    loop_init();
    link_init(&protocol, "tester", geteuid());
    task_group_init(&t.group);
    task_spawn(&t.group, "acceptor", acceptor, NULL);
    return 0;
}

static void
settle(void)
{
    for (int i = 0; i < 20; i++)
        loop_turn(1000);
}

static int
teardown(void **state)
{
    (void)state;
    settle();
    task_group_cancel(&t.group);
    task_group_join(&t.group);
    settle();
    loop_release();
    close(t.listener);
    unlink(t.path);
    rmdir(t.directory);
    return 0;
}

static usec_t
soon(usec_t time)
{
    return clock_monotonic() + time;
}

/* Lets the others run until it is so, for five seconds at most. */
#define UNTIL(condition)                                                              \
    do {                                                                              \
        struct err until_err;                                                         \
        for (usec_t end = soon(SECONDS(5)); !(condition) && clock_monotonic() < end;) \
            assert_int_equal(task_sleep(1000, &until_err), 0);                        \
        assert_true(condition);                                                       \
    } while (0)

static struct link *
new_client(void)
{
    return link_connect(t.path, NULL, 0, NULL, NULL);
}

/* One call; checks the answer if it works. */
static int
call(struct link *link, const struct msg_type *type, int64_t number, struct slice payload, usec_t time, struct err *err)
{
    struct arena *arena = arena_new();
    struct text asked = {"question", number};
    struct link_message reply;
    int result = link_call(link, arena, type, &asked, payload, NULL, 0, &answer, &reply, soon(time), err);

    if (result == 0) {
        const struct text *got = reply.message;

        assert_string_equal(got->text, "question");
        assert_int_equal(got->number, type == &ask ? number + 1 : number);
        assert_true(slice_equal(reply.payload, payload));
    }
    arena_free(&arena);
    return result;
}

#define IN_TASK(name)                     \
    static void task_##name(void *arg);   \
    static void test_##name(void **state) \
    {                                     \
        (void)state;                      \
        task_run_main(task_##name, NULL); \
    }                                     \
    static void task_##name(void *arg)

/* --- tests --- */

IN_TASK(call_gets_its_answer)
{
    struct link *link = new_client();
    struct err err;

    (void)arg;
    assert_false(link_is_connected(link));
    for (int i = 0; i < 3; i++)
        assert_int_equal(call(link, &ask, i, slice_from("payload"), SECONDS(5), &err), 0);
    assert_int_equal(call(link, &slow, 1000, slice_from(""), SECONDS(5), &err), 0);
    assert_true(link_is_connected(link));
    assert_int_equal(link_outstanding(link), 0);
    assert_string_equal(link_peer_program(link), "tester");
    assert_int_equal(link_peer_pid(link), getpid());
    link_free(&link);
}

IN_TASK(payloads_of_all_sizes_arrive)
{
    static const size_t sizes[] = {0, 1, 4096, 65535, 65536, 131056, 131072, 300000, 5 << 20, (16 << 20) - 100};
    struct link *link = new_client();
    struct err err;

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *bytes = malloc(sizes[i] + 1);

        for (size_t j = 0; j < sizes[i]; j++)
            bytes[j] = (char)(j * 7 + i);
        assert_int_equal(call(link, &ask, 1, slice_make(bytes, sizes[i]), SECONDS(20), &err), 0);
        free(bytes);
    }
    link_free(&link);
}

static struct {
    struct link *link;
    unsigned running, failed;
} many;

static void
one_of_many(void *arg)
{
    char bytes[3000];
    struct err err;
    intptr_t seed = (intptr_t)arg;

    memset(bytes, (int)seed, sizeof(bytes));
    for (int i = 0; i < 20; i++)
        if (call(many.link, i % 5 == 4 ? &slow : &ask, seed + i, slice_make(bytes, (size_t)(seed * 13 + i) % 3000),
                 SECONDS(20), &err) < 0)
            many.failed++;
    many.running--;
}

IN_TASK(many_tasks_share_a_link)
{
    struct task_group group;

    (void)arg;
    many.link = new_client();
    many.running = 3000; /* more than LINK_WINDOW */
    many.failed = 0;
    task_group_init(&group);
    for (intptr_t i = 0; i < 3000; i++)
        task_spawn(&group, "one", one_of_many, (void *)i);
    task_group_join(&group);
    assert_int_equal(many.running, 0);
    assert_int_equal(many.failed, 0);
    link_free(&many.link);
}

static int
file_with(char content)
{
    char path[] = "/tmp/test_link_file.XXXXXX";
    int fd = mkstemp(path);

    unlink(path);
    assert_true(write(fd, &content, 1) == 1);
    return fd;
}

IN_TASK(descriptors_stay_with_their_message)
{
    struct link *link = new_client();
    struct arena *arena = arena_new();
    struct text asked = {"fds", 1};
    struct err err;

    (void)arg;
    for (unsigned count = 0; count <= LINK_MAX_FDS; count++) {
        struct link_message reply;
        int fds[LINK_MAX_FDS];
        char want[LINK_MAX_FDS + 1] = {0};

        assert_int_equal(link_send(link, &note, &asked, slice_from("before"), NULL, 0, &err), 0);
        for (unsigned i = 0; i < count; i++)
            fds[i] = file_with(want[i] = (char)('a' + count + i));
        assert_int_equal(
            link_call(link, arena, &ask, &asked, slice_from(""), fds, count, &answer, &reply, soon(SECONDS(5)), &err),
            0);
        assert_string_equal(t.fd_content, want);
        assert_int_equal(reply.fd_count, count);
        for (unsigned i = 0; i < count; i++) {
            char c = 0;

            assert_true(pread(reply.fds[i], &c, 1, 0) == 1);
            assert_true(c == want[i]);
            close(fds[i]);
        }
        link_close_fds(&reply);
    }
    assert_int_equal(t.notes, LINK_MAX_FDS + 1);
    arena_free(&arena);
    link_free(&link);
}

static struct {
    unsigned answers, failures;
    char order[64];
} async;

static void
on_answer(void *ctx, struct link_message *reply, const struct err *err)
{
    (void)err;
    if (!reply) {
        async.failures++;
        return;
    }
    for (unsigned i = 0; i < reply->fd_count; i++) {
        assert_true(pread(reply->fds[i], async.order + async.answers, 1, 0) == 1);
        close(reply->fds[i]);
    }
    if (reply->fd_count == 0)
        async.order[async.answers] = (char)(intptr_t)ctx;
    async.answers++;
}

IN_TASK(descriptors_of_several_messages_in_one_turn)
{
    struct link *link = new_client();
    struct text asked = {"fds", 1};
    struct err err;

    (void)arg;
    memset(&async, 0, sizeof(async));
    for (int i = 0; i < 26; i++) {
        int fd = i % 3 ? file_with((char)('a' + i)) : -1;

        assert_int_equal(link_call_async(link, &ask, &asked, slice_make("payload", (size_t)i % 7), &fd, fd >= 0,
                                         &answer, on_answer, (void *)(intptr_t)('a' + i), &err),
                         0);
        if (fd >= 0)
            close(fd);
    }
    while (async.answers < 26)
        assert_int_equal(task_sleep(1000, &err), 0);
    assert_string_equal(async.order, "abcdefghijklmnopqrstuvwxyz");
    link_free(&link);
}

IN_TASK(late_answer_is_forgotten)
{
    struct link *link = new_client();
    struct err err;

    (void)arg;
    assert_int_equal(call(link, &slow, 50000, slice_from("x"), 5000, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    assert_int_equal(link_outstanding(link), 1);
    assert_int_equal(call(link, &slow, 100000, slice_from("x"), SECONDS(5), &err), 0);
    assert_int_equal(link_outstanding(link), 0);
    link_free(&link);
}

/* What is too large is not sent, nor are its descriptors; the link goes on. */
IN_TASK(frame_that_is_too_large_is_not_sent)
{
    struct link *link = new_client();
    char *much = calloc(1, LINK_FRAME_LIMIT);
    struct text asked = {"fds", 1};
    int fd = file_with('x'), before, after;
    struct err err;

    (void)arg;
    assert_non_null(much);
    assert_int_equal(call(link, &ask, 1, slice_from("x"), SECONDS(5), &err), 0);
    before = dup(0);
    close(before);
    for (int kind = 0; kind < 3; kind++) {
        struct slice payload = slice_make(much, LINK_FRAME_LIMIT);
        struct arena *arena = arena_new();
        struct link_message reply;
        int result = kind == 0   ? link_send(link, &note, &asked, payload, &fd, 1, &err)
                     : kind == 1 ? link_call_async(link, &ask, &asked, payload, &fd, 1, &answer, NULL, NULL, &err)
                                 : link_call(link, arena, &ask, &asked, payload, &fd, 1, &answer, &reply,
                                             soon(SECONDS(5)), &err);
        assert_int_equal(result, -1);
        assert_int_equal(err.kind, ERR_PERM);
        assert_int_equal(link_outstanding(link), 0);
        arena_free(&arena);
    }
    after = dup(0);
    close(after);
    assert_int_equal(after, before);
    assert_int_equal(call(link, &ask, 1, slice_from("x"), SECONDS(5), &err), 0);
    close(fd);
    free(much);
    link_free(&link);
}

/* A caller that is told so at once is not told a second time. */
IN_TASK(call_without_descriptors_left_fails_once)
{
    struct link *link = new_client();
    struct rlimit all, few;
    struct text asked = {"fds", 1};
    int fd = file_with('x'), next;
    struct err err;

    (void)arg;
    memset(&async, 0, sizeof(async));
    assert_int_equal(call(link, &ask, 1, slice_from("x"), SECONDS(5), &err), 0);
    assert_int_equal(link_call_async(link, &never, &asked, slice_from(""), NULL, 0, &answer, on_answer, NULL, &err), 0);
    next = dup(0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    few = all;
    few.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(link_call_async(link, &ask, &asked, slice_from(""), &fd, 1, &answer, on_answer, NULL, &err), -1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    assert_int_equal(async.failures, 1); /* the one before it, which went with the connection */
    assert_int_equal(call(link, &ask, 1, slice_from("x"), SECONDS(5), &err), 0);
    close(fd);
    link_free(&link);
}

static void
call_never(void *arg)
{
    struct err err;

    assert_int_equal(call(many.link, &never, 1, slice_from("x"), SECONDS(5), &err), -1);
    *(enum err_kind *)arg = err.kind;
}

IN_TASK(cancelled_call_returns_at_once)
{
    struct task_group group;
    enum err_kind kind = ERR_NONE;
    struct err err;

    (void)arg;
    many.link = new_client();
    task_group_init(&group);
    task_spawn(&group, "never", call_never, &kind);
    UNTIL(t.kept_count > 0);
    task_group_cancel(&group);
    task_group_join(&group);
    assert_int_equal(kind, ERR_CANCELLED);
    link_reply(t.kept[0], &answer, &(struct text){"late", 1}, slice_from(""), NULL, 0);
    assert_int_equal(call(many.link, &ask, 1, slice_from("x"), SECONDS(5), &err), 0);
    link_free(&many.link);
}

IN_TASK(broken_connection_fails_calls_and_heals)
{
    struct task_group group;
    enum err_kind kinds[3] = {ERR_NONE};
    struct err err;

    (void)arg;
    many.link = new_client();
    task_group_init(&group);
    for (unsigned i = 0; i < 3; i++)
        task_spawn(&group, "never", call_never, &kinds[i]);
    UNTIL(t.kept_count == 3);
    link_free(&t.server);
    task_group_join(&group);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(kinds[i], ERR_CLOSED);
    for (unsigned i = 0; i < 3; i++) /* answers into the void */
        link_reply(t.kept[i], &answer, &(struct text){"late", 1}, slice_from(""), NULL, 0);
    assert_int_equal(call(many.link, &ask, 1, slice_from("x"), SECONDS(5), &err), 0);
    link_free(&many.link);
}

IN_TASK(client_that_leaves_cancels_what_it_asked)
{
    struct link *link = new_client();
    struct text asked = {"long", SECONDS(1000)};
    struct err err;

    (void)arg;
    memset(&async, 0, sizeof(async));
    assert_int_equal(link_call_async(link, &slow, &asked, slice_from(""), NULL, 0, &answer, on_answer, NULL, &err), 0);
    UNTIL(task_count() == 3); /* main, acceptor, the handler */
    link_free(&link);
    assert_int_equal(async.failures, 1);
    UNTIL(task_count() == 2 && t.closed == 1);
}

IN_TASK(no_server_is_an_error_at_once)
{
    struct link *link = link_connect("/tmp/test_link.nosuch", NULL, 0, NULL, NULL);
    struct err err;

    (void)arg;
    assert_int_equal(call(link, &ask, 1, slice_from(""), SECONDS(5), &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    assert_int_equal(link_send(link, &note, &(struct text){"", 1}, slice_from(""), NULL, 0, &err), -1);
    link_free(&link);
}

IN_TASK(wrong_answer_ends_the_link)
{
    struct link *link = new_client();
    struct arena *arena = arena_new();
    struct link_message reply;
    struct err err;

    (void)arg;
    assert_int_equal(link_call(link, arena, &ask, &(struct text){"x", 1}, slice_from(""), NULL, 0, &wrong, &reply,
                               soon(SECONDS(5)), &err),
                     -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    UNTIL(!link_is_connected(link));
    arena_free(&arena);
    link_free(&link);
}

IN_TASK(what_the_table_does_not_allow_ends_the_link)
{
    struct link *link = new_client();
    struct err err;

    (void)arg;
    assert_int_equal(call(link, &forbidden, 1, slice_from(""), SECONDS(5), &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    assert_int_equal(call(link, &wrong, 1, slice_from(""), SECONDS(5), &err), -1); /* allowed, but not served */
    assert_int_equal(err.kind, ERR_CLOSED);
    assert_int_equal(call(link, &ask, 1, slice_from(""), SECONDS(5), &err), 0);
    link_free(&link);
}

IN_TASK(retired_server_is_left_when_nothing_is_outstanding)
{
    struct task_group group;
    enum err_kind kind = ERR_NONE;
    struct err err;

    (void)arg;
    many.link = new_client();
    task_group_init(&group);
    task_spawn(&group, "never", call_never, &kind);
    UNTIL(t.kept_count > 0);
    assert_int_equal(link_drain_servers(soon(20000), &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    assert_int_equal(link_server_count(), 1); /* the connection stays for the answer */
    assert_int_equal(kind, ERR_NONE);
    link_reply(t.kept[0], &wrong, &(struct text){"", 1}, slice_from(""), NULL, 0);
    task_group_join(&group);
    assert_int_equal(link_drain_servers(soon(SECONDS(5)), &err), 0);
    assert_int_equal(link_server_count(), 0);
    assert_false(link_is_connected(many.link));
    link_free(&many.link);
}

static struct {
    unsigned closed;
} told;

static void
call_answered(void *arg)
{
    struct err err;

    assert_int_equal(call(many.link, &never, 1, slice_from(""), SECONDS(5), &err), 0);
    *(bool *)arg = true;
}

static void
on_left(void *ctx, struct link *link)
{
    (void)ctx;
    (void)link;
    told.closed++;
}

/* Reaches the old server's request through what is left of the link. */
IN_TASK(calls_go_on_while_a_server_retires)
{
    struct task_group group;
    enum err_kind kind = ERR_NONE;
    bool answered = false;
    struct text asked = {"question", 1};
    struct err err;

    (void)arg;
    memset(&async, 0, sizeof(async));
    told.closed = 0;
    many.link = link_connect(t.path, NULL, 0, NULL, on_left);
    task_group_init(&group);
    task_spawn(&group, "answered", call_answered, &answered);
    task_spawn(&group, "never", call_never, &kind);
    assert_int_equal(
        link_call_async(many.link, &never, &asked, slice_from(""), NULL, 0, &answer, on_answer, NULL, &err), 0);
    UNTIL(t.kept_count == 3);
    link_retire_servers();
    UNTIL(told.closed == 1);
    assert_int_equal(link_outstanding(many.link), 0);
    /* All connections in this test are told to retire, so each call gets one of its own. */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(call(many.link, &ask, i, slice_from("new"), SECONDS(5), &err), 0);
    assert_false(answered);
    link_reply(t.kept[0], &answer, &asked, slice_from(""), NULL, 0); /* went first */
    link_reply(t.kept[1], &answer, &asked, slice_from(""), NULL, 0);
    UNTIL(answered && async.answers == 1);
    assert_int_equal(async.failures, 0);
    task_group_cancel(&group); /* the other waits for a connection that is not the link's own any more */
    task_group_join(&group);
    assert_int_equal(kind, ERR_CANCELLED);
    link_reply(t.kept[2], &answer, &asked, slice_from(""), NULL, 0);
    assert_int_equal(link_drain_servers(soon(SECONDS(5)), &err), 0);
    link_free(&many.link);
}

IN_TASK(link_that_is_given_up_fails_what_it_left_behind)
{
    struct text asked = {"x", 1};
    struct err err;

    (void)arg;
    memset(&async, 0, sizeof(async));
    many.link = new_client();
    assert_int_equal(
        link_call_async(many.link, &never, &asked, slice_from(""), NULL, 0, &answer, on_answer, NULL, &err), 0);
    UNTIL(t.kept_count == 1);
    link_retire_servers();
    UNTIL(!link_is_connected(many.link));
    link_free(&many.link);
    assert_int_equal(async.failures, 1);
    link_reply(t.kept[0], &answer, &asked, slice_from(""), NULL, 0);
}

static int
fill_backlog(int *fds, int most)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int count = 0;

    memcpy(sun.sun_path, t.path, strlen(t.path) + 1);
    for (; count < most; count++) {
        fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(fds[count], (struct sockaddr *)&sun, sizeof(sun)) < 0)
            break;
    }
    close(fds[count]);
    return count;
}

IN_TASK(link_may_be_given_up_while_a_call_waits_for_the_listener)
{
    struct task_group group;
    enum err_kind kind = ERR_NONE;
    struct err err;
    int fds[200], count;

    (void)arg;
    task_group_cancel(&t.group); /* nobody accepts */
    task_group_join(&t.group);
    count = fill_backlog(fds, 199);
    assert_in_range(count, 1, 198);
    many.link = new_client();
    task_group_init(&group);
    task_spawn(&group, "never", call_never, &kind);
    assert_int_equal(task_sleep(2000, &err), 0);
    link_free(&many.link);
    task_group_join(&group);
    assert_int_equal(kind, ERR_CLOSED);
    while (count > 0)
        close(fds[--count]);
}

/* --- foreign bytes --- */

struct head {
    uint32_t len;
    uint16_t type;
    uint8_t flags, fds;
    uint32_t request, message_len;
};

static void
send_raw(int fd, struct head head, struct slice body, const int *fds, unsigned fd_count)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * 10)];
    } control = {0};
    struct iovec iov[] = {{&head, sizeof(head)}, {(void *)(uintptr_t)body.ptr, body.len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (fd_count) {
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * fd_count);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    }
    assert_true(sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)(sizeof(head) + body.len));
}

#define HELLO     "version\0001\0program\0tester\0pid\0001\0\0"
#define HELLO_LEN (sizeof(HELLO) - 1)

static void
send_hello(int fd)
{
    send_raw(fd, (struct head){HELLO_LEN, 1, 0, 0, 0, HELLO_LEN}, slice_make(HELLO, HELLO_LEN), NULL, 0);
}

/* Reads until the other side closes; false if it does not. */
static bool
is_closed(int fd)
{
    char bytes[1024];

    for (int i = 0; i < 100; i++) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return true;
        if (n < 0)
            loop_turn(1000);
    }
    return false;
}

static void
test_malformed_frames_end_the_link(void **state)
{
    static const char body[] = "text\0x\0\0";
    const uint32_t len = sizeof(body) - 1;
    const struct {
        const char *name;
        bool hello, good;
        struct head head;
        unsigned fds;
    } rows[] = {
        {"a good one", true, true, {len, 16, 1, 0, 1, len}, 0},
        {"a good one with descriptors", true, true, {len, 16, 1, 2, 1, len}, 2},
        {"no hello", false, false, {len, 16, 1, 0, 1, len}, 0},
        {"hello twice", true, false, {len, 1, 0, 0, 0, len}, 0},
        {"unknown type", true, false, {len, 999, 1, 0, 1, len}, 0},
        {"own type", true, false, {len, 3, 1, 0, 1, len}, 0},
        {"retire from a client", true, false, {len, 2, 0, 0, 0, len}, 0},
        {"unknown flags", true, false, {len, 16, 9, 0, 1, len}, 0},
        {"answer to nothing", true, false, {len, 17, 2, 0, 1, len}, 0},
        {"too long", true, false, {LINK_FRAME_LIMIT + 1, 16, 1, 0, 1, len}, 0},
        {"message longer than the frame", true, false, {len, 16, 1, 0, 1, len + 1}, 0},
        {"message cut", true, false, {len, 16, 1, 0, 1, len - 1}, 0},
        {"descriptor missing", true, false, {len, 16, 1, 1, 1, len}, 0},
        {"descriptor not announced", true, false, {len, 16, 1, 0, 1, len}, 1},
        {"more descriptors than announced", true, false, {len, 16, 1, 1, 1, len}, 2},
        {"many descriptors", true, false, {len, 16, 1, 4, 1, len}, 9},
        {"too many announced", true, false, {len, 16, 1, 5, 1, len}, 4},
    };
    int own[9];

    (void)state;
    for (int i = 0; i < 9; i++)
        own[i] = file_with('x');
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int before = dup(0), fd = raw_connect(), after;

        close(before);
        if (rows[i].hello)
            send_hello(fd);
        send_raw(fd, rows[i].head, slice_make(body, len), own, rows[i].fds);
        if (is_closed(fd) == rows[i].good)
            fail_msg("%s: %s", rows[i].name, rows[i].good ? "closed" : "not closed");
        close(fd);
        settle();
        after = dup(0);
        close(after);
        if (after != before)
            fail_msg("%s: leaks a descriptor", rows[i].name);
    }
    for (int i = 0; i < 9; i++)
        close(own[i]);
}

static void
test_frames_may_be_split_anywhere(void **state)
{
    static const char body[] = "text\0question\0\0payload";
    struct head hello = {HELLO_LEN, 1, 0, 0, 0, HELLO_LEN}, head = {sizeof(body) - 1, 19, 0, 0, 0, 15};
    char all[300];
    size_t len = 0;

    (void)state;
    memcpy(all, &hello, sizeof(hello));
    memcpy(all + sizeof(hello), HELLO, HELLO_LEN);
    len = sizeof(hello) + HELLO_LEN;
    for (int i = 0; i < 2; i++) {
        memcpy(all + len, &head, sizeof(head));
        memcpy(all + len + sizeof(head), body, sizeof(body) - 1);
        len += sizeof(head) + sizeof(body) - 1;
    }
    for (size_t cut = 1; cut < len; cut++) {
        int fd = raw_connect();

        t.notes = 0;
        assert_true(send(fd, all, cut, 0) == (ssize_t)cut);
        for (int i = 0; i < 4; i++)
            loop_turn(0);
        assert_true(send(fd, all + cut, len - cut, 0) == (ssize_t)(len - cut));
        for (int i = 0; i < 4; i++)
            loop_turn(0);
        assert_int_equal(t.notes, 2);
        close(fd);
    }
}

static void
test_public_socket_takes_triggers_and_links(void **state)
{
    int fd;

    (void)state;
    t.public_socket = true;
    fd = raw_connect();
    assert_true(send(fd, "W", 1, 0) == 1);
    assert_true(is_closed(fd));
    close(fd);
    assert_int_equal(t.triggers, 1);
    assert_string_equal(t.trigger, "W");
    fd = raw_connect();
    send_hello(fd);
    assert_false(is_closed(fd));
    assert_int_equal(t.triggers, 1);
    close(fd);
    fd = raw_connect();
    assert_true(send(fd, "xyz1234567890123456", 19, 0) == 19);
    assert_true(is_closed(fd));
    close(fd);
    assert_int_equal(t.triggers, 1);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(call_gets_its_answer),
        T(payloads_of_all_sizes_arrive),
        T(many_tasks_share_a_link),
        T(descriptors_stay_with_their_message),
        T(descriptors_of_several_messages_in_one_turn),
        T(late_answer_is_forgotten),
        T(frame_that_is_too_large_is_not_sent),
        T(call_without_descriptors_left_fails_once),
        T(cancelled_call_returns_at_once),
        T(broken_connection_fails_calls_and_heals),
        T(client_that_leaves_cancels_what_it_asked),
        T(no_server_is_an_error_at_once),
        T(wrong_answer_ends_the_link),
        T(what_the_table_does_not_allow_ends_the_link),
        T(retired_server_is_left_when_nothing_is_outstanding),
        T(calls_go_on_while_a_server_retires),
        T(link_that_is_given_up_fails_what_it_left_behind),
        T(link_may_be_given_up_while_a_call_waits_for_the_listener),
        T(malformed_frames_end_the_link),
        T(frames_may_be_split_anywhere),
        T(public_socket_takes_triggers_and_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
