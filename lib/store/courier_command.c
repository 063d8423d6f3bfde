/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/courier_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/mail/run_command.h"

enum { OUTPUT_LIMIT = RUN_COMMAND_OUTPUT - 1, PIECE = 32 * 1024 };

struct run {
    pid_t pid;
    int in, out;  /* to its standard input, from its standard output and error; -1: closed */
    char *output; /* OUTPUT_LIMIT + 1 bytes */
    size_t output_len;
    usec_t deadline; /* 0: none */
    bool timed_out;
};

/* ---- the child ---- */

static bool
is_plain(const char *command)
{
    static const char harmless[] = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t";

    return command[strspn(command, harmless)] == '\0';
}

static char **
split_words(struct arena *arena, const char *text, const char *last)
{
    char **words = arena_array(arena, strlen(text) / 2 + 3, sizeof *words);
    struct slice rest = slice_from(text), word;
    size_t count = 0;

    while (slice_word(&rest, " \t\r\n", &word))
        words[count++] = arena_strndup(arena, word.ptr, word.len);
    if (last)
        words[count++] = arena_strdup(arena, last);
    return words;
}

static void NORETURN
give_up(const char *what)
{
    dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
    _exit(EX_TEMPFAIL);
}

static void NORETURN
execute(struct arena *arena, const struct msg_user_job *job)
{
    char *shell[] = {arena_strdup(arena, "sh"), arena_strdup(arena, "-c"), arena_strdup(arena, job->path), NULL};
    char **words;

    if (*job->shell) {
        words = split_words(arena, job->shell, job->path);
        execvp(words[0], words);
        give_up(words[0]);
    }
    words = split_words(arena, job->path, NULL);
    if (words[0] && is_plain(job->path)) {
        execvp(words[0], words);
        if (errno != ENOENT || strchr(words[0], '/'))
            give_up(words[0]);
    }
    execv("/bin/sh", shell);
    give_up("/bin/sh");
}

/* The environment that the job gives, NULL-ended. */
static char **
environment(struct arena *arena, const struct msg_user_job *job)
{
    char **texts = arena_array(arena, job->text_count + 1, sizeof *texts);

    for (size_t i = 0; i < job->text_count; i++)
        texts[i] = arena_strdup(arena, job->texts[i].text);
    return texts;
}

static void NORETURN
be_command(struct arena *arena, const struct msg_user_job *job, int in, int out)
{
    const struct run_command command = {
        .env = environment(arena, job), .directory = *job->directory ? job->directory : NULL, .file_limit = job->limit};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* half a message must not look like a whole one */
    run_command_prepare(&command, "local", in, out, out);
    (void)signal(SIGXFSZ, SIG_IGN);
    execute(arena, job);
}

/* ---- feeding it ---- */

static void
shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int
start(struct run *run, struct arena *arena, const struct msg_user_job *job, struct store_fault *fault)
{
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) < 0)
        return fault_errno(fault, "4.3.0", "pipe");
    if (pipe2(out, O_CLOEXEC) < 0) {
        fault_errno(fault, "4.3.0", "pipe");
        close(in[0]);
        close(in[1]);
        return -1;
    }
    run->pid = fork();
    if (run->pid == 0)
        be_command(arena, job, in[0], out[1]);
    if (run->pid < 0)
        fault_errno(fault, "4.3.0", "unable to start a command: fork");
    close(in[0]);
    close(out[1]);
    run->in = in[1];
    run->out = out[0];
    (void)fcntl(run->in, F_SETFL, O_NONBLOCK);
    (void)fcntl(run->out, F_SETFL, O_NONBLOCK);
    if (run->pid < 0) {
        shut(&run->in);
        shut(&run->out);
        return -1;
    }
    return 0;
}

/* What does not fit is read and dropped, so that the command does not wait for us. */
static void
take_output(struct run *run)
{
    char bytes[1024];
    ssize_t n = read(run->out, bytes, sizeof bytes);
    size_t room = OUTPUT_LIMIT - run->output_len, keep = n > 0 ? (size_t)n : 0;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        shut(&run->out);
    if (keep > room)
        keep = room;
    memcpy(run->output + run->output_len, bytes, keep);
    run->output_len += keep;
}

