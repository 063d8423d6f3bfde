/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd: takes mail in by SMTP. ARCHITECTURE.md has the way of a message through it. */
#include "lib/service/service.h"
#include "smtpd/policy.h"
#include "smtpd/server.h"
#include "smtpd/server_tls.h"
#include "smtpd/session.h"

static struct server *server;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    server = service_is_standalone() ? server_new_by_hand(service_arena(), conf, service_name(), err)
                                     : server_new(service_arena(), conf, service_name(), err);
    if (server && (server->auth_is_remote || policies_need_network(server->policies)))
        sandbox->calls |= SANDBOX_CONNECT;
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
    if (server_tls_has_changed(server))
        service_retire(); /* a new process reads the renewed certificate */
    session_serve(server, fd, peer);
}

static void
hurry(void)
{
    session_end_idle(server);
}

static const struct service smtpd_service = {
    .program = "smtpd",
    .prepare = prepare,
    .start = start,
    .serve = serve,
    .hurry = hurry,
    .many_workers = true,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_SESSIONS | SANDBOX_UNIX |
                         SANDBOX_FDPASS | SANDBOX_SPACE},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &smtpd_service);
}
