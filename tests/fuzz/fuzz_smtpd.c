/* SPDX-License-Identifier: Apache-2.0 */
/* A whole session: the input is what a client sends, in pieces cut where its first byte says. Every message that goes on has a
 * sender and recipients that were given, and a content in wire form: no bare CR or LF, and no end of data in it. The other
 * services are stand-ins (tests/unit/smtpd_fakes.h). */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "tests/unit/smtpd_fakes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t input_size;
static struct server *server;

static void
check_wire_form(struct slice content)
{
    check(content.len == 0 || content.ptr[content.len - 1] == '\n');
    for (size_t i = 0; i < content.len; i++) {
        if (content.ptr[i] == '\n')
            check(i > 0 && content.ptr[i - 1] == '\r');
        if (content.ptr[i] == '\r')
            check(i + 1 < content.len && content.ptr[i + 1] == '\n');
    }
    check(!memmem(content.ptr, content.len, "\r\n.\r\n", 5));
}

static void
check_message(const struct fake_message *message)
{
    check(message->envelope->recipient_count > 0);
    check(message->content.len > 10 && memcmp(message->content.ptr, "Received: ", 10) == 0);
    check_wire_form(message->content);
}

static void
session(void *arg)
{
    struct fake_client client;
    struct slice bytes;
    struct err err;
    size_t cut = input_size ? input[0] % input_size : 0;
    struct slice pieces[] = {slice_make(input + (input_size > 0), cut),
                             slice_make(input + (input_size > 0) + cut, input_size ? input_size - 1 - cut : 0)};

    (void)arg;
    fake_connect(&client, server, input_size & 1 ? "127.0.0.1" : "192.0.2.9");
    stream_set_deadline(client.stream, loop_now() + SECONDS(20));
    for (unsigned i = 0; i < 2; i++) {
        stream_write(client.stream, pieces[i].ptr, pieces[i].len);
        if (stream_flush(client.stream, &err) < 0 || task_yield(&err) < 0)
            break;
    }
    shutdown(client.fd, SHUT_WR);
    while (stream_peek(client.stream, &bytes, &err) == 0)
        stream_take(client.stream, bytes.len);
    fake_disconnect(&client);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server) {
        loop_init();
        log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), false);
        server = fake_server_new(arena_new(), "smtpd_forbid_unauth_pipelining = no\n"
                                              "message_size_limit = 100000\n"
                                              "smtpd_recipient_limit = 5\n"
                                              "strict_rfc821_envelopes = no\n"
                                              "smtpd_sender_restrictions = reject_non_fqdn_sender\n");
        fake_on_message = check_message;
    }
    input = data;
    input_size = size;
    task_run_main(session, NULL);
    return 0;
}
