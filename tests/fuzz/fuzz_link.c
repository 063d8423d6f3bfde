/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that a peer of a link may send, after a good hello if the first byte is even; the rest goes to the socket in
 * two writes. Whatever they are, the process goes on, and a link that is given up leaves no descriptor behind. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/messages.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
answer_anvil(struct link_request *request, struct link_message *in, void *ctx)
{
    struct msg_anvil_count count = {0};

    (void)ctx;
    link_close_fds(in);
    if (!link_request_is_oneway(request))
        link_reply(request, &type_anvil_count, &count, in->payload, NULL, 0);
}

static void
handle_in_task(struct link_request *request, struct link_message *in, void *ctx)
{
    (void)request;
    (void)ctx;
    link_close_fds(in); /* and no answer, which ends the link */
}

static const struct link_handler handlers[] = {{&type_anvil, false, answer_anvil},
                                               {&type_deliver, true, handle_in_task}};

static const uint8_t hello[] = "\x21\0\0\0\1\0\0\0\0\0\0\0\x21\0\0\0version\0001\0program\0qmgr\0pid\0001234\0\0";

static void
start(void)
{
    static bool done;

    if (done)
        return;
    done = true;
    loop_init();
    link_init(&mail_protocol, "smtp", geteuid());
    log_to_fd(open("/dev/null", O_WRONLY), false);
}

static void
feed(int fd, const void *bytes, size_t len)
{
    if (len > 0 && send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;
    loop_turn(0);
    loop_turn(0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];

    if (size < 2 || size > 100000)
        return 0;
    start();
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    check(link_accept(pair[0], handlers, ARRAY_LEN(handlers), NULL, NULL));
    if (data[0] % 2 == 0)
        feed(pair[1], hello, sizeof(hello) - 1);
    check(link_server_count() == 1);
    data++;
    size--;
    size_t cut = data[0] % size;

    feed(pair[1], data, cut);
    feed(pair[1], data + cut, size - cut);
    close(pair[1]);
    for (int i = 0; i < 10 && (link_server_count() > 0 || task_count() > 0); i++)
        loop_turn(0);
    check(link_server_count() == 0 && task_count() == 0);
    return 0;
}
