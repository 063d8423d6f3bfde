/* SPDX-License-Identifier: Apache-2.0 */
/* IMAP up to the login: CAPABILITY, NOOP, LOGOUT, ID, STARTTLS, LOGIN, AUTHENTICATE (RFC 3501 section 6.1 and 6.2, SASL-IR of
 * RFC 4959). */
#include <string.h>

#include "front/front.h"
#include "lib/base/log.h"
#include "lib/imap/input.h"
#include "lib/run/loop.h"

enum { BAD_COMMANDS = 20, LOGIN_LIMIT = 16384 };

static void may_wait
put_capabilities(struct connection *c, struct buf *out)
{
    buf_append_text(out, "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID");
    if (front_has_tls(c))
        buf_append_text(out, " STARTTLS");
    if (!front_may_send_password(c))
        buf_append_text(out, " LOGINDISABLED");
    front_put_mechanisms(c, " AUTH=", out);
}

static void may_wait
write_capabilities(struct connection *c, const char *before, const char *after)
{
    struct buf out = {0};
    put_capabilities(c, &out);
    stream_printf(c->stream, "%s%s%s\r\n", before, buf_text(&out), after);
    buf_release(&out);
}

/* What followed a login that auth has judged. True: the connection is no longer ours, or over. */
static bool may_wait
after_login(struct connection *c, const char *tag, const char *method, const struct auth_step *step)
{
    switch (step->result) {
    case AUTH_OK:
        if (front_hand_over(c, step, method, tag) == 0)
            return true;
        stream_printf(c->stream, "%s NO [UNAVAILABLE] Mailbox not available now.\r\n", tag);
        return false;
    case AUTH_TEMP:
        stream_printf(c->stream, "%s NO [UNAVAILABLE] Temporary authentication failure.\r\n", tag);
        return false;
    default: break;
    }
    bool over = front_failed(c, method, step);
    stream_printf(c->stream, "%s NO [%s] %s\r\n", tag, step->expired ? "EXPIRED" : "AUTHENTICATIONFAILED",
                  "Authentication failed.");
    if (over)
        stream_printf(c->stream, "* BYE Too many failed logins.\r\n");
    return over;
}

static bool may_wait
cannot_ask(struct connection *c, const char *tag)
{
    if (c->err.kind == ERR_SYNTAX)
        stream_printf(c->stream, "%s BAD %s\r\n", tag, c->err.text);
    else if (c->err.kind == ERR_CLOSED)
        return true;
    else {
        log_warning("%s: %s: %s", c->client, c->front->set.login_auth_path, c->err.text);
        stream_printf(c->stream, "%s NO [UNAVAILABLE] Temporary authentication failure.\r\n", tag);
    }
    return false;
}

static bool may_wait
cmd_login(struct connection *c, struct imap_input *in, const char *tag)
{
    struct slice user, password;
    struct auth_step step;
    if (imap_space(in) < 0 || imap_astring(in, &user) < 0 || imap_space(in) < 0 || imap_astring(in, &password) < 0 ||
        imap_end(in) < 0)
        return false;
    if (!front_may_send_password(c)) {
        stream_printf(c->stream, "%s NO [PRIVACYREQUIRED] Plaintext authentication only with TLS.\r\n", tag);
        return false;
    }
    int result = front_password(c, user, password, &step);
    auth_wipe((void *)(uintptr_t)password.ptr, password.len);
    return result < 0 ? cannot_ask(c, tag) : after_login(c, tag, "LOGIN", &step);
}

static bool may_wait
cmd_authenticate(struct connection *c, struct imap_input *in, const char *tag)
{
    struct auth_step step;
    const char *name, *initial = NULL;
    struct slice response;
    if (imap_space(in) < 0 || imap_atom(in, &name) < 0)
        return false;
    char *upper = arena_strdup(c->cmd, name);
    for (char *at = upper; *at; at++)
        *at = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    if (imap_at(in, ' ')) {
        if (imap_space(in) < 0 || imap_astring(in, &response) < 0)
            return false;
        initial = slice_equal_text(response, "=") ? "" : response.ptr;
    }
    if (imap_end(in) < 0)
        return false;
    if (!front_has_mechanism(c, upper)) {
        stream_printf(c->stream, "%s NO [CANNOT] Unsupported authentication mechanism.\r\n", tag);
        return false;
    }
    int result = front_authenticate(c, upper, initial, &step);
    return result < 0 ? cannot_ask(c, tag) : after_login(c, tag, upper, &step);
}

static bool may_wait
cmd_starttls(struct connection *c, struct imap_input *in, const char *tag)
{
    if (imap_end(in) < 0)
        return false;
    if (!front_has_tls(c)) {
        stream_printf(c->stream, "%s BAD TLS is not available.\r\n", tag);
        return false;
    }
    stream_printf(c->stream, "%s OK Begin TLS negotiation now.\r\n", tag);
    return front_start_tls(c) < 0;
}

/* True: the connection is over. in->err is set where the client is to be told BAD. */
static bool may_wait
run(struct connection *c, struct imap_input *in, const char *tag, const char *verb)
{
    if (strcmp(verb, "LOGIN") == 0)
        return cmd_login(c, in, tag);
    if (strcmp(verb, "AUTHENTICATE") == 0)
        return cmd_authenticate(c, in, tag);
    if (strcmp(verb, "STARTTLS") == 0)
        return cmd_starttls(c, in, tag);
    if (strcmp(verb, "CAPABILITY") == 0 && imap_end(in) == 0) {
        write_capabilities(c, "* CAPABILITY ", "");
        stream_printf(c->stream, "%s OK Capability completed.\r\n", tag);
    } else if (strcmp(verb, "NOOP") == 0 && imap_end(in) == 0) {
        stream_printf(c->stream, "%s OK NOOP completed.\r\n", tag);
    } else if (strcmp(verb, "LOGOUT") == 0 && imap_end(in) == 0) {
        stream_printf(c->stream, "* BYE Logging out\r\n%s OK Logout completed.\r\n", tag);
        return true;
    } else if (strcmp(verb, "ID") == 0) {
        in->rest.len = 0;
        stream_printf(c->stream, "* ID (\"name\" \"Postern\")\r\n%s OK ID completed.\r\n", tag);
    } else if (in->err.kind != ERR_SYNTAX) {
        (void)imap_fail(in, "unknown command, or not before a login");
    }
    return false;
}

void
imap_login(struct connection *c)
{
    struct imap_input in = {.stream = c->stream, .arena = c->cmd, .limit = LOGIN_LIMIT};
    const char *tag, *verb;
    unsigned bad = 0;

    write_capabilities(c, "* OK [CAPABILITY ", "] ready.");
    for (bool over = false; !over;) {
        in.err.kind = ERR_NONE;
        if (imap_command_begin(&in, &tag, &verb) == 0)
            over = run(c, &in, tag, verb);
        if (over || !c->stream || c->relay_fd >= 0)
            return;
        if (in.err.kind == ERR_SYNTAX) {
            stream_printf(c->stream, "%s BAD %s\r\n", *tag ? tag : "*", in.err.text);
            imap_skip_rest(&in);
            over = ++bad >= BAD_COMMANDS;
        } else if (in.err.kind == ERR_TIMEOUT) {
            stream_forgive_timeout(c->stream);
            stream_printf(c->stream, "* BYE No login for too long.\r\n");
            return;
        } else if (in.err.kind != ERR_NONE) {
            return;
        }
        arena_reset(c->cmd);
    }
    stream_printf(c->stream, "* BYE Too many errors.\r\n");
}
