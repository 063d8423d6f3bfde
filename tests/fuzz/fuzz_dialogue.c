/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz_dialogue.h"

#include <stdint.h>
#include <sys/socket.h>

#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"

struct dialogue {
    void (*serve)(void *fd);
    struct slice input;
    void (*look)(struct slice);
};

static void
run(void *arg)
{
    const struct dialogue *d = arg;
    struct task_group group;
    struct slice bytes;
    struct err err;
    int fds[2];

    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    task_group_init(&group);
    task_spawn(&group, "server", d->serve, (void *)(intptr_t)fds[0]);
    struct stream *stream = stream_new(fds[1]);
    stream_set_deadline(stream, loop_now() + SECONDS(20));
    stream_write(stream, d->input.ptr, d->input.len);
    if (stream_flush(stream, &err) == 0)
        shutdown(fds[1], SHUT_WR);
    while (stream_peek(stream, &bytes, &err) == 0) {
        if (d->look)
            d->look(bytes);
        stream_take(stream, bytes.len);
    }
    stream_free(&stream);
    task_group_join(&group);
}

void
fuzz_dialogue(void (*serve)(void *fd), struct slice input, void (*look)(struct slice))
{
    struct dialogue d = {serve, input, look};

    task_run_main(run, &d);
}
