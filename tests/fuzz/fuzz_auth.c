/* SPDX-License-Identifier: Apache-2.0 */
/* auth: the input is what a client of Dovecot's protocol says; nothing that it says may log anybody in, since no user has a
 * password. The same bytes are given to the readers of tickets and of stored passwords. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/connection.h"
#include "auth/failures.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/password.h"
#include "lib/run/loop.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"
#include "tests/fuzz/fuzz_dialogue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server *server;

static void
serve(void *arg)
{
    connection_serve(server, (int)(intptr_t)arg);
}

static void
nobody_logs_in(struct slice answer)
{
    check(!memmem(answer.ptr, answer.len, "\nOK\t", 4));
}

static void
readers(const char *text)
{
    struct arena *arena = arena_new();
    struct auth_ticket ticket;
    struct scram_keys keys;
    struct err err;

    check(auth_ticket_verify(arena, text, server->ticket_key, SECONDS(1), &ticket, &err) < 0);
    (void)password_scram_keys(text, slice_from("secret"), slice_from("user"), "SHA256", &keys);
    arena_free(&arena);
}

static void
set_up(void)
{
    char directory[] = "/tmp/fuzz_auth.XXXXXX", text[300];
    struct err err;

    loop_init();
    log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), false);
    check(mkdtemp(directory));
    snprintf(text, sizeof text,
             "auth_sources = table:inline:{ tom={SCRAM-SHA-256}1,AAAA,"
             "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU= }\n"
             "auth_failure_delay = 0\nauth_client_failure_limit = 0\nmydestination =\ndata_directory = %s\n",
             directory);
    struct conf *conf = conf_from_text(directory, slice_from(text), &err);
    check(conf);
    server = server_new(arena_new(), conf, &err);
    check(server);
    snprintf(text, sizeof text, "%s/auth_key", directory);
    unlink(text);
    rmdir(directory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server)
        set_up();
    char *text = malloc(size + 1);
    check(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    readers(text);
    struct slice input = slice_make(text, size);
    fuzz_dialogue(serve, input, nobody_logs_in);
    free(text);
    return 0;
}
