/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/service/user_process.h"

#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/service/user_process_internal.h"

#define IDLE_TIME   SECONDS(5)
#define LONG_TIME   SECONDS(20) /* while there are few: to make a process costs more than a login does */
#define PARKED_TIME (10 * 1000) /* after the last session was parked */

const struct user_program *user_program;
const unsigned user_process_calls =
    SANDBOX_BASE | SANDBOX_LINKS | SANDBOX_READ | SANDBOX_MOVE | SANDBOX_STORE | SANDBOX_MAILBOXES;
static struct user_identity identity;

const struct user_identity *
user_identity(void)
{
    return &identity;
}

static struct {
    struct task_group sessions;
    struct task_cond changed;
    int channel; /* to the starter */
    struct task_fd channel_tfd;
    unsigned count;
    bool said_goodbye;
    bool last_was_parked; /* nothing is left to wait for */
    bool cannot_park;     /* was tried */
    bool may_stay;        /* LONG_TIME */
} user;

struct user_session {
    struct arena *arena;
    int fd;
    bool resumed;
    struct user_told told;
    const struct msg_session *message;
    struct slice rest;
};

static void
run_session(void *arg)
{
    struct user_session *session = arg;
    if (session->resumed)
        user_program->resume(session->fd, session->message, session->rest, session->told);
    else
        user_program->serve(session->fd, session->message, session->rest);
    arena_free(&session->arena);
    user.count--;
    task_wake_all(&user.changed);
}

static void
take_session(const struct user_packet *packet)
{
    struct arena *arena = arena_new();
    struct user_session *session = ARENA_NEW(arena, struct user_session);
    struct slice bytes = arena_slice(arena, packet->bytes);
    struct err err;
    session->arena = arena;
    session->fd = packet->fds[0];
    session->resumed = packet->kind != 'S' && packet->kind != 'L';
    user.may_stay = packet->kind == 'L' || (session->resumed && user.may_stay);
    user.cannot_park = user.cannot_park || packet->kind == 'N';
    if (session->resumed && bytes.len >= sizeof(session->told)) {
        memcpy(&session->told, bytes.ptr, sizeof(session->told));
        bytes = slice_make(bytes.ptr + sizeof(session->told), bytes.len - sizeof(session->told));
    }
    session->message = msg_decode(arena, &type_session, bytes, &session->rest, &err);
    if (!session->message || (session->resumed && !user_program->resume) ||
        net_set_nonblocking(session->fd, true) < 0) {
        log_warning("a session that makes no sense");
        close(session->fd);
        arena_free(&arena);
        return;
    }
    user.count++;
    user.last_was_parked = false;
    task_spawn(&user.sessions, "session", run_session, session);
}

static void
take_packet(struct user_packet *packet)
{
    bool session = packet->kind == 'S' || packet->kind == 'L' || packet->kind == 'R' || packet->kind == 'N';
    if (session && packet->fd_count == 1) {
        take_session(packet);
        return;
    }
    if (!session && user_program->stop)
        user_program->stop();
    user_packet_close_fds(packet);
}

static void
read_channel(void *arg)
{
    char *room = malloc(USER_PACKET_LIMIT);
    struct user_packet packet;
    struct err err;
    int got;
    (void)arg;
    if (!room)
        fatal("out of memory");
    task_fd_init(&user.channel_tfd, user.channel);
    while ((got = user_packet_read(user.channel, room, &packet)) >= 0)
        if (got > 0)
            take_packet(&packet);
        else if (task_fd_wait_read(&user.channel_tfd, NO_DEADLINE, &err) < 0)
            break;
    task_fd_release(&user.channel_tfd);
    free(room);
    user.said_goodbye = true;
    task_wake_all(&user.changed);
    task_group_join(&user.sessions);
    if (user_program->end)
        user_program->end();
    service_retire();
}

int
user_process_park(const struct user_parking *parking, const struct msg_session *session, struct err *err)
{
    struct msg_parked message = {.due = parking->due,
                                 .changed_1 = parking->changed[0],
                                 .changed_2 = parking->changed[1],
                                 .tells_new = parking->tells_new,
                                 .known = parking->known,
                                 .recent = parking->recent,
                                 .new_is_recent = parking->new_is_recent};
    int fds[USER_PACKET_FDS];
    unsigned count = 0;
    struct buf packet = {0};

    if (user.said_goodbye || user.cannot_park)
        return err_set(err, ERR_TEMP, "sessions can't be parked now");
    fds[count++] = parking->fd;
    for (unsigned i = 0; i < parking->watch_count; i++)
        fds[count++] = parking->watches[i];
    buf_append_byte(&packet, 'P');
    msg_encode(&type_parked, &message, &packet);
    msg_encode(&type_session, session, &packet);
    buf_append_slice(&packet, parking->state);
    int result = user_packet_send(user.channel, buf_slice(&packet), fds, count, err);
    buf_release(&packet);
    user.last_was_parked = result == 0;
    return result;
}

