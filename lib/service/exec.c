/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/service/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/service/exec_internal.h"
#include "lib/service/service.h"

enum { PIECE = 64 * 1024 };

/* A command that runs. */
struct run {
    struct list link;
    uint32_t id;
    bool ended;
    int status, error;
    struct task_cond changed;
};

static struct {
    int socket;
    struct task_fd tfd;
    bool gone;
    uint32_t next_id;
    struct list runs;
} state = {.socket = -1};

/* ---- set-up ---- */

int
exec_identity_parse(const char *text, const char *mail_owner, struct exec_identity *identity, struct err *err)
{
    struct arena *arena = arena_new();
    const char *colon = strchr(text, ':');
    const char *name = colon ? arena_strndup(arena, text, (size_t)(colon - text)) : text;
    const struct passwd *user = getpwnam(name), *owner;
    const struct group *group = colon ? getgrnam(colon + 1) : NULL;
    int result = 0;

    if (!user)
        result = err_set(err, ERR_PERM, "unknown user name: %s", name);
    else if (colon && !group)
        result = err_set(err, ERR_PERM, "unknown group name: %s", colon + 1);
    if (result == 0)
        *identity = (struct exec_identity){user->pw_uid, group ? group->gr_gid : user->pw_gid};
    arena_free(&arena);
    if (result < 0)
        return -1;
    if (identity->uid == 0 || identity->gid == 0)
        return err_set(err, ERR_PERM, "user %s: commands are not run with root privileges", text);
    owner = getpwnam(mail_owner);
    if (geteuid() == 0 && owner && (owner->pw_uid == identity->uid || owner->pw_gid == identity->gid))
        return err_set(err, ERR_PERM, "user %s: commands are not run with privileges of mail_owner", text);
    return 0;
}

int
exec_time_limit(const struct conf *conf, const char *service, usec_t *limit, struct err *err)
{
    struct arena *arena = arena_new();
    const char *name = arena_printf(arena, "%s_time_limit", service);
    int result = conf_time(conf, conf_is_set(conf, name) ? name : "command_time_limit", limit, err);

    arena_free(&arena);
    return result;
}

static void
become(const struct exec_identity *who, const char *chroot_dir)
{
    if (geteuid() != 0)
        return;
    if (chroot_dir && (chroot(chroot_dir) < 0 || chdir("/") < 0))
        fatal("chroot %s: %m", chroot_dir);
    if (setgroups(1, &who->gid) < 0 || setresgid(who->gid, who->gid, who->gid) < 0 ||
        setresuid(who->uid, who->uid, who->uid) < 0)
        fatal("becoming uid %u: %m", (unsigned)who->uid);
    if (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0)
        fatal("privileges could be won back");
}

int
exec_prepare(const struct exec_identity *who, const char *chroot_dir, const char *directory, const char *program,
             struct err *err)
{
    int pair[2];
    pid_t pid;

    list_init(&state.runs);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, "socketpair");
    log_flush();
    pid = fork();
    if (pid == 0) {
        become(who, chroot_dir);
        exec_help(pair[1], directory, program);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_errno(err, "fork");
    }
    state.socket = pair[0];
    return net_set_nonblocking(state.socket, true) < 0 ? err_errno(err, "socket") : 0;
}

/* ---- the helper's reports ---- */

static void
take_report(const struct exec_report *report)
{
    LIST_EACH(at, &state.runs)
    {
        struct run *run = LIST_ENTRY(at, struct run, link);

        if (run->id != report->id)
            continue;
        run->ended = true;
        run->status = report->status;
        run->error = report->error;
        task_wake_all(&run->changed);
        return;
    }
}

static void
helper_has_gone(void)
{
    state.gone = true;
    LIST_EACH(at, &state.runs)
    task_wake_all(&LIST_ENTRY(at, struct run, link)->changed);
    if (!service_is_ending()) {
        log_warning("the process that runs commands has gone");
        service_retire();
    }
}

static void
watch_helper(void *arg)
{
    struct exec_report report;
    struct err err;
    ssize_t n;

    (void)arg;
    for (;;) {
        n = recv(state.socket, &report, sizeof report, 0);
        if (n == sizeof report) {
            take_report(&report);
        } else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
            helper_has_gone();
            return;
        } else if (errno == EAGAIN && task_fd_wait_read(&state.tfd, NO_DEADLINE, &err) < 0) {
            return;
        }
    }
}

void
exec_start(void)
{
    task_fd_init(&state.tfd, state.socket);
    task_spawn(service_tasks(), "helper", watch_helper, NULL);
}

