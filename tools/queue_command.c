/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/queue_command.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/messages.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

enum { EX_UNAVAILABLE_STATUS = 69 };
#define QMGR_TIME SECONDS(120)

void
queue_command_begin(struct queue_command *command, const char *argv0, const char *config_directory, bool open_queue)
{
    const char *slash = strrchr(argv0, '/');
    struct err err;

    *command = (struct queue_command){.name = slash ? slash + 1 : argv0, .arena = arena_new()};
    log_init(command->name);
    command->conf = conf_load(config_directory, &err);
    if (!command->conf || tools_settings_load(&command->settings, command->conf, command->arena, &err) < 0)
        fatal("%s", err.text);
    if (chdir(command->settings.queue_directory) < 0)
        fatal("chdir %s: %s", command->settings.queue_directory, strerror(errno));
    if (open_queue && queue_dir_open(&command->dir, ".", command->conf, command->arena, &err) < 0)
        fatal("%s", err.text);
}

void
queue_command_end(struct queue_command *command)
{
    conf_free(&command->conf);
    arena_free(&command->arena);
}

bool
queue_command_is_owner(void)
{
    struct stat st;

    return geteuid() == 0 || (stat(".", &st) == 0 && st.st_uid == geteuid()) ||
           (stat("incoming", &st) == 0 && st.st_uid == geteuid());
}

void
queue_command_become_owner(struct queue_command *command)
{
    const char *name = command->settings.mail_owner;
    const struct passwd *owner;

    if (geteuid() != 0)
        return;
    owner = getpwnam(name);
    if (!owner)
        fatal("mail_owner: unknown user: %s", name);
    if (setgroups(1, &owner->pw_gid) < 0 || setresgid(owner->pw_gid, owner->pw_gid, owner->pw_gid) < 0 ||
        setresuid(owner->pw_uid, owner->pw_uid, owner->pw_uid) < 0)
        fatal("become user %s: %s", name, strerror(errno));
}

bool
queue_command_send(const char *service, const char *bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool done;

    snprintf(address.sun_path, sizeof(address.sun_path), "public/%s", service);
    done = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
           send(fd, bytes, strlen(bytes), MSG_NOSIGNAL) == (ssize_t)strlen(bytes);
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return done;
}

bool
queue_command_trigger(const struct queue_command *command, const char *bytes)
{
    return queue_command_send(command->settings.queue_service_name, bytes);
}

/* ---- a question to qmgr ---- */

struct question {
    struct queue_command *command;
    const char *id;
};

static void
ask(void *arg)
{
    const struct question *question = arg;
    struct arena *arena = arena_new();
    struct msg_queue_control control = {.command = "files", .queue_id = question->id ? question->id : ""};
    struct link *link = link_connect(arena_printf(arena, "public/%s", question->command->settings.queue_service_name),
                                     NULL, 0, NULL, NULL);
    struct link_message reply;
    struct err err;

    if (link_call(link, arena, &type_queue_control, &control, slice_make(NULL, 0), NULL, 0, &type_queue_list, &reply,
                  loop_now() + QMGR_TIME, &err) < 0)
        log_warning("queue manager: %s", err.text);
    else
        link_close_fds(&reply);
    link_free(&link);
    arena_free(&arena);
}

void
queue_command_want_files(struct queue_command *command, const char *id)
{
    static bool begun;
    struct question question = {.command = command, .id = id};

    /* Triggers with no letter ask for nothing: is anybody there? */
    if (!queue_command_trigger(command, "N"))
        return;
    if (!begun) {
        loop_init();
        link_init(&mail_protocol, "postsuper", geteuid());
        begun = true;
    }
    task_run_main(ask, &question);
}