/* Says goodbye when nothing has been served for a while; sessions that cross it on the way are served still. */
static void
watch_idleness(void *arg)
{
    struct err err;
    (void)arg;
    while (!user.said_goodbye) {
        usec_t idle = user.last_was_parked ? PARKED_TIME : user.may_stay ? LONG_TIME : IDLE_TIME;
        usec_t due = user.count > 0 ? NO_DEADLINE : loop_now() + idle;
        if (task_wait(&user.changed, due, &err) == 0)
            continue;
        if (err.kind != ERR_TIMEOUT)
            return;
        if (user.count == 0) {
            user.said_goodbye = true;
            shutdown(user.channel, SHUT_WR);
        }
    }
}

static int
user_start(struct err *err)
{
    task_group_init(&user.sessions);
    if (user_program->start && user_program->start(err) < 0)
        return -1;
    task_spawn(service_tasks(), "channel", read_channel, NULL);
    task_spawn(service_tasks(), "idle", watch_idleness, NULL);
    return 0;
}

/* Makes a user's Maildir, and what is missing above it, with the rights of the user: a rule can only be about what exists, and one
 * about the directory above would be about other users' mail too. What can't be made can't be opened later. */
static void
make_directory(const char *path)
{
    char *copy = arena_strdup(service_arena(), path);
    bool root = geteuid() == 0;
    if (access(path, F_OK) == 0)
        return;
    if (root && (setgroups(0, NULL) < 0 || setegid(identity.gid) < 0 || seteuid(identity.uid) < 0))
        fatal("become user %s: %m", identity.user);
    for (char *at = copy + 1; *at; at++)
        if (*at == '/') {
            *at = '\0';
            (void)!mkdir(copy, 0700);
            *at = '/';
        }
    (void)!mkdir(copy, 0700);
    if (root && (seteuid(0) < 0 || setegid(0) < 0))
        fatal("become root again: %m");
}

/* The Maildir; for an mbox the directory that it is in, for its locks, and the user's home, where other mailboxes are. */
static const char *const *
writable_paths(struct arena *arena)
{
    const char **paths = arena_array(arena, 3, sizeof(*paths));
    const char *place = strchr(identity.mail, ':');
    if (!place)
        return paths;
    if (strncmp(identity.mail, "maildir:", 8) == 0) {
        make_directory(place + 1);
        paths[0] = place + 1;
        return paths;
    }
    char *directory = arena_strdup(arena, place + 1), *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = '\0';
    paths[0] = directory;
    if (identity.home && *identity.home)
        paths[1] = identity.home;
    return paths;
}

static void
user_prepare(struct sandbox *sandbox)
{
    static const char *const readable[] = {"/etc/localtime", "/usr/share/zoneinfo", "/dev/null", NULL};
    sandbox->calls = user_process_calls;
    sandbox->may_write_files = true;
    sandbox->has_ids = true;
    sandbox->uid = identity.uid;
    sandbox->gid = identity.gid;
    sandbox->write_paths = writable_paths(service_arena());
    sandbox->read_paths = readable;
}

/* ==== both ==== */

/* ps shows whose process it is. The environment stands behind the arguments, and gives its place. */
static struct {
    char *at;
    size_t size;
} title;

static void
find_title(char **argv)
{
    char *end = argv[0];
    for (char **arg = argv; *arg; arg++)
        if (*arg == end)
            end = *arg + strlen(*arg) + 1;
    for (char **variable = environ; *variable; variable++) {
        if (*variable == end)
            end = *variable + strlen(*variable) + 1;
        char *copy = strdup(*variable);
        if (!copy)
            fatal("out of memory");
        *variable = copy;
    }
    title.at = argv[0];
    title.size = (size_t)(end - argv[0]);
}

static void
set_title(const char *program, const char *name)
{
    memset(title.at, 0, title.size);
    snprintf(title.at, title.size, "%s: %s", program, name);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    if (user_program->prepare(conf, err) < 0)
        return -1;
    if (!user_spawner_start(&identity, &user.channel))
        return user_starter_prepare(conf, sandbox, err);
    set_title(service_name(), identity.user);
    service_is_short();
    user_prepare(sandbox);
    return 0;
}

static int
start(struct err *err)
{
    if (identity.user)
        return user_start(err);
    user_parking_start();
    return 0;
}

int
user_process_main(int argc, char **argv, const struct user_program *p)
{
    const struct service service = {
        .program = p->program,
        .prepare = prepare,
        .start = start,
        .serve = user_starter_serve,
        .drain = user_starter_drain,
        .resident = true,
        .is_interactive = true,
    };
    char **copy = calloc((size_t)argc + 1, sizeof(*copy));
    if (!copy)
        fatal("out of memory");
    for (int i = 0; i < argc; i++)
        if (!(copy[i] = strdup(argv[i])))
            fatal("out of memory");
    find_title(argv);
    user_program = p;
    return service_main(argc, copy, &service);
}
