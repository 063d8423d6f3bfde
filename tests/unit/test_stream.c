/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/stream without TLS: lines at every split, limits, what is written when, ends, errors, deadlines. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"
#include "lib/run/stream_private.h"
#include "lib/run/task.h"
#include "tests/unit/with_loop.h"

/* A stream and the other end of its socket; packets: one write is one read. */
static struct stream *
open_pair(int *peer, int type)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(net_set_nonblocking(fds[1], true), 0);
    *peer = fds[1];
    struct stream *s = stream_new(fds[0]);
    stream_set_deadline(s, loop_now() + SECONDS(10));
    return s;
}

static void
give_turns(int count)
{
    struct err err;
    while (count-- > 0)
        assert_int_equal(task_yield(&err), 0);
}

/* --- lines ----------------------------------------------------------------------------------------------------- */

/* What comes out, each line with a mark for its end: "/" CRLF, "|" LF, "+" cut; "." is the end of the input. */
static const struct {
    const char *in;
    size_t max;
    const char *want;
} line_rows[] = {
    {"", 10, "."},
    {"a\r\n", 10, "a/."},
    {"a\n", 10, "a|."},
    {"\r\n\n\r\n", 10, "/|/."},
    {"EHLO x\r\nMAIL FROM:<a@b>\r\nQUIT\r\n", 100, "EHLO x/MAIL FROM:<a@b>/QUIT/."},
    {"no end", 10, "."},
    {"a\rb\r\n", 10, "a\rb/."},
    {"a\r\r\n", 10, "a\r/."},
    {"12345\r\n12345\n", 5, "12345/12345|."},
    {"123456\r\n", 5, "12345+6/."},
    {"123456\n", 5, "12345+6|."},
    {"1234567890\r\nab\r\n", 5, "12345+67890/ab/."},
    {"12345678901\nab\r\n", 5, "12345+67890+1|ab/."},
    {"12345\r6\r\n", 5, "12345+\r6/."},
    {"1234\r\r\n", 5, "1234\r/."},
    {"12345\r\r\n", 5, "12345+\r/."},
    {"12345678901234567890", 5, "12345+67890+12345+."},
    {"a\r\nb", 1, "a/."},
};

struct line_case {
    int fd;
    const char *bytes;
    size_t len, split; /* split 0: byte by byte */
};

static void
send_in_pieces(void *arg)
{
    struct line_case *c = arg;
    size_t step = c->split ? c->split : 1;
    for (size_t at = 0; at < c->len; at += step, step = c->split ? c->len : 1) {
        size_t n = step < c->len - at ? step : c->len - at;
        assert_int_equal(write(c->fd, c->bytes + at, n), n);
        give_turns(2);
    }
    close(c->fd);
}

static void
collect_lines(struct stream *s, size_t max, struct buf *got)
{
    static const char marks[] = {[STREAM_LINE_CRLF] = '/', [STREAM_LINE_LF] = '|', [STREAM_LINE_CUT] = '+'};
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    while (stream_read_line(s, max, &line, &ending, &err) == 0) {
        buf_append_slice(got, line);
        buf_append_byte(got, marks[ending]);
    }
    assert_int_equal(err.kind, ERR_CLOSED);
    buf_append_byte(got, '.');
}

static void
read_split_input(const char *in, size_t max, size_t split, const char *want)
{
    struct line_case c = {.bytes = in, .len = strlen(in), .split = split};
    struct stream *s = open_pair(&c.fd, SOCK_STREAM);
    struct task_group group;
    struct buf got = {0};
    task_group_init(&group);
    task_spawn(&group, "sender", send_in_pieces, &c);
    collect_lines(s, max, &got);
    /* a line that the input's end cut short is dropped: how much of it was seen as cut does not depend on splits */
    if (strcmp(buf_text(&got), want) != 0)
        fail_msg("max %zu, split %zu: got %s, want %s", max, split, buf_text(&got), want);
    task_group_join(&group);
    stream_free(&s);
    buf_release(&got);
}

static void
lines_body(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(line_rows); i++)
        for (size_t split = 0; split <= strlen(line_rows[i].in); split++)
            read_split_input(line_rows[i].in, line_rows[i].max, split, line_rows[i].want);
}

