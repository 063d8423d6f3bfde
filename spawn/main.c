/* SPDX-License-Identifier: Apache-2.0 */
/* spawn(8): serves each connection with a command that has it as standard input, output and error. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/conf/environment.h"
#include "lib/conf/settings_spawn.h"
#include "lib/service/exec.h"
#include "lib/service/service.h"

static struct {
    struct spawn_settings settings;
    char **argv, **env;
    usec_t time_limit;
} state;

static int
parse(struct arena *arena, char **args, struct exec_identity *who, struct err *err)
{
    bool has_user = false;
    size_t count = 0;

    for (; *args && strncmp(*args, "argv=", 5) != 0; args++) {
        if (strncmp(*args, "user=", 5) != 0)
            return err_set(err, ERR_SYNTAX, "unknown attribute name: %s", *args);
        if (exec_identity_parse(*args + 5, state.settings.mail_owner, who, err) < 0)
            return -1;
        has_user = true;
    }
    if (!has_user)
        return err_set(err, ERR_SYNTAX, "missing attribute: user=username");
    if (!*args || !(*args)[5])
        return err_set(err, ERR_SYNTAX, "missing attribute: argv=command");
    while (args[count])
        count++;
    state.argv = arena_array(arena, count + 1, sizeof *state.argv);
    for (size_t i = 0; i < count; i++) {
        struct slice text = slice_from(i == 0 ? args[i] + 5 : args[i]);

        if (text.len >= 2 && text.ptr[0] == '{' && text.ptr[text.len - 1] == '}')
            text = slice_trim(slice_make(text.ptr + 1, text.len - 2));
        state.argv[i] = arena_strndup(arena, text.ptr, text.len);
    }
    return 0;
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    struct exec_job job = {.argv = state.argv, .env = state.env, .time_limit = state.time_limit};
    struct arena *arena = arena_new();
    struct exec_end *end = ARENA_NEW(arena, struct exec_end);
    struct err err;

    (void)peer;
    (void)socket;
    if (net_set_nonblocking(fd, false) < 0)
        log_warning("connection: %m");
    else if (exec_run_connected(&job, fd, end, &err) < 0)
        log_warning("command %s: %s", state.argv[0], err.text);
    else if (end->timed_out)
        log_warning("command %s: time limit exceeded", state.argv[0]);
    else if (WIFSIGNALED(end->status))
        log_warning("command %s: killed by signal %d", state.argv[0], WTERMSIG(end->status));
    else if (WEXITSTATUS(end->status) != 0)
        log_warning("command %s: exit status %d", state.argv[0], WEXITSTATUS(end->status));
    arena_free(&arena);
    close(fd);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct arena *arena = service_arena();
    struct exec_identity who = {0};

    if (spawn_settings_load(&state.settings, conf, arena, err) < 0 || parse(arena, service_args(), &who, err) < 0 ||
        exec_time_limit(conf, service_name(), &state.time_limit, err) < 0)
        return -1;
    state.env = environment_export(conf, arena, err);
    if (!state.env || exec_prepare(&who, NULL, NULL, "spawn", err) < 0)
        return -1;
    sandbox->user = state.settings.mail_owner;
    return 0;
}

static int
start(struct err *err)
{
    (void)err;
    exec_start();
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "spawn",
        .prepare = prepare,
        .start = start,
        .serve = serve,
        .overlaps = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_FDPASS | SANDBOX_HELPERS},
    };

    return service_main(argc, argv, &service);
}
