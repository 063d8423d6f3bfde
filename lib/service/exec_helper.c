/* SPDX-License-Identifier: Apache-2.0 */
/* The helper of exec.h: it runs as the configured user, knows nothing of mail, and is short enough to be read whole. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/mail/run_command.h"
#include "lib/service/exec_internal.h"

enum { SOCKET_FD = 3, MOST_COMMANDS = 4096, WORDS_LIMIT = 16 << 20 };

struct command {
    uint32_t id;
    pid_t pid;
    int input; /* its input's writing end, kept; -1: none */
};

static struct {
    struct command commands[MOST_COMMANDS];
    unsigned count;
    const char *directory, *program;
} helper;

/* ---- in the child ---- */

static void
read_words(int fd, struct buf *words)
{
    ssize_t n;

    while ((n = read(fd, buf_reserve(words, 65536), 65536)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || words->len > WORDS_LIMIT)
            _exit(EX_TEMPFAIL);
        buf_added(words, (size_t)n);
    }
}

/* Cuts the words into argv and env. Anything odd is our own daemon's fault, or its end: nothing is run. */
static void
cut_words(struct buf *words, struct run_command *command)
{
    size_t count = 0, n = 0;
    uint32_t arguments;
    char **list;

    if (words->len < sizeof arguments)
        _exit(EX_TEMPFAIL);
    memcpy(&arguments, words->ptr, sizeof arguments);
    buf_consume(words, sizeof arguments);
    if (words->len == 0 || words->ptr[words->len - 1] != '\0')
        _exit(EX_TEMPFAIL);
    for (size_t i = 0; i < words->len; i++)
        count += words->ptr[i] == '\0';
    list = calloc(count + 2, sizeof *list);
    if (!list || arguments == 0 || arguments > count)
        _exit(EX_TEMPFAIL);
    for (char *at = words->ptr; at < words->ptr + words->len; at += strlen(at) + 1) {
        if (n == arguments)
            n++;
        list[n++] = at;
    }
    command->argv = list;
    command->env = list + arguments + 1;
}

static void NORETURN
be_command(const int *fds, unsigned fd_count)
{
    struct run_command command = {.directory = helper.directory};
    struct buf words = {0};

    if (fd_count > 3)
        close(fds[3]);
    for (unsigned i = 0; i < helper.count; i++)
        if (helper.commands[i].input >= 0)
            close(helper.commands[i].input);
    read_words(fds[0], &words);
    cut_words(&words, &command);
    run_command_become(&command, helper.program, fds[1], fds[2], fds[2]);
}

/* ---- in the helper ---- */

static void
let_go_of_input(struct command *command)
{
    if (command->input >= 0)
        close(command->input);
    command->input = -1;
}

static void
kill_command(const struct command *command)
{
    (void)kill(-command->pid, SIGKILL);
    (void)kill(command->pid, SIGKILL);
}

/* The daemon has gone: who has not got all of its input must not take the end of it for the end of the message. */
static void NORETURN
leave(void)
{
    for (unsigned i = 0; i < helper.count; i++)
        if (helper.commands[i].input >= 0)
            kill_command(&helper.commands[i]);
    _exit(0);
}

static void
report(uint32_t id, int status, int error)
{
    const struct exec_report message = {.id = id, .status = status, .error = error};

    if (send(SOCKET_FD, &message, sizeof message, MSG_NOSIGNAL) != sizeof message)
        leave();
}

static void
start(uint32_t id, int *fds, unsigned fd_count)
{
    pid_t pid;

    if (fd_count < 3 || helper.count == MOST_COMMANDS) {
        report(id, 0, fd_count < 3 ? EBADF : EAGAIN);
        return;
    }
    pid = fork();
    if (pid == 0)
        be_command(fds, fd_count);
    if (pid < 0) {
        report(id, 0, errno);
        return;
    }
    (void)setpgid(pid, pid); /* so that it can be killed with its children before it has called setsid() */
    helper.commands[helper.count++] = (struct command){id, pid, fd_count > 3 ? fds[3] : -1};
    if (fd_count > 3)
        fds[3] = -1;
}

static void
reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < helper.count; i++) {
            if (helper.commands[i].pid != pid)
                continue;
            let_go_of_input(&helper.commands[i]);
            report(helper.commands[i].id, status, 0);
            helper.commands[i] = helper.commands[--helper.count];
            break;
        }
    }
}

static void
act(const struct exec_request *request, int *fds, unsigned fd_count)
{
    if (request->what == EXEC_START) {
        start(request->id, fds, fd_count);
        return;
    }
    for (unsigned i = 0; i < helper.count; i++) {
        if (helper.commands[i].id != request->id)
            continue;
        if (request->what == EXEC_INPUT_DONE)
            let_go_of_input(&helper.commands[i]);
        else if (request->what == EXEC_KILL)
            kill_command(&helper.commands[i]);
    }
}

/* False: the daemon has gone. */
static bool
serve_one(void)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * EXEC_MAX_FDS)];
    } control;
    struct exec_request request;
    struct iovec iov = {&request, sizeof request};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fds[EXEC_MAX_FDS];
    unsigned count = 0;
    ssize_t n = recvmsg(SOCKET_FD, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c;

    if (n < 0)
        return errno == EINTR;
    c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
    }
    if (n == sizeof request && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        act(&request, fds, count);
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return n > 0;
}

void
exec_help(int socket, const char *directory, const char *program)
{
    struct pollfd fds[2] = {{.fd = SOCKET_FD, .events = POLLIN}, {.events = POLLIN}};
    struct signalfd_siginfo info;
    sigset_t children;

    if ((socket != SOCKET_FD && dup2(socket, SOCKET_FD) < 0) || fcntl(SOCKET_FD, F_SETFD, FD_CLOEXEC) < 0 ||
        close_range(SOCKET_FD + 1, UINT_MAX, 0) < 0)
        _exit(1);
    helper.directory = directory;
    helper.program = program;
    for (int i = 1; i < NSIG; i++)
        if (i != SIGCHLD)
            (void)signal(i, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    sigfillset(&children);
    (void)sigprocmask(SIG_UNBLOCK, &children, NULL);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &children, NULL);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "exec-helper", 0, 0, 0);
    fds[1].fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fds[1].fd < 0)
        _exit(1);
    for (;;) {
        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents) {
            while (read(fds[1].fd, &info, sizeof info) > 0)
                ;
            reap();
        }
        if (fds[0].revents && !serve_one())
            break;
    }
    leave();
}
