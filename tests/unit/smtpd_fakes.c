/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/smtpd_fakes.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/mail/dns_client.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/route.h"
#include "lib/mail/submit.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "smtpd/session.h"

void (*fake_on_message)(const struct fake_message *);
unsigned fake_messages, fake_aborted;

/* ---- the service ---- */

bool
service_is_terminating(void)
{
    return false;
}

/* ---- cleanup ---- */

struct submission {
    const struct envelope *envelope;
    struct buf content;
};

static int64_t last_number;

struct submitter *
submitter_new(const char *path)
{
    (void)path;
    return NULL;
}

void
submitter_free(struct submitter **submitter)
{
    *submitter = NULL;
}

int
submitter_new_id(struct submitter *submitter, bool long_form, int64_t *number, char *id, struct err *err)
{
    (void)submitter;
    (void)err;
    *number = ++last_number;
    queue_id_format(SECONDS(1700000000), (uint64_t)*number, long_form, id);
    return 0;
}

static void
complete(const struct envelope *envelope, struct slice content, struct msg_submitted *answer)
{
    struct fake_message message = {.envelope = envelope, .content = content, .answer = answer};

    *answer = (struct msg_submitted){.code = 250, .enhanced = "2.0.0", .text = "Ok"};
    fake_messages++;
    if (fake_on_message)
        fake_on_message(&message);
}

int
submitter_send(struct submitter *submitter, struct arena *arena, const struct envelope *envelope, struct buf *content,
               struct msg_submitted *answer, struct err *err)
{
    (void)submitter;
    (void)arena;
    if (task_yield(err) < 0)
        return -1;
    complete(envelope, buf_slice(content), answer);
    buf_release(content);
    return 0;
}

struct submission *
submission_begin(struct submitter *submitter, struct arena *arena, const struct envelope *envelope, struct err *err)
{
    struct submission *submission = ARENA_NEW(arena, struct submission);
    struct envelope *copy = ARENA_NEW(arena, struct envelope);

    (void)submitter;
    (void)err;
    *copy = *envelope;
    submission->envelope = copy;
    return submission;
}

int
submission_write(struct submission *submission, struct slice bytes, struct err *err)
{
    (void)err;
    buf_append_slice(&submission->content, bytes);
    return 0;
}

int
submission_finish(struct submission *submission, struct msg_submitted *answer, struct err *err)
{
    (void)err;
    complete(submission->envelope, buf_slice(&submission->content), answer);
    buf_release(&submission->content);
    return 0;
}

void
submission_abort(struct submission *submission)
{
    fake_aborted++;
    buf_release(&submission->content);
}

/* ---- rewrite ---- */

struct router *
router_new(const char *path)
{
    (void)path;
    return NULL;
}

void
router_free(struct router **router)
{
    *router = NULL;
}

int
router_resolve(struct router *router, struct arena *arena, const char *sender, const char *const *addresses,
               unsigned count, struct route_answer *answers, struct err *err)
{
    (void)router;
    (void)arena;
    (void)sender;
    (void)err;
    for (unsigned i = 0; i < count; i++) {
        const char *at = strrchr(addresses[i], '@');
        int flags = !at || strcmp(at, "@ours.test") == 0 ? ROUTE_LOCAL
                    : strcmp(at, "@relay.test") == 0     ? ROUTE_RELAY
                    : strcmp(at, "@fail.test") == 0      ? ROUTE_FAIL
                                                         : ROUTE_DEFAULT;
        answers[i] = (struct route_answer){
            .transport = "smtp", .nexthop = "x", .address = addresses[i], .flags = flags, .reason = "made to fail"};
    }
    return 0;
}

/* ---- DNS ---- */

struct dns_client *
dns_client_new(const char *path)
{
    (void)path;
    return NULL;
}

void
dns_client_free(struct dns_client **dns)
{
    *dns = NULL;
}

/* "192.0.2.1" is "known.test" both ways, "192.0.2.2" claims to be it, "192.0.2.3" can't be looked up, the name of "192.0.2.7" is none. The DNS list "listed.test"
 * has "known.test" and 192.0.2.1. "backup.test" has first.test as its mail server, then mail.test; "ours-first.test" mail.test alone. */
int
dns_lookup(struct dns_client *dns, struct arena *arena, const char *name, const char *type, usec_t deadline,
           struct msg_dns_answer *answer, struct err *err)
{
    struct dns_record *record = arena_array(arena, 2, sizeof *record);

