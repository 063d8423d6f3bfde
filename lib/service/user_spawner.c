/* SPDX-License-Identifier: Apache-2.0 */
/* The spawner: a process that the starter forks while it knows nothing yet, neither key nor sessions: it has read main.cf and loaded
 * all libraries, and compiled the filter of system calls. It forks a user's process for each request, which so needs no exec, no linking and
 * no reading of files: that is nine tenths of what a start costs, and most pages are shared by all. Some are forked ahead and wait to be
 * told their user. What such processes have in common is the places of things in memory.
 *
 * A request is one packet: ids, and the user's texts, each with a NUL, with the user's end of a channel. Children are nobody's
 * to wait for: the starter sees their channels end. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/service/master_protocol.h"
#include "lib/service/service_internal.h"
#include "lib/service/user_process_internal.h"

enum { REQUEST_LIMIT = 16 << 10 };

static int spawner_fd = -1;

/* ---- in the spawner ---- */

static void
reset_signals(void)
{
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        if (s != SIGPIPE)
            (void)signal(s, SIG_DFL);
    (void)signal(SIGCHLD, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* What master gave is the starter's. */
static void
drop_inherited(void)
{
    if (!service_state.has_master)
        return;
    close(MASTER_LOCK_FD);
    close(MASTER_STATUS_FD);
    for (unsigned i = 0; i < service_state.socket_count; i++)
        close(MASTER_LISTEN_FD + (int)i);
    service_state.has_master = false;
    service_state.socket_count = 0;
}

static bool
take_text(struct slice *rest, const char **text)
{
    struct slice field;
    if (!slice_cut(rest, '\0', &field))
        return false;
    *text = strndup(field.ptr, field.len);
    return *text != NULL;
}

static bool
decode(struct slice rest, struct user_identity *who)
{
    struct {
        uid_t uid;
        gid_t gid;
    } ids;
    if (rest.len < sizeof(ids))
        return false;
    memcpy(&ids, rest.ptr, sizeof(ids));
    rest = slice_make(rest.ptr + sizeof(ids), rest.len - sizeof(ids));
    who->uid = ids.uid;
    who->gid = ids.gid;
    return take_text(&rest, &who->user) && take_text(&rest, &who->home) && take_text(&rest, &who->mail);
}

/* The session is on its way already, and is lost without a process: a shortage that passes is waited for. */
static pid_t
fork_patiently(void)
{
    pid_t pid = fork();
    for (unsigned tries = 0; pid < 0 && tries < 20; tries++) {
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
        pid = fork();
    }
    return pid;
}

/* ---- processes that were forked ahead: whoever comes need not wait for a fork ---- */

enum {
    PREPARED_MOST = 2,
    PREPARE_AFTER = 50, /* ms without a request: the one that was just served shall have the processor for itself */
};

static struct {
    int fds[PREPARED_MOST]; /* of each the spawner's end of a socket on which it is told its user; it ends with it */
    unsigned count;
} prepared;

/* Waits for a request for so many milliseconds (-1: until there is one), and forgets who has died. */
static bool
has_request(int fd, int time)
{
    struct pollfd fds[1 + PREPARED_MOST] = {{.fd = fd, .events = POLLIN}};
    unsigned count = prepared.count;
    for (unsigned i = 0; i < count; i++)
        fds[1 + i].fd = prepared.fds[i]; /* its end is all that can come */
    if (poll(fds, 1 + count, time) <= 0)
        return false;
    prepared.count = 0;
    for (unsigned i = 0; i < count; i++)
        if (fds[1 + i].revents == 0)
            prepared.fds[prepared.count++] = fds[1 + i].fd;
        else
            close(fds[1 + i].fd);
    if (prepared.count < count) /* should they die as fast as they are made */
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    return fds[0].revents != 0;
}

static void
become_user_process(int spawner)
{
    close(spawner);
    for (unsigned i = 0; i < prepared.count; i++)
        close(prepared.fds[i]);
    (void)signal(SIGCHLD, SIG_DFL);
    loop_after_fork();
}

/* True: this is the new process, and here is its request. */
static bool
prepare_one(int spawner, char *room, struct user_packet *packet)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        become_user_process(spawner);
        if (user_packet_read(pair[1], room, packet) <= 0)
            _exit(0);
        close(pair[1]);
        return true;
    }
    close(pair[1]);
    if (pid > 0)
        prepared.fds[prepared.count++] = pair[0];
    else
        close(pair[0]);
    return false;
}

