/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/successor.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"

#define GATHER_TIME (20 * 1000)
#define AGAIN_TIME  SECONDS(1)

static struct loop_timer timer;

/* The connection may wait in the socket's queue; then the word waits in it. */
static int
say_incoming(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, result;

    snprintf(address.sun_path, sizeof(address.sun_path), "public/%s", service_name());
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    result = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    if (result == 0 && send(fd, "I", 1, MSG_NOSIGNAL) != 1)
        result = -1;
    close(fd);
    return result;
}

static void
on_time(void *arg)
{
    (void)arg;
    if (say_incoming() == 0)
        return;
    log_debug("the successor is not told of mail in incoming: %m");
    loop_timer_set(&timer, loop_now() + AGAIN_TIME, on_time, NULL);
}

void
successor_poke(void)
{
    if (!timer.due)
        loop_timer_set(&timer, loop_now() + GATHER_TIME, on_time, NULL);
}
