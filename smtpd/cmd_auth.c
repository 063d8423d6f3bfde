/* SPDX-License-Identifier: Apache-2.0 */
/* AUTH: RFC 4954. The lines in which a client answers challenges are read here and never logged. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/run/crypto.h"
#include "lib/run/loop.h"
#include "smtpd/client_limits.h"
#include "smtpd/login.h"
#include "smtpd/session.h"

#define AUTH_TIME SECONDS(120) /* for one step of the authentication server */

/* What a failed attempt looks like in the log: programs that bar clients look for these words. */
static void
log_failure(struct session *s, const char *mechanism, const char *reason, const char *user)
{
    log_warning("%s: SASL %s authentication failed: %s%s%.100s", s->client, mechanism,
                *reason ? reason : "(reason unavailable)", *user ? ", sasl_username=" : "", user);
}

/* ---- what the authentication server is told ---- */

static const char *
binding_text(struct session *s)
{
    unsigned char binding[STREAM_BINDING_SIZE];
    struct buf text = {0};

    if (stream_tls_binding(s->stream, binding) < 0)
        return NULL;
    crypto_base64_encode(slice_make(binding, sizeof binding), &text);
    const char *result = arena_strdup(s->cmd, buf_text(&text));
    buf_release(&text);
    return result;
}

static struct auth_params
make_params(struct session *s)
{
    struct auth_params params = {.service = s->server->set.smtpd_sasl_service,
                                 .client_address = s->peer.address,
                                 .client_port = s->peer.port,
                                 .server_address = s->server_address,
                                 .server_port = s->server_port,
                                 .secured = stream_is_tls(s->stream)};
    struct tls_info tls;

    if (!params.secured)
        return params;
    stream_tls_info(s->stream, &tls);
    params.valid_certificate = tls.peer_is_trusted;
    params.certificate_name = tls.peer_is_trusted ? arena_strdup(s->cmd, tls.peer_subject) : NULL;
    params.channel_binding = binding_text(s);
    return params;
}

/* ---- the dialogue ---- */

enum dialogue { DIALOGUE_DONE, DIALOGUE_ABORTED, DIALOGUE_TOO_LONG, DIALOGUE_LOST, DIALOGUE_FAILED };

static void
wipe(struct slice line)
{
    crypto_wipe((char *)(uintptr_t)line.ptr, line.len);
}

/* Reads a line of any length up to the limit. *response is allocated; its memory is wiped by the caller. */
static enum dialogue may_wait
read_response(struct session *s, struct buf *response)
{
    enum stream_line_end ending = STREAM_LINE_CUT;
    size_t limit = (size_t)s->server->set.smtpd_sasl_response_limit;
    struct slice line;
    bool fits = true;

    buf_clear(response);
    buf_reserve(response, 1024);
    session_set_deadline(s);
    while (ending == STREAM_LINE_CUT) {
        if (stream_read_line(s->stream, 2048, &line, &ending, &s->err) < 0)
            return DIALOGUE_LOST;
        fits = fits && response->len + line.len <= limit;
        if (fits)
            buf_append_slice(response, line);
        wipe(line);
    }
    if (!fits || memchr(response->ptr, '\0', response->len))
        return DIALOGUE_TOO_LONG;
    return response->len == 1 && response->ptr[0] == '*' ? DIALOGUE_ABORTED : DIALOGUE_DONE;
}

static enum dialogue may_wait
converse(struct session *s, const char *mechanism, const char *initial, struct auth_step *step)
{
    struct auth_params params = make_params(s);
    struct auth_exchange *exchange = NULL;
    enum dialogue result = DIALOGUE_DONE;
    struct buf response = {0};

    if (auth_begin(s->server->auth, s->arena, mechanism, &params, initial, loop_now() + AUTH_TIME, &exchange, step,
                   &s->err) < 0)
        return DIALOGUE_FAILED;
    while (exchange && result == DIALOGUE_DONE) {
        session_send(s, smtp_reply(s->cmd, 334, NULL, "%s", step->challenge));
        result = read_response(s, &response);
        if (result != DIALOGUE_DONE)
            auth_abort(&exchange);
        else if (auth_continue(&exchange, buf_text(&response), loop_now() + AUTH_TIME, step, &s->err) < 0)
            result = DIALOGUE_FAILED;
        crypto_wipe(response.ptr, response.len);
    }
    buf_release(&response);
    return result;
}

/* ---- the command ---- */

