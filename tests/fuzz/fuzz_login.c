/* SPDX-License-Identifier: Apache-2.0 */
/* The dialogues of IMAP (first byte 'I') and POP3 before a login: the rest is what a client says. No server of logins can be reached,
 * so nothing may let it in, and there is nobody to hand a session to. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "front/front.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "tests/fuzz/fuzz_dialogue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct front front = {.set = {.login_failure_limit = 3, .login_auth_path = "/nonexistent/auth"}};

static void
serve(void *arg)
{
    struct connection c = {.front = &front,
                           .stream = stream_new((int)(intptr_t)arg),
                           .arena = arena_new(),
                           .cmd = arena_new(),
                           .client = "unknown[192.0.2.1]",
                           .address = "192.0.2.1",
                           .server_address = "192.0.2.2",
                           .plaintext_ok = true,
                           .relay_fd = -1};
    stream_set_deadline(c.stream, loop_now() + SECONDS(20));
    if (strcmp(front.protocol, "imap") == 0)
        imap_login(&c);
    else
        pop3_login(&c);
    check(c.stream && c.relay_fd < 0);
    (void)!stream_flush(c.stream, &c.err);
    stream_free(&c.stream);
    arena_free(&c.cmd);
    arena_free(&c.arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (!front.auth) {
        loop_init();
        log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), false);
        front.auth = auth_client_new(front.set.login_auth_path);
    }
    front.protocol = data[0] == 'I' ? "imap" : "pop3";
    struct slice input = slice_make((const char *)data + 1, size - 1);
    fuzz_dialogue(serve, input, NULL);
    return 0;
}
