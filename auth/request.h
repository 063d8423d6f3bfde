/* SPDX-License-Identifier: Apache-2.0 */
/* auth/request.h: one attempt to log in: a task that runs a mechanism (mechanism.h), tells challenges to the client and gets its
 * responses through the connection (connection.h), and answers OK or FAIL. */
#ifndef AUTH_REQUEST_H
#define AUTH_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/server.h"
#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/run/task.h"

struct connection;

enum verdict {
    VERDICT_OK,
    VERDICT_FAILED,
    VERDICT_TEMP, /* a source can't be asked */
    VERDICT_GONE, /* the client gave up */
};

struct request {
    struct server *server;
    struct connection *connection;
    struct arena *arena;
    uint32_t id;

    /* What the client of the protocol told; "" where it did not. */
    const char *mechanism, *service, *client, *certificate_name, *binding;
    bool valid_certificate;

    struct buf response; /* the last one, decoded */
    bool has_response;   /* one is waiting */
    bool bad_response;   /* it was no base64 */
    bool gone;
    struct task_cond cond;

    const char *user;   /* who wants to log in; "" until it is known */
    const char *reason; /* of a failure, for the user; "" */
};

/* Runs it to its end; the request is freed. As a task. */
void may_wait request_run(void *request);

/* For mechanisms: the initial response, or the one to this challenge. -1: the client has gone, or sent nonsense. The response
 * stays in request->response until the next. */
int may_wait request_challenge(struct request *, struct slice challenge) MUST_USE;
int may_wait request_initial(struct request *) MUST_USE;

void request_free(struct request *);

#endif
