/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "imap/park.h"
#include "imap/settings.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/imap/output.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/service/user_process.h"

static const struct command commands[] = {
#define CMD(verb, handler, states, flags) {verb, handler, states, flags},
#include "imap/commands.def"
#undef CMD
};

const char *session_capabilities;

static const char capabilities[] =
    "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR IDLE NAMESPACE ID ENABLE UIDPLUS UNSELECT CHILDREN MOVE ESEARCH SEARCHRES WITHIN SORT "
    "SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS LIST-EXTENDED LIST-STATUS SPECIAL-USE STATUS=SIZE MULTIAPPEND "
    "BINARY UTF8=ACCEPT CONDSTORE QRESYNC COMPRESS=DEFLATE CREATE-SPECIAL-USE SAVEDATE OBJECTID PREVIEW REPLACE CATENATE "
    "QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE ACL RIGHTS=texk LIST-MYRIGHTS METADATA I18NLEVEL=1 PARTIAL UIDONLY INPROGRESS";

void
session_make_capabilities(struct arena *arena)
{
    session_capabilities = settings.append_limit ? arena_printf(arena, "%s APPENDLIMIT=%llu", capabilities,
                                                                (unsigned long long)settings.append_limit)
                                                 : capabilities;
}

const char session_idle_text[] = "* BYE idle for too long\r\n";
const char session_stop_text[] = "* BYE [UNAVAILABLE] the server is stopping\r\n";
static const char mailbox_text[] = "* BYE [UNAVAILABLE] the mailbox can't be read\r\n";

static struct session *sessions;

/* ---- replies ---- */

struct imap_reply
imap_ok(const char *text)
{
    return (struct imap_reply){IMAP_OK, NULL, text};
}

struct imap_reply
imap_no(struct session *s, const char *code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = arena_vprintf(s->cmd, fmt, args);
    va_end(args);
    return (struct imap_reply){IMAP_NO, code, text};
}

/* Codes of RFC 5530. */
static const char *
code_of(const struct err *err)
{
    if (strcmp(err->text, "no such mailbox") == 0)
        return "NONEXISTENT";
    if (strcmp(err->text, "the mailbox exists already") == 0)
        return "ALREADYEXISTS";
    switch (err->kind) {
    case ERR_SYNTAX: return "CANNOT";
    case ERR_TEMP: return "INUSE";
    case ERR_IO: return err->code == ENOSPC || err->code == EDQUOT ? "OVERQUOTA" : "SERVERBUG";
    default: return NULL;
    }
}

struct imap_reply
imap_error(struct session *s, const struct err *err)
{
    if (err->kind == ERR_IO)
        log_warning("%s", err->text);
    return imap_no(s, code_of(err), "%s", err->text);
}

struct imap_reply
imap_bad(struct session *s)
{
    if (s->in.err.kind != ERR_SYNTAX)
        return (struct imap_reply){IMAP_GONE, NULL, NULL};
    return (struct imap_reply){IMAP_BAD, NULL, arena_strdup(s->cmd, s->in.err.text)};
}

/* ---- output ---- */

void
session_write(struct session *s, struct slice bytes)
{
    s->bytes_out += bytes.len;
    stream_write(s->stream, bytes.ptr, bytes.len);
}

void
session_printf(struct session *s, const char *fmt, ...)
{
    struct buf out = {0};
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&out, fmt, args);
    va_end(args);
    session_write(s, buf_slice(&out));
    buf_release(&out);
}

static void
send_reply(struct session *s, const char *tag, struct imap_reply reply)
{
    static const char *const names[] = {"OK", "NO", "BAD"};
    if (reply.status == IMAP_GONE || reply.status == IMAP_SENT)
        return;
    if (reply.code)
        session_printf(s, "%s %s [%s] %s\r\n", tag, names[reply.status], reply.code, reply.text);
    else
        session_printf(s, "%s %s %s\r\n", tag, names[reply.status], reply.text);
}

void
session_put_flags(struct buf *out, const struct folder *folder, const struct folder_message *message, bool recent)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {{FLAG_ANSWERED, "\\Answered"},
                 {FLAG_FLAGGED, "\\Flagged"},
                 {FLAG_DELETED, "\\Deleted"},
                 {FLAG_SEEN, "\\Seen"},
                 {FLAG_DRAFT, "\\Draft"}};
    const char *blank = "";
    buf_append_byte(out, '(');
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (message->flags & names[i].flag) {
            buf_printf(out, "%s%s", blank, names[i].name);
            blank = " ";
        }
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if ((message->keywords & (1U << i)) && folder_keyword(folder, i)) {
            buf_printf(out, "%s%s", blank, folder_keyword(folder, i));
            blank = " ";
        }
    if (recent)
        buf_printf(out, "%s\\Recent", blank);
    buf_append_byte(out, ')');
}

/* ---- the selected mailbox ---- */

