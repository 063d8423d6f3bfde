/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/conf/settings_service.h"
#include "lib/run/loop.h"
#include "lib/service/user_process_internal.h"

#define PAUSE (100 * 1000)

struct child {
    int fd;
    struct task_fd tfd;
    struct auth_ticket who; /* texts are ours */
    bool for_change;
    unsigned senders; /* tasks that are sending to it */
};

/* While there are fewer, one may stay a while after its last session. */
enum { FEW_PROCESSES = 128 };

static struct {
    struct map *children;           /* by login */
    struct map *used, *used_before; /* nonces of tickets: of this AUTH_TICKET_LIFE and of the one before */
    usec_t used_since;
    unsigned char key[AUTH_KEY_SIZE];
    unsigned count, woken;
    char room[USER_PACKET_LIMIT]; /* what is read is dealt with before the next wait */
} starter;

/* ---- processes ---- */

struct auth_ticket
user_whom_copy(const struct auth_ticket *who)
{
    return (struct auth_ticket){.user = text_copy(who->user),
                                .home = text_copy(who->home),
                                .mail = text_copy(who->mail),
                                .uid = who->uid,
                                .gid = who->gid};
}

void
user_whom_release(struct auth_ticket *who)
{
    free((void *)(uintptr_t)who->user);
    free((void *)(uintptr_t)who->home);
    free((void *)(uintptr_t)who->mail);
    *who = (struct auth_ticket){0};
}

static void
child_free(struct child *child)
{
    user_whom_release(&child->who);
    free(child);
}

static bool may_wait
take_packet(struct child *child, struct user_packet *packet)
{
    if (packet->kind == 'P' && user_parking_add(&child->who, packet))
        return true;
    log_warning("the process of user %s sends what makes no sense", child->who.user);
    user_packet_close_fds(packet);
    return false;
}

/* Takes sessions that are to be parked, until the child's goodbye, or its end. From then on its user gets another. */
static void
watch_child(void *arg)
{
    struct child *child = arg;
    struct user_packet packet;
    struct err err;
    int got;
    while ((got = user_packet_read(child->fd, starter.room, &packet)) >= 0) {
        if (got > 0 && !take_packet(child, &packet))
            break;
        /* A process that sends without end gets a turn like all others. */
        if ((got > 0 ? task_yield(&err) : task_fd_wait_read(&child->tfd, NO_DEADLINE, &err)) < 0)
            break;
    }
    if (map_get_text(starter.children, child->who.user) == child)
        map_remove_text(starter.children, child->who.user);
    starter.woken -= child->for_change;
    starter.count--;
    task_fd_release(&child->tfd);
    user_parking_process_ended();
    while (child->senders > 0) /* the number of its descriptor must not become another's meanwhile */
        if (task_sleep(PAUSE, &err) < 0)
            return;
    close(child->fd);
    child_free(child);
}

static struct child *
start_child(const struct auth_ticket *ticket, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        err_errno(err, "socketpair");
        return NULL;
    }
    int asked = user_spawner_ask(ticket, pair[1], err);
    close(pair[1]);
    if (asked < 0) {
        close(pair[0]);
        if (err->kind == ERR_CLOSED) { /* the spawner has gone: another starter, with another spawner, takes over */
            log_warning("cannot start a user's process: %s", err->text);
            service_retire();
        }
        return NULL;
    }
    struct child *child = calloc(1, sizeof(*child));
    if (!child)
        fatal("out of memory");
    child->who = user_whom_copy(ticket);
    child->fd = pair[0];
    task_fd_init(&child->tfd, child->fd);
    map_put_text(starter.children, child->who.user, child);
    starter.count++;
    task_spawn(service_tasks(), "user", watch_child, child);
    return child;
}

static int
send_once(const struct auth_ticket *who, struct slice packet, int fd, bool for_change, bool *died, struct err *err)
{
    struct child *child = map_get_text(starter.children, who->user);
    if (!child) {
        child = start_child(who, err); /* if it waits, another task may do the same: a second process does no harm */
        if (!child)
            return -1;
        child->for_change = for_change;
        starter.woken += for_change;
    } else if (child->for_change && !for_change) { /* more than a short visit: it keeps no other from being woken */
        child->for_change = false;
        starter.woken--;
        user_parking_process_ended();
    }
    child->senders++;
    int result = user_packet_send(child->fd, packet, &fd, 1, err);
    child->senders--;
    *died = result < 0 && err->kind == ERR_CLOSED;
    if (*died && map_get_text(starter.children, who->user) == child)
        map_remove_text(starter.children, who->user);
    return result;
}

