/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon for the tests of master, service and sandbox: a line that comes in is a command, what it prints is the
 * answer. "hold" keeps the session open until the next line; the others show, or do, what they are called. A FIFO's and a
 * datagram socket's bytes it logs. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/stream.h"
#include "lib/service/service.h"

static void
say(struct stream *stream, long result)
{
    stream_printf(stream, "%ld %s\n", result, result < 0 ? strerror(errno) : "ok");
}

static void
do_socket(struct stream *stream, const char *arg)
{
    say(stream,
        socket(strcmp(arg, "unix") == 0 ? AF_UNIX : AF_INET, strcmp(arg, "dgram") == 0 ? SOCK_DGRAM : SOCK_STREAM, 0));
}

static void
in_thread(void *arg)
{
    *(int *)arg = 1;
}

static void
do_thread(struct stream *stream, const char *arg)
{
    int ran = 0;

    (void)arg;
    task_run_blocking(in_thread, &ran);
    say(stream, ran);
}

static void
do_fork(struct stream *stream, const char *arg)
{
    (void)arg;
    say(stream, fork());
}

static void
do_exec(struct stream *stream, const char *arg)
{
    say(stream, execl(arg, arg, (char *)NULL));
}

static void
do_open(struct stream *stream, const char *arg)
{
    say(stream, open(arg, O_RDONLY | O_CLOEXEC));
}

static void
do_write(struct stream *stream, const char *arg)
{
    int fd = open(arg, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    say(stream, fd < 0 ? fd : write(fd, "x", 1));
}

static void
do_kill(struct stream *stream, const char *arg)
{
    say(stream, kill(atoi(arg), 0));
}

static void
do_ptrace(struct stream *stream, const char *arg)
{
    (void)arg;
    say(stream, ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static void
do_executable(struct stream *stream, const char *arg)
{
    (void)arg;
    say(stream, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
}

static void
do_pid(struct stream *stream, const char *arg)
{
    (void)arg;
    stream_printf(stream, "%d\n", (int)getpid());
}

static void
do_name(struct stream *stream, const char *arg)
{
    (void)arg;
    stream_printf(stream, "%s %u\n", service_name(), service_process_limit());
}

static void
do_crash(struct stream *stream, const char *arg)
{
    (void)stream;
    (void)arg;
    abort();
}

static void
do_exit(struct stream *stream, const char *arg)
{
    (void)stream;
    _exit(atoi(arg));
}

static void
do_spin(struct stream *stream, const char *arg)
{
    (void)stream;
    (void)arg;
    for (;;) {
        const volatile bool go_on = true;

        (void)go_on;
    }
}

static void
do_sleep(struct stream *stream, const char *arg)
{
    (void)stream;
    for (;;)
        sleep((unsigned)atoi(arg)); /* signals end a sleep */
}

static void
do_log(struct stream *stream, const char *arg)
{
    log_info("%s", arg);
    stream_write_text(stream, "0 ok\n");
}

static void
do_load(struct stream *stream, const char *arg)
{
    service_report_load((unsigned)atoi(arg));
    stream_write_text(stream, "0 ok\n");
}

static const struct {
    const char *name;
    void (*fn)(struct stream *, const char *arg);
} commands[] = {
    {"socket", do_socket}, {"thread", do_thread}, {"fork", do_fork},
    {"exec", do_exec},     {"open", do_open},     {"write", do_write},
    {"kill", do_kill},     {"ptrace", do_ptrace}, {"pid", do_pid},
    {"name", do_name},     {"crash", do_crash},   {"exit", do_exit},
    {"log", do_log},       {"load", do_load},     {"executable", do_executable},
    {"spin", do_spin},     {"sleep", do_sleep},
};

static void
run_command(struct stream *stream, const char *line)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        size_t len = strlen(commands[i].name);

        if (strncmp(line, commands[i].name, len) == 0 && (line[len] == ' ' || line[len] == '\0')) {
            commands[i].fn(stream, line + len + (line[len] == ' '));
            return;
        }
    }
    stream_write_text(stream, "what?\n");
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    struct stream *stream = stream_new(fd);
    enum stream_line_end ending;
    struct slice line;
    struct err err;

    (void)peer;
    (void)socket;
    stream_set_deadline(stream, loop_now() + SECONDS(60));
    while (stream_read_line(stream, 500, &line, &ending, &err) == 0) {
        struct arena *arena = arena_new();

        run_command(stream, arena_strndup(arena, line.ptr, line.len));
        arena_free(&arena);
    }
    stream_free(&stream);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    static const char *paths[] = {"testd", NULL};
    char **args = service_args();

    (void)conf;
    for (; *args; args++) {
        if (strcmp(*args, "fail") == 0)
            return err_set(err, ERR_PERM, "told to fail");
        if (strcmp(*args, "quit") == 0)
            _exit(0);
        if (strcmp(*args, "files") == 0) {
            sandbox->calls |= SANDBOX_READ;
            sandbox->write_paths = paths;
            sandbox->may_write_files = true;
        }
        if (strcmp(*args, "threads") == 0)
            sandbox->calls |= SANDBOX_THREADS;
        if (strcmp(*args, "connect") == 0)
            sandbox->calls |= SANDBOX_CONNECT;
    }
    return 0;
}

static const struct service testd_service = {
    .program = "smtpd", /* a role that exists */
    .prepare = prepare,
    .serve = serve,
    .sandbox = {.calls = SANDBOX_BASE},
    .many_workers = true,
};

static void
readable(int fd)
{
    char bytes[500];
    ssize_t n;

    while ((n = read(fd, bytes, sizeof bytes)) > 0)
        log_info("read %.*s", (int)n, bytes);
}

static const struct service reader_service = {
    .program = "smtpd",
    .readable = readable,
    .sandbox = {.calls = SANDBOX_BASE},
};

static bool
is_for_readers(char *const *argv)
{
    for (; argv[0] && argv[1]; argv++)
        if (strcmp(argv[0], "-t") == 0)
            return strcmp(argv[1], "fifo") == 0 || strcmp(argv[1], "unix-dgram") == 0;
    return false;
}

int
main(int argc, char **argv)
{
    return service_main(argc, argv, is_for_readers(argv) ? &reader_service : &testd_service);
}
