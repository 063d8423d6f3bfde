/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/proxy_header: both versions, at every split, with what must not be believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/compiler.h"
#include "lib/run/net.h"
#include "lib/run/proxy_header.h"
#include "lib/run/task.h"
#include "tests/unit/with_loop.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(text)               \
    {                             \
        "" text, sizeof(text) - 1 \
    }
#define ANY16  "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x07"

/* want: "client port server port"; "local"; "" is refused; "more": the beginning of one. */
static const struct {
    struct slice in;
    const char *want;
} rows[] = {
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 143\r\n"), "192.0.2.1 4000 198.51.100.2 143"},
    {BYTES("PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n"), "2001:db8::1 65535 2001:db8::2 0"},
    {BYTES("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n"), "192.0.2.7 1 ::1 2"},
    {BYTES("PROXY UNKNOWN\r\n"), "local"},
    {BYTES("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), "local"},
    {BYTES("PROXY"), "more"},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 143\r"), "more"},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 143\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 143 \r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 143 5\r\n"), ""},
    {BYTES("PROXY TCP4  192.0.2.1 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 65536\r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 4000 -1\r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 04000 143\r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("PROXY TCP4 2001:db8::1 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("PROXY TCP6 192.0.2.1 ::1 4000 143\r\n"), ""},
    {BYTES("PROXY TCP4 192.0.2.1\0 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("PROXY TCP5 192.0.2.1 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("PROXY tcp4 192.0.2.1 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("PROXY \r\n"), ""},
    {BYTES("PROXYTCP4 192.0.2.1 198.51.100.2 4000 143\r\n"), ""},
    {BYTES("EHLO client.test\r\n"), ""},
    {BYTES("\n"), ""},
    {BYTES("\x16\x03\x01"), ""},
    {BYTES(V2 "\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f"), "192.0.2.1 4000 198.51.100.2 143"},
    {BYTES(V2 "\x21\x21\0\x24" ANY16 MAPPED "\x0f\xa0\0\x8f"), "2001:db8::1 4000 192.0.2.7 143"},
    {BYTES(V2 "\x21\x11\0\x10\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f\x04\0\x01x"),
     "192.0.2.1 4000 198.51.100.2 143"}, /* with something behind the addresses */
    {BYTES(V2 "\x20\x00\0\0"), "local"},
    {BYTES(V2 "\x20\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f"), "local"},
    {BYTES(V2 "\x21\x00\0\0"), "local"},
    {BYTES(V2), "more"},
    {BYTES(V2 "\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0"), "more"},
    {BYTES(V2 "\x21\x11\0\x0b\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0"), ""},
    {BYTES(V2 "\x21\x21\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f"), ""},
    {BYTES(V2 "\x21\x12\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f"), ""}, /* UDP */
    {BYTES(V2 "\x21\x31\0\x01x"), ""},                                            /* Unix sockets */
    {BYTES(V2 "\x11\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f"), ""},
    {BYTES(V2 "\x22\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x8f"), ""},
    {BYTES(V2 "\x21\x11\xff\xff"), ""},
};

static const char *
shown(int result, const struct proxy_header *h, char *text, size_t size)
{
    char client[INET6_ADDRSTRLEN], server[INET6_ADDRSTRLEN];

    if (result <= 0)
        return result < 0 ? "" : "more";
    if (h->is_local)
        return "local";
    net_addr_format(&h->client, client, sizeof client);
    net_addr_format(&h->server, server, sizeof server);
    snprintf(text, size, "%s %u %s %u", client, net_addr_port(&h->client), server, net_addr_port(&h->server));
    return text;
}

static void
test_headers(void **state)
{
    struct proxy_header header;
    char text[200];
    size_t used;
    struct err err;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int result = proxy_header_decode(rows[i].in, &header, &used, &err);
        assert_string_equal(shown(result, &header, text, sizeof text), rows[i].want);
        if (result > 0)
            assert_int_equal(used, rows[i].in.len);
    }
}

static void
test_the_beginning_of_a_header_waits_for_more(void **state)
{
    struct proxy_header header;
    size_t used;
    struct err err;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t len = 0; rows[i].want[0] && len < rows[i].in.len; len++)
            assert_int_equal(proxy_header_decode(slice_make(rows[i].in.ptr, len), &header, &used, &err), 0);
}

static void
test_a_line_without_end_is_refused(void **state)
{
    char line[200] = "PROXY UNKNOWN ";
    struct proxy_header header;
    size_t used;
    struct err err;
    (void)state;

    memset(line + 14, 'x', sizeof line - 14);
    assert_int_equal(proxy_header_decode(slice_make(line, 106), &header, &used, &err), 0);
    assert_int_equal(proxy_header_decode(slice_make(line, 107), &header, &used, &err), -1);
}

/* ---- reading ---- */

static void
read_it(void *arg)
{
    int *fds = arg;
    struct proxy_header header;
    char text[200];
    struct err err;

    assert_int_equal(proxy_header_read(fds[0], loop_now() + SECONDS(20), &header, &err), 0);
    assert_string_equal(shown(1, &header, text, sizeof text), "192.0.2.1 4000 198.51.100.2 143");
    fds[2]++;
}

static void
what_follows(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].want, "192.0.2.1 4000 198.51.100.2 143") != 0)
            continue;
        for (size_t split = 1; split <= rows[i].in.len; split++) {
            int fds[3] = {0};
            char all[200], rest[10] = "";
            struct task_group group;
            struct err err;

            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
            memcpy(all, rows[i].in.ptr, rows[i].in.len);
            memcpy(all + rows[i].in.len, "hello", 5);
            assert_int_equal(write(fds[1], all, split), split);
            task_group_init(&group);
            task_spawn(&group, "reader", read_it, fds);
            for (int turn = 0; turn < 3; turn++)
                assert_int_equal(task_yield(&err), 0);
            assert_int_equal(write(fds[1], all + split, rows[i].in.len + 5 - split), rows[i].in.len + 5 - split);
            task_group_join(&group);
            assert_int_equal(fds[2], 1);
            assert_int_equal(read(fds[0], rest, sizeof rest), 5);
            assert_string_equal(rest, "hello");
            close(fds[0]);
            close(fds[1]);
        }
    }
}

static void
test_what_follows_a_header_stays_in_the_socket(void **state)
{
    (void)state;
    task_run_main(what_follows, NULL);
}

static void
ends(void *arg)
{
    struct proxy_header header;
    struct err err;
    int fds[2];
    (void)arg;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(write(fds[1], "PROXY ", 6), 6);
    assert_int_equal(proxy_header_read(fds[0], loop_now() + SECONDS(1) / 100, &header, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    close(fds[1]);
    assert_int_equal(proxy_header_read(fds[0], loop_now() + SECONDS(20), &header, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    close(fds[0]);
}

static void
test_ends(void **state)
{
    (void)state;
    task_run_main(ends, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_the_beginning_of_a_header_waits_for_more),
        cmocka_unit_test(test_a_line_without_end_is_refused),
        cmocka_unit_test_setup_teardown(test_what_follows_a_header_stays_in_the_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
    };
    return cmocka_run_group_tests_name("PROXY protocol", tests, NULL, NULL);
}
