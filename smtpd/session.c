/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/run/proxy_header.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "lib/smtp/command.h"
#include "smtpd/client_limits.h"
#include "smtpd/footer.h"
#include "smtpd/restrict.h"
#include "smtpd/starttls.h"

/* What is read of a command that is too long, while its end is looked for. */
enum { ENDLESS_LINE = 64 * 1024 };

#define LAST_REPLY_TIME SECONDS(10)

/* ---- the life of a session ---- */

static struct session *
session_new(struct server *server, int fd)
{
    struct session *s = calloc(1, sizeof *s); /* by itself: an arena's blocks fit texts */

    if (!s)
        fatal("out of memory");
    s->magic = SESSION_MAGIC;
    s->server = server;
    s->task = task_current();
    list_append(&server->sessions, &s->link);
    s->arena = arena_new();
    s->cmd = arena_new();
    s->stream = stream_new(fd);
    s->protocol = "SMTP";
    s->where = "CONNECT";
    return s;
}

static void may_wait
session_free(struct session *s)
{
    check(s->magic == SESSION_MAGIC);
    list_remove(&s->link);
    session_reset(s);
    stream_free(&s->stream);
    arena_free(&s->cmd);
    arena_free(&s->arena);
    s->magic = 0;
    free(s);
}

void may_wait
session_reset(struct session *s)
{
    s->instance = NULL;
    xforward_free(&s->xforward);
    if (s->transaction)
        transaction_free(&s->transaction);
}

const char *
session_instance(struct session *s)
{
    if (!s->instance)
        s->instance =
            arena_printf(s->transaction ? s->transaction->arena : s->arena, "%x.%llx.%x.0", (unsigned)getpid(),
                         (unsigned long long)(loop_now_wall() / SECONDS(1)), ++s->server->instances);
    return s->instance;
}

const char *
session_fingerprint(struct session *s, bool of_key)
{
    const char *digest = s->server->set.smtpd_tls_fingerprint_digest;
    char text[200];

    if (stream_tls_fingerprint(s->stream, digest, of_key, text, sizeof text) < 0)
        return "";
    if (access_by_old_default(s, "smtpd_tls_fingerprint_digest"))
        log_old_fingerprint_digest(digest);
    return arena_strdup(s->cmd, text);
}

unsigned
session_state(const struct session *s)
{
    if (!s->transaction)
        return IN_NOTHING;
    if (s->transaction->in_bdat)
        return IN_BDAT;
    return s->transaction->recipient_count ? IN_RCPT : IN_MAIL;
}

/* A proxy says whose the connection is. Who says something else is no proxy. */
static int may_wait
read_proxy_header(const struct server *server, int fd, struct proxy_header *header)
{
    struct err err;

    header->is_local = true;
    if (!server->set.smtpd_upstream_proxy_protocol[0])
        return 0;
    if (proxy_header_read(fd, loop_now() + server->set.smtpd_upstream_proxy_timeout, header, &err) == 0)
        return 0;
    log_warning("haproxy read: %s", err.text);
    return -1;
}

static void
find_server_address(struct session *s, const struct proxy_header *proxy)
{
    struct net_addr addr = {.len = sizeof addr - offsetof(struct net_addr, any)};
    char text[INET6_ADDRSTRLEN] = "";

    if (!proxy->is_local)
        addr = proxy->server;
    else if (getsockname(stream_fd(s->stream), &addr.any, &addr.len) < 0)
        addr.any.sa_family = AF_UNSPEC;
    net_addr_unmap(&addr);
    net_addr_format(&addr, text, sizeof text);
    s->server_address = arena_strdup(s->arena, text);
    s->server_port = net_addr_port(&addr);
}

/* ---- input and output ---- */

void
session_set_deadline(struct session *s)
{
    stream_set_deadline(s->stream, loop_now() + s->server->set.smtpd_timeout);
}

