/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/smtpd_fakes.h: smtpd's sessions in this process, with stand-ins for the services that they ask: a message goes to a
 * callback instead of cleanup; recipients in "ours.test" are ours, those in "fail.test" can't be looked up. */
#ifndef TESTS_UNIT_SMTPD_FAKES_H
#define TESTS_UNIT_SMTPD_FAKES_H

#include "lib/mail/messages.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"
#include "smtpd/server.h"

/* What a session handed to cleanup. answer is 250 unless changed. */
struct fake_message {
    const struct envelope *envelope;
    struct slice content;
    struct msg_submitted *answer;
};

/* Called for each message that is complete. */
extern void (*fake_on_message)(const struct fake_message *);
extern unsigned fake_messages; /* so many were complete */
extern unsigned fake_aborted;  /* so many were begun and given up */

/* A server with these lines in main.cf besides what tests need. */
struct server *fake_server_new(struct arena *, const char *main_cf);
void fake_server_free(struct server **);

/* A session with a client at the other end. In a task. */
struct fake_client {
    struct task_group group;
    struct server *server;
    struct stream *stream;
    int fd;
};
void fake_connect(struct fake_client *, struct server *, const char *address);
void fake_disconnect(struct fake_client *); /* waits until the session has ended */

/* Sends text, if any; returns the code of the next reply, 0 if the session has ended. last: its last line, if not NULL. */
int fake_say(struct fake_client *, const char *text, char *last, size_t size);

#endif