int
session_sync(struct session *s, bool expunges, struct err *err)
{
    struct buf out = {0};
    if (!s->selected)
        return 0;
    s->told = s->selected->changes;
    if (folder_sync(s->selected->folder, err) < 0)
        return -1;
    if (folder_uid_validity(s->selected->folder) != s->view.uid_validity)
        return err_set(err, ERR_PERM, "%s: another program numbered the messages anew", s->selected->name);
    view_update(&s->view, s->selected->folder, expunges, &out);
    session_write(s, buf_slice(&out));
    buf_release(&out);
    return 0;
}

void
session_lose_mailbox(struct session *s, const struct err *err)
{
    log_warning("%s", err->text);
    s->mailbox_failed = true;
    stream_cancel(s->stream);
}

void
session_unselect(struct session *s)
{
    if (!s->selected)
        return;
    view_release(&s->view);
    mailbox_close(s->mailboxes, s->selected);
    s->selected = NULL;
    free(s->saved);
    s->saved = NULL;
    s->saved_count = 0;
    s->has_saved = false;
}

int
session_set_uids(struct session *s, struct imap_set *set, uint32_t **uids, size_t *count)
{
    const struct view *view = &s->view;
    uint32_t max = s->by_uid ? (view->count ? view->uids[view->count - 1] : 0) : (uint32_t)view->count;
    *uids = arena_array(s->cmd, view->count + 1, sizeof(**uids));
    *count = 0;
    if (set->is_saved) {
        for (size_t i = 0; i < s->saved_count; i++)
            if (view_sequence(view, s->saved[i]))
                (*uids)[(*count)++] = s->saved[i];
        return 0;
    }
    imap_set_resolve(set, max);
    for (size_t r = 0; r < set->count; r++) {
        struct imap_range range = set->ranges[r];
        if (!s->by_uid && (range.from == 0 || range.to > view->count))
            return imap_fail(&s->in, "no such message");
        size_t from = s->by_uid ? view_lower_bound(view, range.from) : range.from - 1;
        for (size_t i = from; i < view->count && (s->by_uid ? view->uids[i] <= range.to : i < range.to); i++)
            (*uids)[(*count)++] = view->uids[i];
    }
    return 0;
}

/* ---- commands ---- */

static const struct command *
find_command(const char *verb)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].verb, verb) == 0)
            return &commands[i];
    return NULL;
}

static struct imap_reply
no_such_command(struct session *s)
{
    (void)imap_fail(&s->in, "unknown command");
    return imap_bad(s);
}

/* "UID FETCH": the verb is the next word. */
static const struct command *
take_uid_command(struct session *s)
{
    const char *verb;
    if (imap_space(&s->in) < 0 || imap_atom(&s->in, &verb) < 0)
        return NULL;
    char *upper = arena_strdup(s->cmd, verb);
    for (char *at = upper; *at; at++)
        *at = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    const struct command *command = find_command(upper);
    return command && (command->flags & CMD_BY_UID) ? command : NULL;
}

static struct imap_reply
run_command(struct session *s, const char *verb)
{
    s->by_uid = strcmp(verb, "UID") == 0;
    const struct command *command = s->by_uid ? take_uid_command(s) : find_command(verb);
    struct err err;
    if (!command)
        return no_such_command(s);
    if (!(command->states & (s->selected ? IN_SELECTED : IN_LOGGED_IN))) {
        (void)imap_fail(&s->in, "no mailbox is selected");
        return imap_bad(s);
    }
    if (s->uid_only && !s->by_uid && (command->flags & CMD_NUMBERS)) {
        (void)imap_fail(&s->in, "[UIDREQUIRED] messages have no numbers here");
        return imap_bad(s);
    }
    struct imap_reply reply = command->handler(s);
    if (reply.status == IMAP_GONE || s->done)
        return reply;
    bool is_known = s->is_fresh;
    s->is_fresh = false;
    if (!is_known && session_sync(s, s->by_uid || !(command->flags & CMD_KEEPS), &err) < 0) {
        log_warning("%s", err.text);
        session_printf(s, "%s", mailbox_text);
        s->end_reason = "mailbox failed";
        s->done = true;
    }
    return reply;
}

/* What follows a command's handler. */
static void
finish_command(struct session *s, const char *tag, struct imap_reply reply)
{
    if (reply.status == IMAP_GONE) {
        s->done = true;
        return;
    }
    send_reply(s, *tag ? tag : "*", reply);
    if (reply.status == IMAP_BAD)
        imap_skip_rest(&s->in);
    arena_reset(s->cmd);
}

/* Waits for the next command to begin; who takes long is parked. False: it was, or is over. */
static bool
await_command(struct session *s, usec_t due)
{
    const usec_t patience = settings.park_time > SECONDS(30) ? settings.park_time : SECONDS(30);
    struct slice bytes;
    while (settings.park_time > 0 && !s->cannot_park && stream_buffered(s->stream) == 0) {
        usec_t until = loop_now() + patience;
        stream_set_deadline(s->stream, until < due ? until : due);
        if (stream_peek(s->stream, &bytes, &s->in.err) == 0)
            break;
        if (s->in.err.kind != ERR_TIMEOUT || loop_now() >= due)
            return false;
        stream_forgive_timeout(s->stream);
        if (session_park(s, false, due))
            return false;
    }
    return true;
}