int
user_starter_send(const struct auth_ticket *who, struct slice packet, int fd, bool for_change, struct err *err)
{
    bool died = false;
    int result = send_once(who, packet, fd, for_change, &died, err);
    if (died) /* and watch_child() has not seen it yet: what died has taken nothing */
        result = send_once(who, packet, fd, for_change, &died, err);
    return result;
}

unsigned
user_starter_children(void)
{
    return starter.count;
}

unsigned
user_starter_woken(void)
{
    return starter.woken;
}

/* ---- requests ---- */

/* Each ticket starts one session. One that is still good was used in this span of its life or in the one before. */
static bool
is_used(const struct auth_ticket *ticket)
{
    if (loop_now_wall() - starter.used_since > AUTH_TICKET_LIFE) {
        map_free(&starter.used_before, NULL);
        starter.used_before = starter.used;
        starter.used = map_new();
        starter.used_since = loop_now_wall();
    }
    if (map_get_text(starter.used, ticket->nonce) || map_get_text(starter.used_before, ticket->nonce))
        return true;
    map_put_text(starter.used, ticket->nonce, &starter);
    return false;
}

static int
check_ticket(struct arena *arena, const struct msg_session *session, struct auth_ticket *ticket, struct err *err)
{
    if (auth_ticket_verify(arena, session->ticket, starter.key, loop_now_wall(), ticket, err) < 0)
        return -1;
    if (strcmp(ticket->service, user_program->protocol) != 0)
        return err_set(err, ERR_PERM, "a ticket for %s", ticket->service);
    if (ticket->uid == 0 || (geteuid() != 0 && ticket->uid != geteuid()))
        return err_set(err, ERR_PERM, "cannot serve uid %u", (unsigned)ticket->uid);
    if (is_used(ticket))
        return err_set(err, ERR_PERM, "a ticket that was used before");
    return 0;
}

static int may_wait
hand_over(struct link_request *request, struct link_message *in, struct err *err)
{
    struct arena *arena = link_request_arena(request);
    struct msg_session session = *(const struct msg_session *)in->message;
    struct auth_ticket ticket;
    struct buf packet = {0};

    if (in->fd_count != 1)
        return err_set(err, ERR_SYNTAX, "a session without a connection");
    if (check_ticket(arena, &session, &ticket, err) < 0)
        return -1;
    session.ticket = "";
    session.parked = user_parking_count(ticket.user);
    buf_append_byte(&packet, starter.count < FEW_PROCESSES ? 'L' : 'S');
    msg_encode(&type_session, &session, &packet);
    buf_append_slice(&packet, in->payload);
    int result = user_starter_send(&ticket, buf_slice(&packet), in->fds[0], false, err);
    buf_release(&packet);
    return result;
}

static void
handle_session(struct link_request *request, struct link_message *in, void *ctx)
{
    struct msg_session_taken answer = {.reason = ""};
    struct err err;
    (void)ctx;
    answer.taken = hand_over(request, in, &err) == 0;
    if (!answer.taken) {
        answer.reason = err.text;
        log_warning("session of %s[%s] not started: %s", ((const struct msg_session *)in->message)->client_name,
                    ((const struct msg_session *)in->message)->client_address, err.text);
    }
    link_close_fds(in);
    link_reply(request, &type_session_taken, &answer, slice_make(NULL, 0), NULL, 0);
}

static const struct link_handler handlers[] = {{&type_session, true, handle_session}};

/* ==== for user_process.c ==== */

int
user_starter_prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct service_settings settings;
    if (service_settings_load(&settings, conf, service_arena(), err) < 0)
        return -1;
    char *data = conf_string(conf, service_arena(), "data_directory", err);
    if (!data || auth_key_load(data, false, starter.key, err) < 0)
        return -1;
    sandbox->calls = SANDBOX_SPAWN; /* keeps root's capabilities, of which its children need some at their start */
    sandbox->may_fork = true;
    sandbox->may_write_files = true; /* RLIMIT_FSIZE would be the children's too */
    sandbox->no_landlock = true;
    starter.children = map_new();
    starter.used = map_new();
    starter.used_before = map_new();
    return 0;
}

void
user_starter_serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    link_accept(fd, handlers, ARRAY_LEN(handlers), NULL, NULL);
}

/* After a reload sessions go on until their clients end them, parked ones too. When the system stops a byte tells each user's
 * process to end its sessions. */
void
user_starter_drain(void)
{
    size_t position = 0;
    void *value;
    if (!starter.children)
        return;
    user_parking_drain();
    while (map_next(starter.children, &position, NULL, &value)) {
        struct child *child = value;
        if (send(child->fd, "T", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            log_debug("user process of %s: %m", child->who.user);
        shutdown(child->fd, SHUT_WR);
    }
}