/* ---- requests ---- */

static int may_wait
tell_helper(uint32_t what, uint32_t id, const int *fds, unsigned fd_count, struct err *err)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * EXEC_MAX_FDS)];
    } control = {0};
    struct exec_request request = {what, id};
    struct iovec iov = {&request, sizeof request};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    while (sendmsg(state.socket, &msg, MSG_NOSIGNAL) < 0) {
        if (errno != EAGAIN && errno != ENOBUFS)
            return err_errno(err, "the process that runs commands");
        if (task_sleep(10 * 1000, err) < 0)
            return -1;
    }
    return 0;
}

struct pipe_end {
    int fd;
    struct task_fd tfd;
};

static void
end_open(struct pipe_end *end, int fd)
{
    end->fd = fd;
    task_fd_init(&end->tfd, fd);
}

static void
end_close(struct pipe_end *end)
{
    if (end->fd < 0)
        return;
    task_fd_release(&end->tfd);
    close(end->fd);
    end->fd = -1;
}

/* Writes all of it. 1: nobody reads any more. */
static int may_wait
write_all(struct pipe_end *end, struct buf *bytes, usec_t deadline, struct err *err)
{
    while (bytes->len > 0) {
        ssize_t n = write(end->fd, bytes->ptr, bytes->len);

        if (n >= 0)
            buf_consume(bytes, (size_t)n);
        else if (errno == EPIPE)
            return 1;
        else if (errno != EAGAIN && errno != EINTR)
            return err_errno(err, "write to a command");
        else if (errno == EAGAIN && task_fd_wait_write(&end->tfd, deadline, err) < 0)
            return -1;
    }
    return 0;
}

static void
put_words(const struct exec_job *job, struct buf *out)
{
    uint32_t count = 0;

    while (job->argv[count])
        count++;
    buf_append(out, &count, sizeof count);
    for (char *const *at = job->argv; *at; at++)
        buf_append(out, *at, strlen(*at) + 1);
    for (char *const *at = job->env; at && *at; at++)
        buf_append(out, *at, strlen(*at) + 1);
}

static int
make_pipe(int *ends, struct err *err)
{
    return pipe2(ends, O_CLOEXEC) < 0 ? err_errno(err, "pipe") : 0;
}

/* Ours does not block; the command's does, as programs expect. */
static int
unblock(int fd, struct err *err)
{
    return net_set_nonblocking(fd, true) < 0 ? err_errno(err, "pipe") : 0;
}

/* ---- output ---- */

struct reader {
    struct pipe_end end;
    struct exec_end *result;
    size_t len;
    struct task_cond done;
    bool ended;
};