static void
lines_at_every_split(void **state)
{
    (void)state;
    task_run_main(lines_body, NULL);
}

struct blast {
    struct stream *s;
    const char *bytes;
    size_t len;
};

static void
send_blast(void *arg)
{
    struct blast *blast = arg;
    struct err err;
    assert_int_equal(stream_write_through(blast->s, blast->bytes, blast->len, &err), 0);
    stream_free(&blast->s);
}

/* Many lines of all lengths up to the limit: the buffer is moved, filled to the brim, and emptied. */
static void
long_lines_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    struct blast blast = {.s = stream_new(peer)};
    struct buf sent = {0};
    struct task_group group;
    struct err err;
    struct slice line;
    enum stream_line_end ending;
    const size_t max = STREAM_IN_SIZE - 2;
    (void)arg;
    for (size_t len = 0; len <= max; len = len * 3 / 2 + 1) {
        memset(buf_reserve(&sent, len), 'a' + (int)(len % 26), len);
        buf_added(&sent, len);
        buf_append_text(&sent, "\r\n");
    }
    memset(buf_reserve(&sent, max), 'z', max);
    buf_added(&sent, max);
    buf_append_text(&sent, "\r\n");
    blast.bytes = sent.ptr;
    blast.len = sent.len;
    task_group_init(&group);
    task_spawn(&group, "sender", send_blast, &blast);
    for (size_t len = 0; len <= max; len = len * 3 / 2 + 1) {
        assert_int_equal(stream_read_line(s, max, &line, &ending, &err), 0);
        assert_int_equal(ending, STREAM_LINE_CRLF);
        assert_int_equal(line.len, len);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(line.ptr[i], 'a' + (int)(len % 26));
    }
    assert_int_equal(stream_read_line(s, max, &line, &ending, &err), 0);
    assert_int_equal(line.len, max);
    task_group_join(&group);
    stream_free(&s);
    buf_release(&sent);
}

static void
lines_up_to_the_limit(void **state)
{
    (void)state;
    task_run_main(long_lines_body, NULL);
}

/* --- blocks ---------------------------------------------------------------------------------------------------- */

