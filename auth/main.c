/* SPDX-License-Identifier: Apache-2.0 */
/* auth: says who may log in. See auth(8). */
#include <pwd.h>
#include <stdlib.h>

#include "auth/connection.h"
#include "auth/gssapi.h"
#include "auth/mechanism.h"
#include "auth/server.h"
#include "lib/base/log.h"
#include "lib/service/service.h"

static struct server *server;

/* The last: where the Kerberos library reads its configuration. */
static const char *read_paths[] = {"/etc", "/usr", "/lib", "/lib64", "/run", NULL, NULL};

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    server = server_new(service_arena(), conf, err);
    if (!server)
        return -1;
    (void)getpwnam("no-such-user.invalid"); /* loads the code of all sources of users */
    if (mechanism_is_wanted(server, "GSSAPI")) {
        if (gssapi_prepare(server->set.auth_keytab, err) < 0)
            log_warning("%s: it is not offered", err->text);
        read_paths[ARRAY_LEN(read_paths) - 2] = getenv("KRB5_CONFIG");
    }
    sandbox->read_paths = read_paths;
    if (server_has_source(server, SOURCE_PAM)) {
        /* PAM's modules may do anything: fork, switch users, write files. */
        sandbox->calls = 0;
        sandbox->no_landlock = sandbox->may_fork = sandbox->may_write_files = true;
    }
    return 0;
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    connection_serve(server, fd);
}

static const struct service auth_service = {
    .program = "auth",
    .prepare = prepare,
    .serve = serve,
    .resident = true,
    .is_interactive = true,
    .overlaps = true,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_READ | SANDBOX_THREADS |
                         SANDBOX_NAMES},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &auth_service);
}