    (void)dns;
    (void)deadline;
    record[0] = record[1] = (struct dns_record){.name = name, .type = type, .preference = 10, .data = "mail.test"};
    *answer = (struct msg_dns_answer){.status = DNS_NXDOMAIN, .reason = "", .records = record};
    if (strstr(name, "3.2.0.192") || strstr(name, "fail.test"))
        return err_set(err, ERR_TIMEOUT, "made to fail");
    if (strcmp(type, "PTR") == 0 && (strstr(name, "1.2.0.192") || strstr(name, "2.2.0.192")))
        record->data = "known.test.";
    else if (strcmp(type, "PTR") == 0 && strstr(name, "7.2.0.192"))
        record->data = "evil.test\r\nX-Evil: 1";
    else if (strcmp(type, "A") == 0 && strcmp(name, "known.test") == 0)
        record->data = "192.0.2.1";
    else if (strcmp(type, "A") == 0 &&
             (strcmp(name, "known.test.listed.test") == 0 || strcmp(name, "1.2.0.192.listed.test") == 0))
        record->data = "127.0.0.2";
    else if (strcmp(type, "ADDR") == 0 && strcmp(name, "first.test") == 0)
        record->data = "198.51.100.1";
    else if (strcmp(type, "MX") == 0 && strcmp(name, "backup.test") == 0) {
        record->data = "first.test";
        record[1].preference = 20;
        answer->record_count = 1;
    } else if (strcmp(type, "MX") == 0 && strcmp(name, "ours-first.test") == 0)
        record->data = "mail.test";
    else {
        answer->status = strcmp(name, "known.test") == 0 ? DNS_NODATA : DNS_NXDOMAIN;
        return 0;
    }
    answer->status = DNS_FOUND;
    answer->record_count++;
    return 0;
}

/* ---- a server, a client ---- */

static const char base_settings[] = "compatibility_level = 3.6\n"
                                    "myhostname = mail.test\n"
                                    "mynetworks = 127.0.0.0/8\n"
                                    "mydestination = ours.test\n"
                                    "local_recipient_maps =\n"
                                    "smtpd_error_sleep_time = 0\n"
                                    "smtpd_hard_error_limit = 1000\n"
                                    "smtpd_junk_command_limit = 1000\n"
                                    "smtpd_timeout = 5s\n";

struct server *
fake_server_new(struct arena *arena, const char *main_cf)
{
    char directory[] = "/tmp/smtpd_fakes.XXXXXX", path[64];
    struct err err;

    check(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/main.cf", directory);
    FILE *f = fopen(path, "w");
    check(f);
    fprintf(f, "%s%s", base_settings, main_cf);
    fclose(f);
    struct conf *conf = conf_load(directory, &err);
    unlink(path);
    rmdir(directory);
    if (!conf)
        fatal("conf_load: %s", err.text);
    struct server *server = server_new(arena, conf, "smtp", &err);
    if (!server)
        fatal("server_new: %s", err.text);
    return server;
}

void
fake_server_free(struct server **server)
{
    struct conf *conf = (struct conf *)(uintptr_t)(*server)->conf;

    server_free(server);
    conf_free(&conf);
}

struct serving {
    struct server *server;
    struct net_addr addr;
    int fd;
};

static void
serve(void *arg)
{
    struct serving serving = *(struct serving *)arg;

    free(arg);
    session_serve(serving.server, serving.fd, &serving.addr);
}

void
fake_connect(struct fake_client *client, struct server *server, const char *address)
{
    struct serving *serving = calloc(1, sizeof *serving);
    struct err err;
    int fds[2];

    check(serving && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    *client = (struct fake_client){.server = server, .fd = fds[1]};
    task_group_init(&client->group);
    client->stream = stream_new(fds[1]);
    *serving = (struct serving){.server = server, .fd = fds[0]};
    check(net_addr_parse(address, 1025, &serving->addr, &err) == 0);
    task_spawn(&client->group, "session", serve, serving);
}

void
fake_disconnect(struct fake_client *client)
{
    stream_free(&client->stream);
    task_group_join(&client->group);
}

int
fake_say(struct fake_client *client, const char *text, char *last, size_t size)
{
    enum stream_line_end ending;
    struct slice line;
    struct err err;

    if (text)
        stream_write(client->stream, text, strlen(text));
    stream_set_deadline(client->stream, loop_now() + SECONDS(20));
    do {
        if (stream_read_line(client->stream, 2000, &line, &ending, &err) < 0)
            return 0;
        check(ending == STREAM_LINE_CRLF && line.len >= 4);
    } while (line.ptr[3] == '-');
    if (last)
        snprintf(last, size, "%.*s", SLICE_ARG(line));
    return (line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + line.ptr[2] - '0';
}