/* A command that does not want the rest is fine: its exit status decides. */
static void
feed(struct run *run, struct buf *piece, bool done)
{
    ssize_t n = write(run->in, piece->ptr, piece->len);

    if (n > 0)
        buf_consume(piece, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        shut(&run->in);
    if (run->in >= 0 && done && piece->len == 0)
        shut(&run->in);
}

/* Milliseconds for poll(); 0: the time is over. */
static int
time_left(const struct run *run)
{
    usec_t left = run->deadline - clock_monotonic();

    if (run->deadline == 0)
        return 60000;
    return left <= 0 ? 0 : left > SECONDS(60) ? 60000 : (int)(left / 1000) + 1;
}

/* One wait. False: the time is over. */
static bool
turn(struct run *run, struct buf *piece, bool done)
{
    struct pollfd fds[] = {{run->in, POLLOUT, 0}, {run->out, POLLIN, 0}};
    int left = time_left(run);

    if (left == 0)
        return false;
    if (poll(fds, ARRAY_LEN(fds), left) < 0)
        return true;
    if (fds[1].revents)
        take_output(run);
    if (fds[0].revents)
        feed(run, piece, done);
    return true;
}

/* Until its input is written and its output has ended. */
static int
talk(struct run *run, struct letter_reader *reader, struct store_fault *fault)
{
    struct buf piece = {0};
    bool done = false;
    int result = 0;

    while (result == 0 && (run->in >= 0 || run->out >= 0)) {
        if (run->in >= 0 && !done && piece.len == 0)
            result = letter_read(reader, PIECE, &piece, &done, fault);
        if (result == 0 && !turn(run, &piece, done)) {
            run->timed_out = true;
            break;
        }
    }
    buf_release(&piece);
    return result;
}

/* Waits for its end, as long as it has time. */
static int
reap(struct run *run)
{
    int status = 0;
    pid_t pid;

    while ((pid = waitpid(run->pid, &status, WNOHANG)) == 0 && !run->timed_out) {
        if (time_left(run) == 0)
            run->timed_out = true;
        else
            (void)poll(NULL, 0, 5);
    }
    if (pid != 0)
        return status;
    (void)kill(-run->pid, SIGKILL);
    (void)kill(run->pid, SIGKILL);
    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int
judge(const struct run *run, int status, struct arena *arena, const struct msg_user_job *job,
      struct courier_command_end *texts, struct store_fault *fault)
{
    const struct run_command_end end = {job->path, status, run->timed_out, run->output};
    struct run_command_verdict *verdict = ARENA_NEW(arena, struct run_command_verdict);

    run_command_judge(&end, verdict);
    *texts = (struct courier_command_end){.reason = verdict->text, .diagnostic = verdict->diag};
    (void)fault_set(fault, verdict->dsn, "%s", verdict->text);
    return verdict->dsn[0] == '2' ? 0 : -1;
}

int
courier_command(struct arena *arena, const struct msg_user_job *job, struct letter *letter,
                struct courier_command_end *end, struct store_fault *fault)
{
    struct run run = {.in = -1, .out = -1, .output = arena_alloc(arena, OUTPUT_LIMIT + 1)};
    struct letter_reader reader = {0};
    int talked, status;

    memset(run.output, 0, OUTPUT_LIMIT + 1);
    *end = (struct courier_command_end){.diagnostic = ""};
    (void)signal(SIGCHLD, SIG_DFL);
    if (start(&run, arena, job, fault) < 0)
        return -1;
    run.deadline = job->time_limit ? clock_monotonic() + job->time_limit : 0;
    letter_begin(&reader, letter, LETTER_FROM_LINE);
    talked = talk(&run, &reader, fault);
    letter_end(&reader);
    if (talked < 0) /* half a message: the command must not take it for a whole one */
        run.timed_out = true;
    status = reap(&run);
    shut(&run.in);
    shut(&run.out);
    for (size_t i = 0; i < run.output_len; i++)
        if (run.output[i] == '\0')
            run.output[i] = ' ';
    return talked < 0 ? -1 : judge(&run, status, arena, job, end, fault);
}