void may_wait
session_send(struct session *s, struct smtp_reply reply)
{
    struct buf out = {0};

    if (reply.code == 0)
        return;
    if (s->server->set.soft_bounce && reply.code / 100 == 5) {
        reply.code -= 100;
        if (reply.enhanced && reply.enhanced[0] == '5')
            reply.enhanced = arena_printf(s->cmd, "4%s", reply.enhanced + 1);
    }
    if (smtp_reply_is_error(reply))
        reply = footer_add(s, reply);
    smtp_reply_encode(reply, &out);
    if (s->errors >= (unsigned)s->server->set.smtpd_soft_error_limit && s->server->set.smtpd_error_sleep_time > 0)
        (void)!task_sleep(s->server->set.smtpd_error_sleep_time, &s->err); /* cancelled: the next read tells */
    stream_write(s->stream, out.ptr, out.len);
    buf_release(&out);
}

struct smtp_reply
session_input_failed(struct session *s, const struct err *err)
{
    if (err->kind == ERR_TIMEOUT) {
        s->end_reason = "timeout";
        stream_forgive_timeout(s->stream);
        return smtp_reply_close(s->cmd, 421, "4.4.2", "%s Error: timeout exceeded", s->server->set.myhostname);
    }
    stream_forgive_timeout(s->stream); /* cancelled */
    if (err->kind == ERR_CANCELLED)
        return smtp_reply_close(s->cmd, 421, "4.3.2", "%s Service closing transmission channel",
                                s->server->set.myhostname);
    s->end_reason = "lost connection";
    return smtp_reply_close(s->cmd, 421, "4.3.0", "%s Error: connection lost", s->server->set.myhostname);
}

static size_t
line_limit(const struct session *s)
{
    int64_t limit = s->server->set.line_length_limit;
    return limit < STREAM_IN_SIZE - 2 ? (size_t)limit : STREAM_IN_SIZE - 2;
}

