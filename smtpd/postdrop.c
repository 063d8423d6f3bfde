/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/postdrop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/queue_record.h"

enum { LINE_LIMIT = 2048, SAID_LIMIT = 500 };

/* ---- the message as records (queue_file(5)) ---- */

static void
put(struct buf *out, unsigned char type, const char *text)
{
    queue_record_put(out, type, slice_from(text));
}

static void
put_attribute(struct buf *out, struct arena *arena, const char *name, const char *value)
{
    if (*value)
        put(out, REC_ATTRIBUTE, arena_printf(arena, "%s=%s", name, value));
}

static void
put_number(struct buf *out, struct arena *arena, const char *name, int64_t value)
{
    if (value)
        put_attribute(out, arena, name, arena_printf(arena, "%" PRId64, value));
}

static void
put_envelope(struct buf *out, struct arena *arena, const struct envelope *e)
{
    put_attribute(out, arena, "envelope_id", e->envelope_id);
    put_number(out, arena, "ret_flags", e->ret_flags);
    put_attribute(out, arena, "rewrite_context", e->rewrite_context);
    put(out, REC_SENDER, e->sender);
    put_attribute(out, arena, "encoding", e->encoding);
    if (*e->verp)
        put(out, REC_VERP, e->verp);
    for (size_t i = 0; i < e->recipient_count; i++) {
        put_attribute(out, arena, "dsn_orig_rcpt", e->recipients[i].dsn_original);
        put_number(out, arena, "notify_flags", e->recipients[i].notify);
        put(out, REC_RECIPIENT, e->recipients[i].address);
    }
}

static void
put_line(struct buf *out, struct slice line)
{
    for (; line.len > LINE_LIMIT; line = slice_make(line.ptr + LINE_LIMIT, line.len - LINE_LIMIT))
        queue_record_put(out, REC_TEXT_PART, slice_make(line.ptr, LINE_LIMIT));
    queue_record_put(out, REC_TEXT, line);
}

/* Wire form to records. */
static void
put_content(struct buf *out, struct slice wire)
{
    while (wire.len > 0) {
        const char *end = memmem(wire.ptr, wire.len, "\r\n", 2);
        size_t len = end ? (size_t)(end - wire.ptr) : wire.len, dot = len > 0 && wire.ptr[0] == '.';

        put_line(out, slice_make(wire.ptr + dot, len - dot));
        wire = end ? slice_make(end + 2, wire.len - len - 2) : slice_make("", 0);
    }
}

/* ---- postdrop ---- */

/* A file without a name that holds the bytes, to be read from its start. */
static int
make_file(struct buf *bytes)
{
    int fd = memfd_create("message", MFD_CLOEXEC);

    while (fd >= 0 && bytes->len > 0) {
        ssize_t n = write(fd, bytes->ptr, bytes->len);

        if (n > 0) {
            buf_consume(bytes, (size_t)n);
        } else if (errno != EINTR) {
            close(fd);
            return -1;
        }
    }
    if (fd >= 0)
        (void)lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Its exit status; -1: there is none. What it says goes to the descriptor `said`. */
static int
run(const char *path, int message, int said)
{
    char name[] = "postdrop", option[] = "-r", *args[] = {name, option, NULL};
    posix_spawn_file_actions_t actions;
    int status = -1, failed;
    pid_t pid;

    (void)signal(SIGCHLD, SIG_DFL); /* our caller may have ignored it */
    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    failed = posix_spawn_file_actions_adddup2(&actions, message, STDIN_FILENO) ||
             posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) ||
             posix_spawn_file_actions_adddup2(&actions, said, STDERR_FILENO) ||
             posix_spawn(&pid, path, &actions, NULL, args, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed)
        return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The first line of it, without the program's name and its "fatal:". */
static const char *
what_was_said(struct arena *arena, int fd)
{
    char text[SAID_LIMIT + 1];
    ssize_t n = pread(fd, text, SAID_LIMIT, 0);
    const char *start;

    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    text_printable(text, strlen(text), '?', true);
    start = strstr(text, "fatal: ");
    return arena_strdup(arena, start ? start + strlen("fatal: ") : text);
}

static struct smtp_reply
reply_for(struct session *s, int status, const char *said)
{
    if (status == 0) {
        s->errors = s->junk = 0;
        return smtp_reply(s->cmd, 250, "2.0.0", "Ok: queued");
    }
    log_warning("message of uid %lu from %s is not queued: postdrop: %s", (unsigned long)getuid(), s->client, said);
    switch (status) {
    case EX_NOPERM: return smtp_reply(s->cmd, 550, "5.7.1", "%s", *said ? said : "Error: not allowed to submit mail");
    case EX_DATAERR: return smtp_reply(s->cmd, 554, "5.6.0", "Error: malformed message");
    case EX_UNAVAILABLE: return smtp_reply(s->cmd, 452, "4.3.1", "Error: insufficient system storage");
    default: return smtp_reply(s->cmd, 451, "4.3.0", "Error: queue file write error");
    }
}

struct smtp_reply
postdrop_submit(struct session *s, struct transaction *t)
{
    const char *path = arena_printf(s->cmd, "%s/postdrop", s->server->set.command_directory);
    struct envelope envelope = transaction_envelope(s, t);
    int status = -1, message, said;
    struct buf records = {0};
    struct smtp_reply reply;

    put_envelope(&records, t->arena, &envelope);
    put(&records, REC_CONTENT, "");
    put_content(&records, buf_slice(&t->content));
    put(&records, REC_EXTRACTED, "");
    put(&records, REC_END, "");
    message = make_file(&records);
    said = memfd_create("postdrop", MFD_CLOEXEC);
    if (message >= 0 && said >= 0)
        status = run(path, message, said);
    reply = reply_for(s, status, said >= 0 ? what_was_said(s->cmd, said) : "");
    if (message >= 0)
        close(message);
    if (said >= 0)
        close(said);
    buf_release(&records);
    return reply;
}
