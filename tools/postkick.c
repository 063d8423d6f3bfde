/* SPDX-License-Identifier: Apache-2.0 */
/* postkick: sends a request to a service of the mail system, for scripts. See postkick(1). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "tools/simple_command.h"

static int
connect_socket(const char *path, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof(addr.sun_path)) {
        close(fd);
        return err_set(err, ERR_PERM, "%s: path is too long", path);
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    err_errno(err, "connect to %s", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int
open_endpoint(const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, "%s", path);
    if (!S_ISFIFO(st.st_mode))
        return connect_socket(path, err);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? err_errno(err, "open %s", path) : fd;
}

static int
kick(const char *path, const char *request, struct err *err)
{
    int fd = open_endpoint(path, err);
    if (fd < 0)
        return -1;
    size_t len = strlen(request);
    int result = write(fd, request, len) == (ssize_t)len ? 0 : err_errno(err, "write to %s", path);
    close(fd);
    return result;
}

int
main(int argc, char **argv)
{
    struct simple_command command = {0};
    const char *directory = NULL;
    struct err err;
    int option;
    log_init(argv[0]);
    while ((option = getopt(argc, argv, "+c:v")) != -1) {
        if (option == 'c')
            directory = optarg;
        else if (option == 'v')
            log_set_verbose(log_verbose() + 1);
        else
            fatal("usage: %s [-c config_dir] [-v] class service request", argv[0]);
    }
    if (argc - optind != 3)
        fatal("usage: %s [-c config_dir] [-v] class service request", argv[0]);
    const char *class = argv[optind], *service = argv[optind + 1];
    if ((strcmp(class, "public") != 0 && strcmp(class, "private") != 0) || strchr(service, '/'))
        fatal("bad class or service: %s/%s", class, service);
    if (simple_command_load(&command, directory, &err) < 0)
        fatal("%s", err.text);
    const char *path = arena_printf(command.arena, "%s/%s/%s", command.settings.queue_directory, class, service);
    if (kick(path, argv[optind + 2], &err) < 0)
        fatal("%s", err.text);
    simple_command_release(&command);
    return 0;
}