/* False: there is none that takes it. */
static bool
give_to_prepared(const struct user_packet *packet)
{
    struct slice whole = slice_make(packet->bytes.ptr - 1, packet->bytes.len + 1); /* with its letter */
    struct err err;
    while (prepared.count > 0) {
        int fd = prepared.fds[--prepared.count];
        int sent = user_packet_send(fd, whole, packet->fds, 1, &err);
        close(fd);
        if (sent == 0)
            return true;
    }
    return false;
}

/* ---- the spawner's life ---- */

/* Returns in a user's process only: with its request. */
static void
spawn_loop(int fd, char *room, struct user_packet *packet)
{
    for (;;) {
        while (prepared.count < PREPARED_MOST && !has_request(fd, PREPARE_AFTER)) {
            unsigned before = prepared.count;
            if (prepare_one(fd, room, packet))
                return;
            if (prepared.count == before) /* a shortage: later */
                break;
        }
        if (!has_request(fd, -1))
            continue;
        int got = user_packet_read(fd, room, packet);
        if (got < 0)
            _exit(0);
        if (got == 0)
            continue;
        bool makes_sense = packet->kind == 'U' && packet->fd_count == 1;
        if (makes_sense && !give_to_prepared(packet) && fork_patiently() == 0) {
            become_user_process(fd);
            return;
        }
        user_packet_close_fds(packet);
        memset(room, 0, 1 + packet->bytes.len); /* no process that is forked later shall know whose this one is */
    }
}

/* Returns in a user's process only: its channel. */
static int
spawn(int fd, struct user_identity *who)
{
    struct user_packet packet;
    char *room = malloc(USER_PACKET_LIMIT);
    if (!room)
        _exit(1);
    spawn_loop(fd, room, &packet);
    if (!decode(packet.bytes, who) || net_set_nonblocking(packet.fds[0], true) < 0)
        _exit(1);
    free(room);
    return packet.fds[0];
}

/* ---- in the starter ---- */

bool
user_spawner_start(struct user_identity *who, int *channel)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        fatal("socketpair: %m");
    log_flush();
    pid_t pid = fork();
    if (pid < 0)
        fatal("fork: %m");
    if (pid == 0) {
        close(pair[0]);
        reset_signals();
        drop_inherited();
        (void)prctl(PR_SET_DUMPABLE, 0);
        sandbox_prepare(user_process_calls | SANDBOX_ACCEPT); /* as service_main() adds */
        *channel = spawn(pair[1], who);
        return true;
    }
    close(pair[1]);
    spawner_fd = pair[0];
    return false;
}

int
user_spawner_ask(const struct auth_ticket *who, int channel, struct err *err)
{
    const char *const texts[] = {who->user, who->home, who->mail};
    const struct {
        uid_t uid;
        gid_t gid;
    } ids = {who->uid, who->gid};
    struct buf packet = {0};
    buf_append_byte(&packet, 'U');
    buf_append(&packet, &ids, sizeof(ids));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_append(&packet, texts[i], strlen(texts[i]) + 1);
    int result = packet.len > REQUEST_LIMIT ? err_set(err, ERR_PERM, "a user's names are too long")
                                            : user_packet_send(spawner_fd, buf_slice(&packet), &channel, 1, err);
    buf_release(&packet);
    return result;
}
