/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd: takes mail in by SMTP. ARCHITECTURE.md has the way of a message through it. */
#include "lib/service/service.h"
#include "smtpd/server.h"
#include "smtpd/session.h"

static struct server *server;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    server = server_new(service_arena(), conf, service_name(), err);
    return server ? 0 : -1;
}

static int
start(struct err *err)
{
    (void)err;
    server_connect(server, service_socket_path);
    return 0;
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)socket;
    session_serve(server, fd, peer);
}

static const struct service smtpd_service = {
    .program = "smtpd",
    .prepare = prepare,
    .start = start,
    .serve = serve,
    .many_workers = true,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_UNIX | SANDBOX_FDPASS},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &smtpd_service);
}