/* Takes what is there; more than is kept is dropped, so that the command does not wait. False: there will be no more. */
static bool
drain_output(struct reader *reader)
{
    char bytes[2048];
    ssize_t n;

    while ((n = read(reader->end.fd, bytes, sizeof bytes)) > 0) {
        size_t room = EXEC_OUTPUT_LIMIT - reader->len, keep = (size_t)n < room ? (size_t)n : room;

        memcpy(reader->result->output + reader->len, bytes, keep);
        reader->len += keep;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void
read_output(void *arg)
{
    struct reader *reader = arg;
    struct err err;

    while (drain_output(reader))
        if (task_fd_wait_read(&reader->end.tfd, NO_DEADLINE, &err) < 0)
            break;
    reader->ended = true;
    task_wake_all(&reader->done);
}

/* ---- a command ---- */

static int may_wait
await_end(struct run *run, usec_t deadline, struct err *err)
{
    while (!run->ended) {
        if (state.gone)
            return err_set(err, ERR_TEMP, "the process that runs commands has gone");
        if (task_wait(&run->changed, deadline, err) < 0)
            return -1;
    }
    return run->error ? err_set(err, ERR_TEMP, "unable to start a command: %s", strerror(run->error)) : 0;
}

static int may_wait
kill_run(struct run *run, struct err *why)
{
    struct err err;

    if (!run->ended && tell_helper(EXEC_KILL, run->id, NULL, 0, &err) == 0 && why->kind != ERR_CANCELLED)
        return await_end(run, loop_now() + SECONDS(60), &err);
    return 0;
}

static int may_wait
feed_words(const struct exec_job *job, struct pipe_end *words, usec_t deadline, struct err *err)
{
    struct buf bytes = {0};
    int result;

    put_words(job, &bytes);
    result = write_all(words, &bytes, deadline, err);
    buf_release(&bytes);
    end_close(words);
    return result < 0 ? -1 : 0; /* who reads no more reports its end */
}

static int may_wait
feed_input(const struct exec_job *job, struct run *run, struct pipe_end *input, usec_t deadline, struct err *err)
{
    struct buf piece = {0};
    int result = 0;

    while (result == 0) {
        result = job->feed(job->ctx, &piece, err);
        if (result < 0 || piece.len == 0)
            break;
        result = write_all(input, &piece, deadline, err);
    }
    buf_release(&piece);
    if (result < 0)
        return -1;
    end_close(input);
    return tell_helper(EXEC_INPUT_DONE, run->id, NULL, 0, err);
}

static int may_wait
work(const struct exec_job *job, struct run *run, struct pipe_end *words, struct pipe_end *input,
     struct exec_end *result, struct err *err)
{
    usec_t deadline = job->time_limit ? loop_now() + job->time_limit : NO_DEADLINE;
    int done = feed_words(job, words, deadline, err);

    if (done == 0 && input->fd >= 0)
        done = feed_input(job, run, input, deadline, err);
    if (done == 0)
        done = await_end(run, deadline, err);
    if (done == 0) {
        result->status = run->status;
        return 0;
    }
    (void)kill_run(run, err);
    if (err->kind != ERR_TIMEOUT)
        return -1;
    result->timed_out = true;
    return 0;
}

/* fds: words, input, output, kept input: the helper's ends. Closed here. */
static int may_wait
run(const struct exec_job *job, int *fds, unsigned fd_count, struct pipe_end *words, struct pipe_end *input,
    struct exec_end *result, struct err *err)
{
    struct run r = {.id = ++state.next_id};
    int done;

    list_append(&state.runs, &r.link);
    done = state.gone ? err_set(err, ERR_TEMP, "the process that runs commands has gone")
                      : tell_helper(EXEC_START, r.id, fds, fd_count, err);
    for (unsigned i = 0; i < fd_count; i++)
        close(fds[i]);
    if (done == 0)
        done = work(job, &r, words, input, result, err);
    list_remove(&r.link);
    return done;
}

int may_wait
exec_run(const struct exec_job *job, struct exec_end *result, struct err *err)
{
    struct pipe_end words = {.fd = -1}, input = {.fd = -1};
    struct reader reader = {.end = {.fd = -1}, .result = result};
    struct task_group readers;
    int w[2], in[2], out[2], kept, done;

    *result = (struct exec_end){0};
    if (make_pipe(w, err) < 0)
        return -1;
    if (make_pipe(in, err) < 0) {
        close(w[0]);
        close(w[1]);
        return -1;
    }
    kept = fcntl(in[1], F_DUPFD_CLOEXEC, 3);
    if (kept < 0 || make_pipe(out, err) < 0 || unblock(w[1], err) < 0 || unblock(out[0], err) < 0) {
        int open[] = {w[0], w[1], in[0], in[1], kept};

        if (kept < 0)
            (void)err_errno(err, "pipe");
        for (unsigned i = 0; i < ARRAY_LEN(open); i++)
            if (open[i] >= 0)
                close(open[i]);
        return -1;
    }
    if (unblock(in[1], err) < 0)
        check(false);
    end_open(&words, w[1]);
    end_open(&input, in[1]);
    end_open(&reader.end, out[0]);
    task_group_init(&readers);
    task_spawn(&readers, "output", read_output, &reader);
    done = run(job, (int[]){w[0], in[0], out[1], kept}, 4, &words, &input, result, err);
    task_group_cancel(&readers); /* what the command left running may hold its output open */
    task_group_join(&readers);
    (void)drain_output(&reader);
    end_close(&words);
    end_close(&input);
    end_close(&reader.end);
    return done;
}

int may_wait
exec_run_connected(const struct exec_job *job, int fd, struct exec_end *result, struct err *err)
{
    struct pipe_end words = {.fd = -1}, input = {.fd = -1};
    int w[2], in, out, done;

    *result = (struct exec_end){0};
    if (make_pipe(w, err) < 0)
        return -1;
    in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (in < 0 || out < 0 || unblock(w[1], err) < 0) {
        (void)err_errno(err, "connection");
        close(w[0]);
        close(w[1]);
        if (in >= 0)
            close(in);
        if (out >= 0)
            close(out);
        return -1;
    }
    end_open(&words, w[1]);
    done = run(job, (int[]){w[0], in, out}, 3, &words, &input, result, err);
    end_close(&words);
    return done;
}
