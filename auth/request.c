/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/request.h"

#include <stdlib.h>
#include <string.h>

#include "auth/connection.h"
#include "auth/failures.h"
#include "auth/mechanism.h"
#include "auth/userdb.h"
#include "lib/base/log.h"
#include "lib/mail/auth_protocol.h"
#include "lib/mail/log_events.h"
#include "lib/run/crypto.h"
#include "lib/run/loop.h"

#define RESPONSE_TIME SECONDS(300)

void
request_free(struct request *r)
{
    crypto_wipe(r->response.ptr, r->response.len);
    buf_release(&r->response);
    arena_free(&r->arena);
    free(r);
}

/* ---- for mechanisms ---- */

static int may_wait
wait_response(struct request *r)
{
    usec_t deadline = loop_now() + RESPONSE_TIME;
    struct err err;

    while (!r->has_response && !r->gone)
        if (task_wait(&r->cond, deadline, &err) < 0)
            r->gone = true;
    if (r->gone || r->bad_response)
        return -1;
    r->has_response = false;
    return 0;
}

int may_wait
request_challenge(struct request *r, struct slice challenge)
{
    struct buf text = {0};

    crypto_base64_encode(challenge, &text);
    r->has_response = false;
    connection_say(r->connection, "CONT\t%u\t%s", r->id, buf_text(&text));
    buf_release(&text);
    return wait_response(r);
}

int may_wait
request_initial(struct request *r)
{
    return r->has_response ? wait_response(r) : request_challenge(r, slice_make(NULL, 0));
}

/* ---- answers ---- */

static bool
has_mailboxes(const char *service)
{
    return strcmp(service, "imap") == 0 || strcmp(service, "pop3") == 0 || strcmp(service, "sieve") == 0;
}

static void
add_user(struct request *r, struct buf *line)
{
    if (!r->user[0])
        return;
    buf_append_text(line, "\tuser=");
    auth_escape(slice_from(r->user), line);
}

/* For a service with mailboxes a ticket; a user without one can't log in there. */
static enum verdict may_wait
add_ticket(struct request *r, struct buf *line)
{
    struct auth_ticket ticket = {.user = r->user, .service = r->service};
    bool found = false;
    struct err err;

    if (!has_mailboxes(r->service))
        return VERDICT_OK;
    if (userdb_find(r->server, r->arena, r->user, &ticket, &found, &err) < 0) {
        log_warning("user %s: %s", r->user, err.text);
        return VERDICT_TEMP;
    }
    if (!found) {
        log_warning("user %s has logged in, but has no mailbox here", r->user);
        r->reason = "no mailbox";
        return VERDICT_FAILED;
    }
    ticket.expires = loop_now_wall() + AUTH_TICKET_LIFE;
    buf_printf(line, "\tticket=%s", auth_ticket_make(r->arena, &ticket, r->server->ticket_key));
    return VERDICT_OK;
}

static void may_wait
answer_failure(struct request *r, enum verdict verdict)
{
    struct buf line = {0};
    struct err err;

    add_user(r, &line);
    if (verdict == VERDICT_TEMP)
        buf_append_text(&line, "\ttemp\tcode=temp_fail");
    if (r->reason[0])
        buf_printf(&line, "\treason=%s", r->reason);
    if (verdict == VERDICT_FAILED) {
        usec_t delay = failures_note(r->server->failures, r->client, r->user, loop_now());
        log_login_failed(r->service, r->user, r->mechanism, r->client[0] ? r->client : "?");
        if (task_sleep(delay, &err) < 0)
            r->gone = true;
    }
    if (!r->gone)
        connection_say(r->connection, "FAIL\t%u%s", r->id, buf_text(&line));
    buf_release(&line);
}

static void may_wait
answer(struct request *r, enum verdict verdict)
{
    struct buf line = {0};

    if (verdict == VERDICT_OK) {
        add_user(r, &line);
        verdict = add_ticket(r, &line);
    }
    if (verdict == VERDICT_OK) {
        failures_forget(r->server->failures, r->user);
        connection_say(r->connection, "OK\t%u%s", r->id, buf_text(&line));
    } else {
        answer_failure(r, verdict);
    }
    buf_release(&line);
}

void may_wait
request_run(void *arg)
{
    struct request *r = arg;
    const struct mechanism *mechanism = mechanism_find(r->server, r->mechanism);
    enum verdict verdict;

    if (!mechanism) {
        r->reason = "unknown mechanism";
        verdict = VERDICT_FAILED;
    } else if (failures_bar(r->server->failures, r->client, loop_now())) {
        log_warning("too many failed logins from %s: not looked at", r->client);
        verdict = VERDICT_FAILED;
    } else {
        verdict = mechanism->run(r);
    }
    if (verdict == VERDICT_GONE && !r->gone)
        verdict = VERDICT_FAILED; /* a response that is no base64 */
    if (verdict != VERDICT_GONE)
        answer(r, verdict);
    connection_forget(r->connection, r);
    request_free(r);
}