static struct smtp_reply
judge_step(struct session *s, const char *mechanism, const struct auth_step *step)
{
    switch (step->result) {
    case AUTH_OK:
        s->sasl_method = arena_strdup(s->arena, mechanism);
        char *user = arena_strdup(s->arena, step->user);
        smtp_printable(user, strlen(user));
        s->sasl_username = user;
        return smtp_reply(s->cmd, 235, "2.7.0", "Authentication successful");
    case AUTH_TEMP:
        log_failure(s, mechanism, "Temporary authentication failure", step->user);
        return smtp_reply(s->cmd, 454, "4.7.0", "Temporary authentication failure: %s",
                          *step->reason ? step->reason : "(reason unavailable)");
    default:
        log_failure(s, mechanism, step->reason, step->user);
        return smtp_reply(s->cmd, 535, "5.7.8", "Error: authentication failed: %s",
                          *step->reason ? step->reason : "(reason unavailable)");
    }
}

static struct smtp_reply may_wait
log_in(struct session *s, const char *mechanism, const char *initial)
{
    struct auth_step step = {.user = "", .reason = ""};

    switch (converse(s, mechanism, initial, &step)) {
    case DIALOGUE_DONE: return judge_step(s, mechanism, &step);
    case DIALOGUE_ABORTED: return smtp_reply(s->cmd, 501, "5.7.0", "Authentication aborted");
    case DIALOGUE_TOO_LONG: return smtp_reply(s->cmd, 500, "5.5.6", "Authentication exchange line is too long");
    case DIALOGUE_LOST: return session_input_failed(s, &s->err);
    case DIALOGUE_FAILED: break;
    }
    log_warning("%s", s->err.text);
    log_failure(s, mechanism, "Connection lost to authentication server", "");
    return smtp_reply(s->cmd, 454, "4.7.0",
                      "Temporary authentication failure: Connection lost to authentication server");
}

/* -1: AUTH can't be given now; *refusal. */
static int may_wait
check_state(struct session *s, struct smtp_reply *refusal)
{
    if (!s->server->auth || strcmp(s->protocol, "ESMTP") != 0)
        *refusal = smtp_reply(s->cmd, 503, "5.5.1", "Error: authentication not enabled");
    else if (s->transaction)
        *refusal = smtp_reply(s->cmd, 503, "5.5.1", "Error: MAIL transaction in progress");
    else if (s->server->set.smtpd_tls_auth_only && !stream_is_tls(s->stream))
        *refusal = smtp_reply(s->cmd, 538, "5.7.0", "Encryption required for requested authentication mechanism");
    else if (!login_is_offered(s))
        *refusal = smtp_reply(s->cmd, 503, "5.5.1", "Error: authentication not enabled");
    else if (s->sasl_method)
        *refusal = smtp_reply(s->cmd, 503, "5.5.1", "Error: already authenticated");
    else
        return limits_auth(s, refusal);
    return -1;
}

static bool
is_offered(struct session *s, const char *mechanism)
{
    struct slice rest = slice_from(login_mechanisms(s)), word;

    while (slice_cut(&rest, ' ', &word))
        if (slice_equal_text(word, mechanism))
            return true;
    return false;
}

struct smtp_reply may_wait
cmd_auth(struct session *s, struct slice args)
{
    struct slice mechanism_text, initial, more;
    struct smtp_reply refusal;

    if (check_state(s, &refusal) < 0)
        return refusal;
    if (!slice_word(&args, " \t", &mechanism_text))
        return smtp_reply(s->cmd, 501, "5.5.4", "Syntax: AUTH mechanism");
    bool has_initial = slice_word(&args, " \t", &initial);
    if (slice_word(&args, " \t", &more))
        return smtp_reply(s->cmd, 501, "5.5.4", "Syntax: AUTH mechanism");
    char *mechanism = arena_strndup(s->cmd, mechanism_text.ptr, mechanism_text.len);
    for (char *c = mechanism; *c; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    if (!is_offered(s, mechanism)) {
        smtp_printable(mechanism, strlen(mechanism));
        log_failure(s, mechanism, "Invalid authentication mechanism", "");
        return smtp_reply(s->cmd, 535, "5.7.8", "Error: authentication failed: Invalid authentication mechanism");
    }
    if (!has_initial)
        return log_in(s, mechanism, NULL);
    bool empty = slice_equal_text(initial, "="); /* RFC 4954 section 4 */
    char *first = arena_strndup(s->cmd, empty ? "" : initial.ptr, empty ? 0 : initial.len);
    wipe(initial);
    struct smtp_reply reply = log_in(s, mechanism, first);
    crypto_wipe(first, strlen(first));
    return reply;
}
