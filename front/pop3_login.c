/* SPDX-License-Identifier: Apache-2.0 */
/* POP3 up to the login: CAPA (RFC 2449), STLS (RFC 2595), USER, PASS, AUTH (RFC 5034), UTF8, NOOP is not there, QUIT. */
#include <string.h>

#include "front/front.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"

enum { BAD_COMMANDS = 20, LINE_LIMIT = 4096 };

struct dialogue {
    struct connection *c;
    bool has_user;
    struct buf user; /* of USER: one at a time, however often a client says it */
};

static void may_wait
cmd_capa(struct connection *c)
{
    struct buf out = {0};
    buf_append_text(&out,
                    "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n");
    if (front_has_tls(c))
        buf_append_text(&out, "STLS\r\n");
    if (front_may_send_password(c))
        buf_append_text(&out, "USER\r\n");
    size_t before = out.len;
    buf_append_text(&out, "SASL");
    size_t named = out.len;
    front_put_mechanisms(c, " ", &out);
    if (out.len == named)
        out.len = before;
    else
        buf_append_text(&out, "\r\n");
    buf_append_text(&out, "IMPLEMENTATION Postern\r\n.\r\n");
    stream_write(c->stream, out.ptr, out.len);
    buf_release(&out);
}

/* True: over. */
static bool may_wait
after_login(struct connection *c, const char *method, const struct auth_step *step)
{
    switch (step->result) {
    case AUTH_OK:
        if (front_hand_over(c, step, method, "") == 0)
            return true;
        stream_write_text(c->stream, "-ERR [SYS/TEMP] Mailbox not available now.\r\n");
        return false;
    case AUTH_TEMP: stream_write_text(c->stream, "-ERR [SYS/TEMP] Temporary authentication failure.\r\n"); return false;
    default: break;
    }
    bool over = front_failed(c, method, step);
    stream_write_text(c->stream, "-ERR [AUTH] Authentication failed.\r\n");
    return over;
}

static bool
cannot_ask(struct connection *c)
{
    if (c->err.kind == ERR_CLOSED)
        return true;
    if (c->err.kind == ERR_SYNTAX)
        stream_printf(c->stream, "-ERR %s\r\n", c->err.text);
    else {
        log_warning("%s: %s: %s", c->client, c->front->set.login_auth_path, c->err.text);
        stream_write_text(c->stream, "-ERR [SYS/TEMP] Temporary authentication failure.\r\n");
    }
    return false;
}

static void
cmd_user(struct dialogue *d, struct slice args)
{
    struct connection *c = d->c;
    if (!front_may_send_password(c)) {
        stream_write_text(c->stream, "-ERR [AUTH] Plaintext authentication only with TLS.\r\n");
    } else if (args.len == 0) {
        stream_write_text(c->stream, "-ERR A name is expected.\r\n");
    } else {
        buf_clear(&d->user);
        buf_append_slice(&d->user, args);
        d->has_user = true;
        stream_write_text(c->stream, "+OK\r\n");
    }
}

static bool may_wait
cmd_pass(struct dialogue *d, struct slice args)
{
    struct connection *c = d->c;
    struct auth_step step;
    if (!d->has_user) {
        stream_write_text(c->stream, "-ERR USER comes first.\r\n");
        return false;
    }
    struct slice password = arena_slice(c->cmd, args);
    d->has_user = false;
    int result = front_password(c, buf_slice(&d->user), password, &step);
    auth_wipe((void *)(uintptr_t)password.ptr, password.len);
    return result < 0 ? cannot_ask(c) : after_login(c, "USER", &step);
}

static bool may_wait
cmd_auth(struct dialogue *d, struct slice args)
{
    struct connection *c = d->c;
    struct slice word;
    struct auth_step step;
    const char *initial = NULL;
    if (!slice_word(&args, " ", &word)) {
        struct buf out = {0};
        front_put_mechanisms(c, "\r\n", &out);
        stream_printf(c->stream, "+OK%s\r\n.\r\n", buf_text(&out));
        buf_release(&out);
        return false;
    }
    char *name = arena_strndup(c->cmd, word.ptr, word.len);
    for (char *at = name; *at; at++)
        *at = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    if (slice_word(&args, " ", &word))
        initial = slice_equal_text(word, "=") ? "" : arena_strndup(c->cmd, word.ptr, word.len);
    if (!front_has_mechanism(c, name)) {
        stream_write_text(c->stream, "-ERR Unsupported authentication mechanism.\r\n");
        return false;
    }
    int result = front_authenticate(c, name, initial, &step);
    return result < 0 ? cannot_ask(c) : after_login(c, name, &step);
}

static bool may_wait
cmd_stls(struct dialogue *d)
{
    struct connection *c = d->c;
    if (!front_has_tls(c)) {
        stream_write_text(c->stream, "-ERR TLS is not available.\r\n");
        return false;
    }
    stream_write_text(c->stream, "+OK Begin TLS negotiation now.\r\n");
    d->has_user = false;
    return front_start_tls(c) < 0;
}

/* True: over. *bad: it was no command that we know. */
static bool may_wait
run(struct dialogue *d, struct slice line, bool *bad)
{
    struct connection *c = d->c;
    struct slice verb = {"", 0}, args = line;
    slice_word(&args, " ", &verb);
    if (args.len > 0) /* one blank divides; a password may have more */
        args = slice_make(args.ptr + (args.ptr[0] == ' '), args.len - (args.ptr[0] == ' '));
    *bad = false;
    if (slice_equal_text_fold(verb, "CAPA"))
        cmd_capa(c);
    else if (slice_equal_text_fold(verb, "USER"))
        cmd_user(d, args);
    else if (slice_equal_text_fold(verb, "PASS"))
        return cmd_pass(d, args);
    else if (slice_equal_text_fold(verb, "AUTH"))
        return cmd_auth(d, args);
    else if (slice_equal_text_fold(verb, "STLS"))
        return cmd_stls(d);
    else if (slice_equal_text_fold(verb, "QUIT")) {
        stream_write_text(c->stream, "+OK Bye.\r\n");
        return true;
    } else {
        stream_write_text(c->stream, "-ERR Unknown command, or not before a login.\r\n");
        *bad = true;
    }
    return false;
}

static void may_wait
talk(struct dialogue *d)
{
    struct connection *c = d->c;
    unsigned wrong = 0;
    stream_write_text(c->stream, "+OK ready.\r\n");
    while (wrong < BAD_COMMANDS) {
        enum stream_line_end ending;
        struct slice line;
        bool bad;
        if (stream_read_line(c->stream, LINE_LIMIT, &line, &ending, &c->err) < 0) {
            if (c->err.kind == ERR_TIMEOUT) {
                stream_forgive_timeout(c->stream);
                stream_write_text(c->stream, "-ERR No login for too long.\r\n");
            }
            return;
        }
        if (ending == STREAM_LINE_CUT || memchr(line.ptr, '\0', line.len)) {
            stream_write_text(c->stream, "-ERR Malformed line.\r\n");
            return;
        }
        if (run(d, line, &bad) || !c->stream || c->relay_fd >= 0)
            return;
        wrong += bad;
        arena_reset(c->cmd);
    }
    stream_write_text(c->stream, "-ERR Too many errors.\r\n");
}

void
pop3_login(struct connection *c)
{
    struct dialogue d = {.c = c};
    talk(&d);
    buf_release(&d.user);
}