static void
peek_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    struct slice bytes;
    struct err err;
    char four[4];
    (void)arg;
    assert_int_equal(write(peer, "abc", 3), 3);
    assert_false(stream_buffered(s) > 0);
    assert_true(stream_has_input(s));
    assert_int_equal(stream_peek(s, &bytes, &err), 0);
    assert_true(slice_equal_text(bytes, "abc"));
    stream_take(s, 1);
    assert_int_equal(write(peer, "defgh", 5), 5);
    assert_int_equal(stream_peek(s, &bytes, &err), 0);
    assert_true(slice_equal_text(bytes, "bc"));
    assert_int_equal(stream_peek_more(s, &bytes, &err), 0);
    assert_true(slice_equal_text(bytes, "bcdefgh"));
    assert_int_equal(stream_read(s, four, 4, &err), 0);
    assert_memory_equal(four, "bcde", 4);
    assert_int_equal(stream_buffered(s), 3);
    stream_take(s, 3);
    assert_false(stream_has_input(s));
    close(peer);
    assert_false(stream_has_input(s));
    assert_int_equal(stream_peek(s, &bytes, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    stream_free(&s);
}

static void
peek_and_take(void **state)
{
    (void)state;
    task_run_main(peek_body, NULL);
}

static void
peek_full_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    char block[STREAM_IN_SIZE / 8] = {0};
    struct slice bytes = {0};
    struct err err;
    (void)arg;
    for (int i = 0; i < 9; i++)
        assert_int_equal(write(peer, block, sizeof(block)), sizeof(block));
    while (bytes.len < STREAM_IN_SIZE)
        assert_int_equal(stream_peek_more(s, &bytes, &err), 0);
    assert_int_equal(stream_peek_more(s, &bytes, &err), -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    stream_take(s, 1);
    assert_int_equal(stream_peek_more(s, &bytes, &err), 0);
    assert_int_equal(bytes.len, STREAM_IN_SIZE);
    close(peer);
    stream_free(&s);
}

static void
peek_ends_at_a_full_buffer(void **state)
{
    (void)state;
    task_run_main(peek_full_body, NULL);
}

static void
large_body(void *arg)
{
    enum { SIZE = 5 << 20 };
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    char *sent = malloc(SIZE), *got = malloc(SIZE);
    struct blast blast = {.s = stream_new(peer), .bytes = sent, .len = SIZE};
    struct task_group group;
    struct err err;
    (void)arg;
    assert_non_null(sent);
    assert_non_null(got);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (char)(i * 7 + i / 4093);
    stream_write(blast.s, "head", 4);
    task_group_init(&group);
    task_spawn(&group, "sender", send_blast, &blast);
    assert_int_equal(stream_read(s, got, 4, &err), 0);
    assert_memory_equal(got, "head", 4);
    assert_int_equal(stream_read(s, got, 1000, &err), 0);
    assert_int_equal(stream_read(s, got + 1000, SIZE - 1000, &err), 0);
    assert_memory_equal(got, sent, SIZE);
    task_group_join(&group);
    stream_free(&s);
    free(sent);
    free(got);
}

static void
large_blocks(void **state)
{
    (void)state;
    task_run_main(large_body, NULL);
}

/* As bulk is switched on and off, with bytes left over at each switch; lines go on where blocks ended. */
static void
bulk_body(void *arg)
{
    enum { SIZE = 4 << 20 };
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    char *sent = malloc(SIZE);
    struct blast blast = {.s = stream_new(peer), .bytes = sent, .len = SIZE};
    struct task_group group;
    struct slice bytes;
    struct err err;
    size_t at = 0, most = 0;
    (void)arg;
    assert_non_null(sent);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (char)(i * 7 + i / 4093);
    task_group_init(&group);
    task_spawn(&group, "sender", send_blast, &blast);
    for (unsigned n = 0; at < SIZE; n++) {
        stream_set_bulk(s, n % 7 != 0);
        assert_int_equal(stream_peek(s, &bytes, &err), 0);
        assert_memory_equal(bytes.ptr, sent + at, bytes.len);
        most = bytes.len > most ? bytes.len : most;
        size_t take = n % 3 == 0 && bytes.len > 1 ? bytes.len / 2 : bytes.len;
        at += take;
        stream_take(s, take);
    }
    assert_true(most > STREAM_IN_SIZE && most <= STREAM_BULK_SIZE);
    task_group_join(&group);
    assert_int_equal(stream_peek(s, &bytes, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    stream_free(&s);
    free(sent);
}

static void
bulk_blocks(void **state)
{
    (void)state;
    task_run_main(bulk_body, NULL);
}

/* Only so many streams have large buffers at once; the others go on with small ones. */
static void
many_bulk_body(void *arg)
{
    enum { COUNT = STREAM_BULK_COUNT + 4, SIZE = 2 * STREAM_IN_SIZE };
    static const char block[SIZE];
    struct stream *streams[COUNT];
    int peers[COUNT];
    unsigned large = 0;
    struct slice bytes;
    struct err err;
    (void)arg;
    for (unsigned round = 0; round < 2; round++) {
        large = 0;
        for (unsigned i = 0; i < COUNT; i++) {
            streams[i] = open_pair(&peers[i], SOCK_STREAM);
            stream_set_bulk(streams[i], true);
            assert_int_equal(write(peers[i], block, SIZE), SIZE);
            assert_int_equal(stream_peek(streams[i], &bytes, &err), 0);
            large += bytes.len > STREAM_IN_SIZE;
        }
        assert_int_equal(large, STREAM_BULK_COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            close(peers[i]);
            stream_free(&streams[i]);
        }
    }
}

static void
few_have_large_buffers(void **state)
{
    (void)state;
    task_run_main(many_bulk_body, NULL);
}

/* --- output ---------------------------------------------------------------------------------------------------- */

static void
echo_lines(void *arg)
{
    struct stream *s = arg;
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    while (stream_read_line(s, 100, &line, &ending, &err) == 0)
        stream_printf(s, "re %.*s\r\n", SLICE_ARG(line));
    assert_int_equal(err.kind, ERR_CLOSED);
}

static void
expect_packet(int fd, const char *want)
{
    char got[1000];
    ssize_t n = read(fd, got, sizeof(got) - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_string_equal(got, want);
}

static void
replies_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_SEQPACKET);
    struct task_group group;
    char byte;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "echo", echo_lines, s);
    assert_int_equal(write(peer, "a\r\nb\r\nc", 7), 7);
    give_turns(4);
    expect_packet(peer, "re a\r\nre b\r\n"); /* together, and before the rest of the third line is waited for */
    assert_int_equal(read(peer, &byte, 1), -1);
    assert_int_equal(write(peer, "d\r\n", 3), 3);
    give_turns(4);
    expect_packet(peer, "re cd\r\n");
    /* what is still to be answered when the input ends is answered */
    assert_int_equal(write(peer, "last\r\n", 6), 6);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    task_group_join(&group);
    expect_packet(peer, "re last\r\n");
    close(peer);
    stream_free(&s);
}

static void
replies_go_out_together_before_a_wait(void **state)
{
    (void)state;
    task_run_main(replies_body, NULL);
}

static void
wait_for_a_line(void *arg)
{
    struct stream *s = arg;
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    assert_int_equal(stream_read_line(s, 100, &line, &ending, &err), 0);
    stream_write_text(s, "thanks");
    assert_int_equal(stream_flush(s, &err), 0);
    assert_int_equal(stream_read_line(s, 100, &line, &ending, &err), -1);
}

static void
idle_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    struct task_group group;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "idler", wait_for_a_line, s);
    for (int i = 0; i < 2; i++) {
        give_turns(3);
        assert_null(s->in);
        assert_null(s->out.base);
        assert_int_equal(write(peer, &"x\r\n"[3 * i], (size_t)(3 - 3 * i)), 3 - 3 * i);
        if (i == 0)
            give_turns(3);
    }
    close(peer);
    task_group_join(&group);
    stream_free(&s);
}

