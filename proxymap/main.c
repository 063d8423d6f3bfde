/* SPDX-License-Identifier: Apache-2.0 */
/* proxymap(8): looks tables up for the other daemons: those that may block, and those that others can't reach. As the service
 * proxywrite it changes tables, too. */
#include <string.h>

#include "lib/conf/settings_proxymap.h"
#include "lib/service/service.h"
#include "lib/table/table.h"
#include "proxymap/access.h"
#include "proxymap/serve.h"

/* Each table has a few connections of its own; all of them together must be able to wait for their servers at once. */
enum { POOL_THREADS = 32 };

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    link_accept(fd, serve_handlers, serve_handler_count, NULL, NULL);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    static const char *write_paths[2];
    static const char *const read_paths[] = {"/",
                                             NULL}; /* what the user may read: data bases, certificates, libraries */
    struct proxymap_settings settings;
    struct arena *arena = service_arena();
    bool may_change = strcmp(service_name(), "proxywrite") == 0;

    if (proxymap_settings_load(&settings, conf, arena, err) < 0)
        return -1;
    tables_open_blocking();
    pool_set_threads(POOL_THREADS);
    serve_prepare(conf, access_new(arena, conf, settings.proxy_read_maps, settings.proxy_write_maps), may_change);
    sandbox->read_paths = read_paths;
    if (may_change) {
        write_paths[0] = settings.data_directory;
        sandbox->write_paths = write_paths;
        sandbox->may_write_files = true;
    }
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "proxymap",
        .prepare = prepare,
        .serve = serve,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_CONNECT | SANDBOX_READ |
                             SANDBOX_MOVE | SANDBOX_THREADS | SANDBOX_NAMES | SANDBOX_LIBRARIES},
        .overlaps = true, /* changes of a file are made under its lock, so proxywrite, too */
    };
    return service_main(argc, argv, &service);
}
