/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/log: each destination; lines with bad bytes; a destination that is slow, goes away, comes back. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"

static int
open_pipe(int fds[2])
{
    return pipe2(fds, O_NONBLOCK | O_CLOEXEC);
}

static char *
read_all(int fd, char *text, size_t size)
{
    ssize_t n = read(fd, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void
plain_lines_go_out_at_once(void **state)
{
    int fds[2];
    char got[1000];
    (void)state;
    assert_int_equal(open_pipe(fds), 0);
    log_to_fd(fds[1], false);
    log_info("hello %d", 1);
    assert_string_equal(read_all(fds[0], got, sizeof(got)), "smtpd: hello 1\n");
    log_warning("a\nb\x01 \xe9 \xc3\xa9");
    assert_string_equal(read_all(fds[0], got, sizeof(got)), "smtpd: warning: a?b? ? \xc3\xa9\n");
    log_debug("unseen");
    log_set_verbose(1);
    log_debug("seen");
    log_set_verbose(0);
    assert_string_equal(read_all(fds[0], got, sizeof(got)), "smtpd: seen\n");
    close(fds[0]);
    close(fds[1]);
}

static void
full_lines_are_gathered(void **state)
{
    int fds[2];
    char got[1000], want[200];
    (void)state;
    assert_int_equal(open_pipe(fds), 0);
    log_set_host("host");
    log_to_fd(fds[1], true);
    log_info("one");
    log_error("two");
    assert_true(log_is_waiting());
    assert_string_equal(read_all(fds[0], got, sizeof(got)), "");
    log_flush();
    assert_false(log_is_waiting());
    read_all(fds[0], got, sizeof(got));
    snprintf(want, sizeof(want), " host postfix/smtpd[%d]: one\n", (int)getpid());
    assert_non_null(strstr(got, want));
    assert_ptr_equal(strstr(got, want), got + 15); /* the time before it */
    snprintf(want, sizeof(want), " host postfix/smtpd[%d]: error: two\n", (int)getpid());
    assert_non_null(strstr(got, want));
    close(fds[0]);
    close(fds[1]);
}

static void
long_lines_are_cut(void **state)
{
    int fds[2];
    static char got[60000], line[20000];
    (void)state;
    assert_int_equal(open_pipe(fds), 0);
    memset(line, 'l', sizeof(line) - 1);
    log_to_fd(fds[1], false);
    log_info("%s", line);
    size_t len = strlen(read_all(fds[0], got, sizeof(got)));
    assert_true(len > 4000 && len < 10000);
    assert_int_equal(got[len - 1], '\n');
    close(fds[0]);
    close(fds[1]);
}

/* A pipe that is full: lines wait, are sent when there is room, and none is cut or lost. */
static void
a_slow_destination_gets_all(void **state)
{
    enum { LINES = 2000 };
    static char got[LINES * 200];
    size_t len = 0;
    int fds[2], seen = 0;
    (void)state;
    assert_int_equal(open_pipe(fds), 0);
    log_to_fd(fds[1], true);
    for (int i = 0; i < LINES; i++)
        log_info("%d: this line is about as long as lines in a mail log are, with some words at its end", i);
    log_flush();
    assert_true(log_is_waiting());
    while (log_is_waiting()) {
        ssize_t n = read(fds[0], got + len, sizeof(got) - 1 - len);
        len += n > 0 ? (size_t)n : 0;
        log_flush();
    }
    len += strlen(read_all(fds[0], got + len, sizeof(got) - len));
    for (char *line = got, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        assert_non_null(strstr(line, "]: "));
        assert_int_equal(atoi(strstr(line, "]: ") + 3), seen++);
        assert_non_null(strstr(line, "at its end"));
    }
    assert_int_equal(seen, LINES);
    assert_int_equal(log_lost(), 0);
    close(fds[0]);
    close(fds[1]);
}

static char directory[] = "/tmp/test_log.XXXXXX";

/* A postlog socket at path. */
static int
listen_datagrams(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void
postlog_gets_many_lines_in_a_datagram(void **state)
{
    enum { LINES = 3000 };
    char path[100];
    static char got[70000];
    int seen = 0, datagrams = 0;
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/postlog", directory);
    assert_int_equal(log_to_postlog(path), -1);
    int fd = listen_datagrams(path);
    assert_int_equal(log_to_postlog(path), 0);
    for (int i = 0; i < LINES; i++)
        log_info("%d: client=unknown[192.0.2.1], and so on, and so on", i);
    while (seen < LINES) {
        ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
        if (n < 0) {
            log_flush();
            continue;
        }
        assert_true(n <= 32 * 1024);
        datagrams++;
        got[n] = '\0';
        assert_int_equal(got[n - 1], '\n');
        for (char *line = got, *end; (end = strchr(line, '\n')); line = end + 1) {
            assert_non_null(strstr(line, "]: "));
            assert_int_equal(atoi(strstr(line, "]: ") + 3), seen++);
        }
    }
    assert_true(datagrams < 30);
    close(fd);
    /* it goes away and comes back: from then on lines arrive again */
    log_info("lost to the system log");
    log_flush();
    fd = listen_datagrams(path);
    usec_t end = clock_monotonic() + SECONDS(5);
    while (recv(fd, got, sizeof(got), 0) < 0 && clock_monotonic() < end) {
        usleep(50000);
        log_info("back");
        log_flush();
    }
    assert_true(clock_monotonic() < end);
    close(fd);
    unlink(path);
    rmdir(directory);
    log_to_fd(STDERR_FILENO, false);
}

/* How a child that called fn ended; what it said is in text. */
static int
run_child(void (*fn)(void), char *text, size_t size)
{
    int fds[2], status;
    assert_int_equal(open_pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        log_to_fd(fds[1], true);
        fn();
        exit(0);
    }
    close(fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_all(fds[0], text, size);
    close(fds[0]);
    return status;
}

static void
die_fatally(void)
{
    log_info("before");
    fatal_set_status(75);
    fatal("no %s", "way");
}

static void
tell(char *text, unsigned size)
{
    snprintf(text, size, "in task x");
}

static void
die_in_panic(void)
{
    int zero = 0;
    panic_set_hook(tell);
    check(zero == 1);
}

static void
end_normally(void)
{
    log_info("last words");
}

static void
the_last_lines_get_out(void **state)
{
    char text[2000];
    (void)state;
    int status = run_child(die_fatally, text, sizeof(text));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 75);
    assert_non_null(strstr(text, "before\n"));
    assert_non_null(strstr(text, "fatal: no way\n"));
    status = run_child(die_in_panic, text, sizeof(text));
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(text, "check failed: zero == 1\n"));
    assert_non_null(strstr(text, "panic: in task x\n"));
    status = run_child(end_normally, text, sizeof(text));
    assert_true(WIFEXITED(status));
    assert_non_null(strstr(text, "last words\n"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines_go_out_at_once),
        cmocka_unit_test(full_lines_are_gathered),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(a_slow_destination_gets_all),
        cmocka_unit_test(postlog_gets_many_lines_in_a_datagram),
        cmocka_unit_test(the_last_lines_get_out),
    };
    log_init("postfix/smtpd");
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
