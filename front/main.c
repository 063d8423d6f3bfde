/* SPDX-License-Identifier: Apache-2.0 */
/* imapd and pop3d: one program; its name says which. See front.h. */
#include <libgen.h>
#include <string.h>

#include "front/front.h"
#include "lib/service/service.h"

static struct front *front;
static const char *protocol;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    front = front_new(service_arena(), conf, protocol, err);
    return front ? 0 : -1;
}

static int
start(struct err *err)
{
    (void)err;
    front_connect(front);
    return 0;
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)socket;
    front_serve(front, fd, peer);
}

#define FRONT(name)                                                                                            \
    {                                                                                                          \
        .program = name, .prepare = prepare, .start = start, .serve = serve, .many_workers = true,             \
        .is_interactive = true,                                                                                \
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_SESSIONS | SANDBOX_UNIX | \
                             SANDBOX_FDPASS},                                                                  \
    }

static const struct service imapd = FRONT("imapd"), pop3d = FRONT("pop3d");

int
main(int argc, char **argv)
{
    bool pop3 = strcmp(basename(argv[0]), "pop3d") == 0;
    protocol = pop3 ? "pop3" : "imap";
    return service_main(argc, argv, pop3 ? &pop3d : &imapd);
}
