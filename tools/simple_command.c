/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/simple_command.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int
simple_command_load(struct simple_command *command, const char *directory, struct err *err)
{
    command->arena = arena_new();
    command->conf = conf_load(directory, err);
    return command->conf ? tools_settings_load(&command->settings, command->conf, command->arena, err) : -1;
}

void
simple_command_release(struct simple_command *command)
{
    conf_free(&command->conf);
    arena_free(&command->arena);
}

int
simple_command_run(char *const *argv, char *const *environment, struct err *err)
{
    int status;
    pid_t child;
    errno = posix_spawnp(&child, argv[0], NULL, NULL, argv, environment ? environment : environ);
    if (errno != 0)
        return err_errno(err, "run %s", argv[0]);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(err, "wait for %s", argv[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