static void
serve_command(struct session *s, usec_t due)
{
    const char *tag, *verb;
    struct imap_reply reply;

    if (!await_command(s, due)) {
        s->done = true;
        return;
    }
    stream_set_deadline(s->stream, due);
    if (imap_command_begin(&s->in, &tag, &verb) < 0) {
        reply = imap_bad(s);
    } else {
        s->tag = tag;
        reply = run_command(s, verb);
    }
    finish_command(s, tag, reply);
}

/* ---- beginning and end ---- */

void
session_stop_all(void)
{
    for (struct session *s = sessions; s; s = s->next) {
        s->stopping = true;
        stream_cancel(s->stream);
    }
}

static void
say_goodbye(struct session *s)
{
    const char *text = s->stopping                     ? session_stop_text
                       : s->mailbox_failed             ? mailbox_text
                       : s->in.err.kind == ERR_TIMEOUT ? session_idle_text
                                                       : NULL;
    if (!s->end_reason)
        s->end_reason = s->stopping                     ? "server stopping"
                        : s->mailbox_failed             ? "mailbox failed"
                        : s->in.err.kind == ERR_TIMEOUT ? "idle timeout"
                                                        : "connection closed";
    if (text && !stream_is_tls(s->stream) && !s->compressed)
        (void)!send(stream_fd(s->stream), text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static unsigned
count_sessions(void)
{
    unsigned count = 0;
    for (const struct session *s = sessions; s; s = s->next)
        count++;
    return count;
}

static struct session *
session_new(struct mailboxes *mailboxes, int fd, const struct msg_session *from)
{
    struct session *s = calloc(1, sizeof(*s));
    if (!s)
        fatal("out of memory");
    s->arena = arena_new();
    s->cmd = arena_new();
    s->stream = stream_new(fd);
    s->from = from;
    s->in = (struct imap_input){.stream = s->stream, .arena = s->cmd, .limit = (size_t)settings.command_limit};
    s->mailboxes = mailboxes;
    s->next = sessions;
    sessions = s;
    return s;
}

static void
session_free(struct session *s)
{
    session_unselect(s);
    for (struct session **at = &sessions; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    stream_free(&s->stream);
    arena_free(&s->cmd);
    arena_free(&s->arena);
    free(s);
}

/* From here to its end. */
static void
session_run(struct session *s)
{
    struct err err;
    while (!s->done)
        serve_command(s, loop_now() + settings.idle_timeout);
    if (!s->parked) {
        stream_set_deadline(s->stream, loop_now() + SECONDS(10));
        (void)!stream_flush(s->stream, &err);
        say_goodbye(s);
        log_imap_logout(s->from->client_name, s->from->client_address, user_identity()->user,
                        (unsigned long long)s->bytes_out, s->end_reason);
    }
    session_free(s);
}

void
session_serve(struct mailboxes *mailboxes, int fd, const struct msg_session *from, struct slice input)
{
    struct session *s = session_new(mailboxes, fd, from);
    stream_unread(s->stream, input);
    if (count_sessions() + (unsigned)from->parked > settings.session_limit) {
        session_printf(s, "%s NO [LIMIT] too many sessions of this user\r\n* BYE\r\n", from->tag);
        s->end_reason = "too many sessions";
        s->done = true;
    } else {
        session_printf(s, "%s OK [CAPABILITY %s] Logged in\r\n", from->tag, session_capabilities);
    }
    session_run(s);
}

/* In IDLE, as if nothing had been between: what changed is told, then DONE is waited for. */
static void
resume_idle(struct session *s, usec_t due)
{
    struct imap_reply reply;
    struct err err;
    if (s->selected)
        mailbox_watch(s->mailboxes, s->selected);
    stream_set_deadline(s->stream, loop_now() + SECONDS(60));
    if (session_sync(s, true, &err) < 0)
        session_lose_mailbox(s, &err);
    if (s->mailbox_failed || stream_flush(s->stream, &s->in.err) < 0)
        reply = (struct imap_reply){IMAP_GONE, NULL, NULL};
    else
        reply = session_idle(s, due);
    finish_command(s, s->tag, reply);
}

void
session_resume(struct mailboxes *mailboxes, int fd, const struct msg_session *from, struct slice state,
               struct user_told told)
{
    struct session *s = session_new(mailboxes, fd, from);
    struct park_resumed resumed;
    struct err err;
    s->tag = from->tag;
    if (session_unpark(s, state, told, &resumed, &err) < 0) {
        session_printf(s, "* BYE [UNAVAILABLE] %s\r\n", err.text);
        s->end_reason = "mailbox failed";
        s->done = true;
    } else if (resumed.idling) {
        resume_idle(s, resumed.due);
    }
    session_run(s);
}