static void
idle_streams_hold_no_buffers(void **state)
{
    (void)state;
    task_run_main(idle_body, NULL);
}

static void
write_to_nobody_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    char block[1000] = {0};
    struct err err;
    struct slice bytes;
    (void)arg;
    /* a reader that does not read */
    stream_set_deadline(s, loop_now() + 20000);
    for (int i = 0; i < 2000; i++)
        stream_write(s, block, sizeof(block));
    assert_int_equal(stream_flush(s, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    assert_int_equal(stream_peek(s, &bytes, &err), -1); /* errors stick */
    assert_int_equal(err.kind, ERR_TIMEOUT);
    stream_free(&s);
    close(peer);
    /* one that has gone */
    s = open_pair(&peer, SOCK_STREAM);
    close(peer);
    stream_write_text(s, "hello?");
    assert_int_equal(stream_flush(s, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    stream_free(&s);
}

static void
output_that_nobody_takes(void **state)
{
    (void)state;
    task_run_main(write_to_nobody_body, NULL);
}

/* --- ends ------------------------------------------------------------------------------------------------------ */

static void
deadline_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    (void)arg;
    assert_int_equal(write(peer, "half a line", 11), 11);
    stream_set_deadline(s, loop_now() + 20000);
    usec_t before = clock_monotonic();
    assert_int_equal(stream_read_line(s, 100, &line, &ending, &err), -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    assert_true(clock_monotonic() - before >= 20000);
    stream_free(&s);
    close(peer);
}

static void
deadline_ends_a_read(void **state)
{
    (void)state;
    task_run_main(deadline_body, NULL);
}

static void
expect_closed(void *arg)
{
    struct stream *s = arg;
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    assert_int_equal(stream_read_line(s, 100, &line, &ending, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
}

static void
cancel_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    struct task_group group;
    struct err err;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "reader", expect_closed, s);
    give_turns(2);
    stream_cancel(s);
    task_group_join(&group);
    assert_int_equal(stream_flush(s, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    stream_free(&s);
    close(peer);
}

static void
another_task_may_end_it(void **state)
{
    (void)state;
    task_run_main(cancel_body, NULL);
}

static void
expect_line_and_end(void *arg)
{
    struct stream *s = arg;
    enum stream_line_end ending;
    struct slice line;
    struct err err;
    assert_int_equal(stream_read_line(s, 100, &line, &ending, &err), 0);
    assert_true(slice_equal_text(line, "bye"));
    assert_int_equal(stream_read_line(s, 100, &line, &ending, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
}

/* A peer that goes with our bytes unread makes a reset, in the same edge as its last bytes. */
static void
reset_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    struct task_group group;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "reader", expect_line_and_end, s);
    give_turns(2);
    assert_int_equal(write(stream_fd(s), "unread", 6), 6);
    assert_int_equal(write(peer, "bye\r\n", 5), 5);
    close(peer);
    task_group_join(&group);
    stream_free(&s);
}

static void
a_reset_behind_the_last_bytes_is_noticed(void **state)
{
    (void)state;
    task_run_main(reset_body, NULL);
}

static void
idle_alive_body(void *arg)
{
    int peer;
    struct stream *s = open_pair(&peer, SOCK_STREAM);
    (void)arg;
    assert_true(stream_is_idle_alive(s));
    assert_int_equal(write(peer, "421 bye\r\n", 9), 9);
    assert_false(stream_is_idle_alive(s));
    stream_free(&s);
    close(peer);
    s = open_pair(&peer, SOCK_STREAM);
    close(peer);
    assert_false(stream_is_idle_alive(s));
    stream_free(&s);
}

static void
idle_connections_are_looked_at(void **state)
{
    (void)state;
    task_run_main(idle_alive_body, NULL);
}

static void
count_turns(void *arg)
{
    unsigned *turns = arg;
    struct err err;
    while (task_yield(&err) == 0)
        (*turns)++;
}

static void
fair_body(void *arg)
{
    struct task_group group;
    struct stream *s = stream_new(open("/dev/zero", O_RDONLY));
    char block[1000];
    struct err err;
    unsigned turns = 0;
    (void)arg;
    task_group_init(&group);
    task_spawn(&group, "other", count_turns, &turns);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(stream_read(s, block, sizeof(block), &err), 0);
    assert_true(turns > 10);
    task_group_cancel(&group);
    task_group_join(&group);
    stream_free(&s);
}

static void
endless_input_leaves_others_their_turn(void **state)
{
    (void)state;
    task_run_main(fair_body, NULL);
}

/* A daemon that is run by hand may have a file as its input. */
static void
file_body(void *arg)
{
    char name[] = "/tmp/test_stream.XXXXXX";
    int fd = mkstemp(name);
    struct buf got = {0};
    (void)arg;
    assert_true(fd >= 0);
    unlink(name);
    assert_int_equal(write(fd, "one\r\ntwo\r\n", 10), 10);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct stream *s = stream_new(fd);
    collect_lines(s, 100, &got);
    assert_string_equal(buf_text(&got), "one/two/.");
    buf_release(&got);
    stream_free(&s);
}

static void
files_end(void **state)
{
    (void)state;
    task_run_main(file_body, NULL);
}

/* --- connecting ------------------------------------------------------------------------------------------------ */

static void
connect_body(void *arg)
{
    struct net_addr addr, bound = {.len = sizeof(bound.in6)};
    struct err err;
    (void)arg;
    assert_int_equal(net_addr_parse("127.0.0.1", 0, &addr, &err), 0);
    int listener = net_listen(&addr, 5, 0, &err);
    assert_true(listener >= 0);
    assert_int_equal(getsockname(listener, &bound.any, &bound.len), 0);
    assert_true(net_addr_port(&bound) != 0);
    int fd = net_connect(&bound, &addr, loop_now() + SECONDS(5), &err);
    assert_true(fd >= 0);
    close(fd);
    close(listener);
    assert_int_equal(net_connect(&bound, NULL, loop_now() + SECONDS(5), &err), -1);
    assert_string_equal(err.text, "Connection refused");
    assert_int_equal(err.code, ECONNREFUSED);
}

static void
connect_and_listen(void **state)
{
    (void)state;
    task_run_main(connect_body, NULL);
}

static void
connect_unix_body(void *arg)
{
    char dir[] = "/tmp/test_stream.XXXXXX", path[100];
    struct net_addr addr;
    struct err err;
    int fds[3];
    (void)arg;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/socket", dir);
    assert_int_equal(net_addr_unix(path, &addr, &err), 0);
    int listener = net_listen(&addr, 1, 0600, &err);
    assert_true(listener >= 0);
    close(listener);
    listener = net_listen(&addr, 1, 0600, &err); /* in place of the stale one */
    assert_true(listener >= 0);
    fds[0] = net_connect(&addr, NULL, loop_now() + SECONDS(5), &err);
    fds[1] = net_connect(&addr, NULL, loop_now() + SECONDS(5), &err);
    assert_true(fds[0] >= 0 && fds[1] >= 0);
    fds[2] = net_connect(&addr, NULL, loop_now() + 30000, &err); /* the queue is full */
    assert_int_equal(fds[2], -1);
    assert_int_equal(err.kind, ERR_TIMEOUT);
    close(fds[0]);
    close(fds[1]);
    close(listener);
    unlink(path);
    rmdir(dir);
}

static void
connect_and_listen_unix(void **state)
{
    (void)state;
    task_run_main(connect_unix_body, NULL);
}

static void
addresses(void **state)
{
    static const struct {
        const char *in, *want; /* NULL: refused */
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:DB8::1", "2001:db8::1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::", "::"},
        {"192.0.2", NULL},
        {"192.0.2.256", NULL},
        {"example.org", NULL},
        {"", NULL},
        {"[::1]", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_addr addr;
        struct err err;
        char text[INET6_ADDRSTRLEN];
        int status = net_addr_parse(rows[i].in, 25, &addr, &err);
        assert_int_equal(status, rows[i].want ? 0 : -1);
        if (status < 0)
            continue;
        net_addr_format(&addr, text, sizeof(text));
        assert_string_equal(text, rows[i].want);
        assert_int_equal(net_addr_port(&addr), 25);
        assert_true(net_addr_equal_host(&addr, &addr));
    }
}

static void
networks(void **state)
{
    static const struct {
        const char *in;
        unsigned v4, v6;
        const char *want;
    } rows[] = {
        {"192.0.2.1", 32, 64, "192.0.2.1"},
        {"192.0.2.1", 28, 64, "192.0.2.0/28"},
        {"192.0.2.255", 1, 64, "128.0.0.0/1"},
        {"192.0.2.255", 0, 64, "0.0.0.0/0"},
        {"2001:db8:1:2:3:4:5:6", 32, 64, "2001:db8:1:2::/64"},
        {"2001:db8:1:2:ffff:ffff:ffff:ffff", 32, 67, "2001:db8:1:2:e000::/67"},
        {"2001:db8:1:2:3:4:5:6", 32, 128, "2001:db8:1:2:3:4:5:6"},
        {"::ffff:192.0.2.1", 24, 64, "192.0.2.0/24"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_addr addr;
        struct err err;
        char text[NET_NETWORK_SIZE];
        assert_int_equal(net_addr_parse(rows[i].in, 25, &addr, &err), 0);
        net_addr_network(&addr, rows[i].v4, rows[i].v6, text, sizeof(text));
        assert_string_equal(text, rows[i].want);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_at_every_split, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_up_to_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(peek_and_take, setup, teardown),
        cmocka_unit_test_setup_teardown(peek_ends_at_a_full_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(bulk_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(few_have_large_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(large_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(replies_go_out_together_before_a_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_streams_hold_no_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(output_that_nobody_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(deadline_ends_a_read, setup, teardown),
        cmocka_unit_test_setup_teardown(another_task_may_end_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_behind_the_last_bytes_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_connections_are_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_input_leaves_others_their_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(files_end, setup, teardown),
        cmocka_unit_test_setup_teardown(connect_and_listen, setup, teardown),
        cmocka_unit_test_setup_teardown(connect_and_listen_unix, setup, teardown),
        cmocka_unit_test(addresses),
        cmocka_unit_test(networks),
    };
    log_init("postfix/test");
    return cmocka_run_group_tests_name("streams", tests, NULL, NULL);
}