/* The rest of a line that is too long is thrown away; *end is set if there is no end to it. */
static int may_wait
skip_line(struct session *s, bool *endless, struct err *err)
{
    enum stream_line_end ending = STREAM_LINE_CUT;
    struct slice line;

    for (size_t skipped = 0; ending == STREAM_LINE_CUT; skipped += line.len) {
        *endless = skipped > ENDLESS_LINE;
        if (*endless)
            return 0;
        if (stream_read_line(s->stream, line_limit(s), &line, &ending, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- commands ---- */

static bool
is_listed(const char *list, struct slice word)
{
    struct slice rest = slice_from(list), item;

    while (slice_word(&rest, ", \t\r\n", &item))
        if (slice_equal_fold(item, word))
            return true;
    return false;
}

/* smtpd_forbidden_commands: words; of tables, only the one in the default is known. */
static bool
is_forbidden(const struct session *s, struct slice verb)
{
    const char *list = s->server->set.smtpd_forbidden_commands;

    if (is_listed(list, verb))
        return true;
    return !text_is_alpha(verb.ptr[0]) && strstr(list, "regexp:{{/^[^A-Z]/ Bogus}}");
}

static struct smtp_reply
unknown_command(struct session *s, struct slice verb, struct slice line)
{
    s->where = "UNKNOWN";
    if (verb.len == 0)
        return smtp_reply(s->cmd, 500, "5.5.2", "Error: bad syntax");
    if (is_forbidden(s, verb)) {
        log_warning("non-SMTP command from %s: %.*s", s->client, (int)(line.len < 100 ? line.len : 100), line.ptr);
        return smtp_reply_close(s->cmd, 221, "2.7.0", "Error: I can break rules, too. Goodbye.");
    }
    return smtp_reply(s->cmd, 502, "5.5.2", "Error: command not recognized");
}

/* Something is pipelined behind a command that must be the last of its group, or by a client that did not say EHLO. */
static bool
is_badly_pipelined(struct session *s, const struct command *command)
{
    if (s->bad_pipelining || (command->flags & CMD_BYTES) || stream_buffered(s->stream) == 0)
        return false;
    if (strcmp(s->protocol, "ESMTP") == 0 && !(command->flags & CMD_LAST))
        return false;
    struct slice bytes;
    if (stream_peek(s->stream, &bytes, &s->err) < 0) /* does not wait: there are some */
        return false;
    log_pipelining(s->where, s->client, slice_make(bytes.ptr, bytes.len < 100 ? bytes.len : 100));
    s->bad_pipelining = true;
    return true;
}

static struct smtp_reply
misplaced(struct session *s, const struct command *command)
{
    if (command == &commands[COMMAND_DATA] && s->transaction && s->transaction->in_bdat)
        return smtp_reply(s->cmd, 503, "5.5.1", "Error: DATA after BDAT");
    if (command == &commands[COMMAND_DATA] && s->transaction && s->transaction->refused)
        return smtp_reply(s->cmd, 554, "5.5.1", "Error: no valid recipients");
    return smtp_reply(s->cmd, 503, "5.5.1", "Error: %s", command->misplaced);
}

static struct smtp_reply may_wait
dispatch(struct session *s, const struct command *command, struct slice args)
{
    if (s->denied && command != &commands[COMMAND_QUIT])
        return smtp_reply(s->cmd, 503, "5.7.0", "Error: access denied for %s", s->client);
    if (is_badly_pipelined(s, command) && s->server->set.smtpd_forbid_unauth_pipelining)
        return smtp_reply_close(s->cmd, 554, "5.5.0", "Error: SMTP protocol synchronization");
    if (s->server->tls_level == TLS_LEVEL_ENCRYPT && !stream_is_tls(s->stream) && !(command->flags & CMD_PRE_TLS))
        return smtp_reply(s->cmd, 530, "5.7.0", "Must issue a STARTTLS command first");
    if (!(command->states & session_state(s)))
        return misplaced(s, command);
    if ((command->flags & CMD_NO_ARGS) && args.len > 0)
        return smtp_reply(s->cmd, 501, "5.5.4", "Syntax: %s", command->syntax);
    return command->handler(s, args);
}

static struct smtp_reply may_wait
run_command(struct session *s, struct slice line)
{
    struct smtp_command parts = smtp_command_split(line);
    const struct command *command = command_find(parts.verb);

    if (!command && parts.verb.len && is_listed(s->server->set.smtpd_noop_commands, parts.verb))
        command = &commands[COMMAND_NOOP];
    struct command_count *count = &s->counts[command ? command - commands : COMMAND_COUNT];
    count->all++;
    if (!command)
        return unknown_command(s, parts.verb, line);
    s->where = command->verb;
    struct smtp_reply reply = dispatch(s, command, parts.args);
    if (!smtp_reply_is_error(reply))
        count->ok++;
    if ((command->flags & CMD_JUNK) && ++s->junk > (unsigned)s->server->set.smtpd_junk_command_limit)
        s->errors++;
    return reply;
}

void
session_end_idle(struct server *server)
{
    LIST_EACH(link, &server->sessions)
    {
        struct session *s = LIST_ENTRY(link, struct session, link);
        check(s->magic == SESSION_MAGIC);
        if (s->idle)
            task_cancel(s->task);
    }
}

/* A system that stops waits for what a client has begun to send, not for what it may say next. */
static int may_wait
read_command(struct session *s, struct slice *line, enum stream_line_end *ending)
{
    int result;

    if (service_is_terminating() && stream_buffered(s->stream) == 0)
        return err_set(&s->err, ERR_CANCELLED, "the system stops");
    session_set_deadline(s);
    s->idle = true;
    result = stream_read_line(s->stream, line_limit(s), line, ending, &s->err);
    s->idle = false;
    return result;
}

/* smtpd_command_filter: another line may take the line's place. -1: a table failed. */
static int may_wait
filter_command(struct session *s, struct slice *line)
{
    const struct maps *filter = s->server->command_filter;
    const char *value;

    if (!filter || maps_is_empty(filter) || slice_has_byte(*line, '\0'))
        return 0;
    while (line->len > 0 && (*line->ptr == ' ' || *line->ptr == '\t'))
        *line = slice_make(line->ptr + 1, line->len - 1);
    /* Tables know no empty keys; the manual's pattern for an empty line, ^\s*$, matches a blank. */
    struct slice key = line->len > 0 ? arena_slice(s->cmd, *line) : slice_from(" ");
    if (maps_find(filter, s->cmd, key, &value, &s->err) < 0)
        return -1;
    if (value)
        *line = slice_from(value);
    return 0;
}

static struct smtp_reply may_wait
answer_command(struct session *s, struct slice line)
{
    if (filter_command(s, &line) == 0) {
        if (s->server->set.smtputf8_enable && text_has_8bit(line) && !text_is_utf8(line))
            return smtp_reply(s->cmd, 500, "5.5.2", "Error: bad UTF-8 syntax");
        return run_command(s, line);
    }
    log_warning("%s: %s", s->client, s->err.text);
    return smtp_reply(s->cmd, 451, "4.3.0", "Temporary lookup failure");
}

/* Reads a command and answers it. False: the session is over. */
static bool may_wait
serve_command(struct session *s)
{
    enum stream_line_end ending;
    struct smtp_reply reply;
    struct slice line;
    bool endless = false;
    int result = read_command(s, &line, &ending);

    if (result == 0 && ending == STREAM_LINE_CUT) {
        s->where = "UNKNOWN";
        s->counts[COMMAND_COUNT].all++;
        result = skip_line(s, &endless, &s->err);
        reply = smtp_reply(s->cmd, 500, "5.5.2", "Error: line too long");
        reply.close = endless;
    } else if (result == 0) {
        reply = answer_command(s, line);
    }
    if (result < 0)
        reply = session_input_failed(s, &s->err);
    if (smtp_reply_is_error(reply) && !reply.forgiven)
        s->errors++;
    session_send(s, reply);
    arena_reset(s->cmd);
    return !reply.close;
}

static bool
has_too_many_errors(struct session *s)
{
    if (s->errors < (unsigned)s->server->set.smtpd_hard_error_limit)
        return false;
    s->end_reason = "too many errors";
    session_send(s, smtp_reply(s->cmd, 421, "4.7.0", "%s Error: too many errors", s->server->set.myhostname));
    return true;
}

/* ---- beginning and end ---- */

/* -1: the client may not stay; it was told. */
static int may_wait
greet(struct session *s)
{
    struct smtp_reply refusal;

    if (limits_connect(s, &refusal) < 0) {
        session_send(s, refusal);
        return -1;
    }
    if (s->server->set.smtpd_tls_wrappermode) {
        session_set_deadline(s);
        if (starttls_now(s, &s->err) < 0)
            return -1;
    }
    if (access_check_connect(s, &refusal) < 0) {
        s->denied = arena_strdup(s->arena, refusal.text);
        session_send(s, refusal);
        return refusal.code == 521 || refusal.code == 421 ? -1 : 0;
    }
    session_send(s, smtp_reply(s->cmd, 220, NULL, "%s", s->server->set.smtpd_banner));
    return 0;
}

void may_wait
session_serve(struct server *server, int fd, const struct net_addr *addr)
{
    struct proxy_header proxy;

    if (read_proxy_header(server, fd, &proxy) < 0) {
        close(fd);
        return;
    }
    struct session *s = session_new(server, fd);
    s->addr = proxy.is_local ? *addr : proxy.client;
    if (s->addr.len == 0 || s->addr.any.sa_family == AF_UNIX) /* somebody on this machine */
        check(net_addr_parse("127.0.0.1", 0, &s->addr, &s->err) == 0);
    find_server_address(s, &proxy);
    peer_lookup(server, s->arena, &s->addr, &s->peer);
    s->client = server->set.smtpd_client_port_logging
                    ? arena_printf(s->arena, "%s[%s]:%u", s->peer.name, s->peer.address, s->peer.port)
                    : arena_printf(s->arena, "%s[%s]", s->peer.name, s->peer.address);
    session_log_connect(s);
    if (greet(s) == 0)
        while (serve_command(s) && !has_too_many_errors(s))
            ;
    stream_set_deadline(s->stream, loop_now() + LAST_REPLY_TIME);
    (void)!stream_flush(s->stream, &s->err);
    limits_disconnect(s);
    session_log_end(s);
    session_free(s);
}
