/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/service/log_setup.h"

#include "lib/base/arena.h"
#include "lib/base/log.h"

void
log_setup_early(const char *program)
{
    struct arena *arena = arena_new();

    log_init(arena_printf(arena, "postfix/%s", program));
    log_to_syslog("mail");
    arena_free(&arena);
}

static int
set_up(const struct conf *conf, struct arena *arena, const char *program, struct err *err)
{
    const char *name = conf_string(conf, arena, "syslog_name", err);
    const char *facility = conf_string(conf, arena, "syslog_facility", err);
    const char *file = conf_string(conf, arena, "maillog_file", err);
    const char *socket = conf_string(conf, arena, "postlog_service_name", err);

    if (!name || !facility || !file || !socket)
        return -1;
    log_init(arena_printf(arena, "%s/%s", name, program));
    if (*file == '\0' || log_to_postlog(arena_printf(arena, "public/%s", socket)) < 0)
        log_to_syslog(facility);
    return 0;
}

int
log_setup(const struct conf *conf, const char *program, struct err *err)
{
    struct arena *arena = arena_new();
    int result = set_up(conf, arena, program, err);

    arena_free(&arena);
    return result;
}
