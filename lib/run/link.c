/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/link.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/link_internal.h"

enum { LINK_MAGIC = 0x4c494e4b };

#define HELLO_TIME SECONDS(30)

struct link_state link_state;

struct hello {
    int64_t version;
    const char *program;
    int64_t pid;
};

static const struct msg_field hello_fields[] = {
    {"version", MSG_INT, offsetof(struct hello, version), 1, UINT16_MAX},
    {"program", MSG_TEXT, offsetof(struct hello, program), 0, 20},
    {"pid", MSG_INT, offsetof(struct hello, pid), 0, INT32_MAX},
};

static const struct msg_type hello_type = {
    .name = "hello",
    .code = LINK_CODE_HELLO,
    .senders = UINT32_MAX,
    .size = sizeof(struct hello),
    .fields = hello_fields,
    .field_count = ARRAY_LEN(hello_fields),
};

/* --- once for each process --- */

static void
index_types(const struct link_protocol *protocol)
{
    unsigned highest = 0;

    for (unsigned i = 0; i < protocol->type_count; i++) {
        check(protocol->types[i]->code >= 16);
        if (protocol->types[i]->code > highest)
            highest = protocol->types[i]->code;
    }
    link_state.code_count = highest + 1;
    link_state.by_code = calloc(link_state.code_count, sizeof(*link_state.by_code));
    if (!link_state.by_code)
        fatal("out of memory");
    for (unsigned i = 0; i < protocol->type_count; i++) {
        check(!link_state.by_code[protocol->types[i]->code]);
        link_state.by_code[protocol->types[i]->code] = protocol->types[i];
    }
}

void
link_init(const struct link_protocol *protocol, const char *program, uid_t trusted_uid)
{
    free(link_state.by_code);
    link_state.protocol = protocol;
    link_state.program = program;
    link_state.trusted_uid = trusted_uid;
    check(strlen(program) <= 20);
    index_types(protocol);
    task_group_init(&link_state.tasks);
    list_init(&link_state.servers);
    list_init(&link_state.all);
    link_state.draining = false;
    if (!link_state.passing)
        link_state.passing = arena_new();
}

static void
set_peer(struct link *link, const char *program)
{
    link->peer_program = NULL;
    link->peer_bit = 0;
    for (unsigned i = 0; i < link_state.protocol->role_count; i++)
        if (strcmp(link_state.protocol->roles[i].program, program) == 0) {
            link->peer_program = link_state.protocol->roles[i].program;
            link->peer_bit = link_state.protocol->roles[i].bit;
        }
}

/* --- life --- */

static void
free_now(struct link *link)
{
    check(link->magic == LINK_MAGIC);
    link->magic = 0;
    loop_timer_clear(&link->hello_timer);
    list_remove(&link->all_link);
    buf_release(&link->out);
    free(link->slots);
    free(link->path);
    free(link);
}

void
link_hold(struct link *link)
{
    check(link->magic == LINK_MAGIC);
    link->holders++;
}

void
link_release(struct link *link)
{
    check(link->magic == LINK_MAGIC && link->holders > 0);
    if (--link->holders == 0 && link->freed)
        free_now(link);
}

static void leave_behind(struct link *);

static void
on_turn_end(void *arg)
{
    struct link *link = arg;

    link_flush(link);
    if (link->retiring && link->outstanding == 0 && link->out.len == 0)
        link_end(link, "the server retired");
    else if (link->retiring && link->fd >= 0 && !link->is_rest && link->handler_count == 0)
        leave_behind(link);
    link_release(link);
}

static struct link *
link_new(const struct link_handler *handlers, unsigned handler_count, void *ctx, void (*closed)(void *, struct link *))
{
    struct link *link = calloc(1, sizeof(*link));

    if (!link)
        fatal("out of memory");
    check(link_state.protocol);
    link->magic = LINK_MAGIC;
    link->fd = -1;
    link->handlers = handlers;
    link->handler_count = handler_count;
    link->ctx = ctx;
    link->closed = closed;
    link->out_fds_end = &link->out_fds;
    link->flush = (struct loop_hook){.fn = on_turn_end, .arg = link};
    list_init(&link->requests);
    list_init(&link->rests);
    list_init(&link->room.waiters);
    list_append(&link_state.all, &link->all_link);
    return link;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    link_read(arg);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    (void)what;
    link->blocked = false;
    link_hold(link);
    link_flush(link);
    link_release(link);
}

/* Edge-triggered for reading. For writing only while the kernel's buffer is full: a Unix socket reports room each time
 * that the other side has read something, which would wake us twice for each exchange. */
static void
watch(struct link *link)
{
    link->readable = event_new(loop_base(), link->fd, EV_READ | EV_PERSIST | EV_ET, on_readable, link);
    link->writable = event_new(loop_base(), link->fd, EV_WRITE, on_writable, link);
    if (!link->readable || !link->writable || event_add(link->readable, NULL) < 0 ||
        (link->blocked && event_add(link->writable, NULL) < 0))
        fatal("event_add: %s", strerror(errno));
}

static void
unwatch(struct link *link)
{
    event_free(link->readable);
    event_free(link->writable);
    link->readable = link->writable = NULL;
    loop_timer_clear(&link->recheck_timer);
}

static void
attach(struct link *link, int fd)
{
    link->fd = fd;
    link->generation++;
    link->hello_seen = link->retiring = false;
    link->blocked = link->paused = false;
    link->out_position = 0;
    watch(link);
}

static void
detach(struct link *link)
{
    unwatch(link);
    close(link->fd);
    link->fd = -1;
}

static void
move_output(struct link *from, struct link *to)
{
    to->out = from->out;
    to->out_position = from->out_position;
    if (from->out_fds) {
        to->out_fds = from->out_fds;
        to->out_fds_end = from->out_fds_end;
    }
    from->out = (struct buf){0};
    from->out_fds = NULL;
    from->out_fds_end = &from->out_fds;
}

/* A server that retires finishes what is under way, which may take as long as a delivery does. So the connection, and the
 * calls on it, go to a link of their own, which ends with them, and the next call connects anew. Called at the end of a
 * turn, when nobody is reading. */
static void
leave_behind(struct link *link)
{
    struct link *rest = link_new(NULL, 0, NULL, NULL);

    unwatch(link);
    rest->path = strdup(link->path);
    if (!rest->path)
        fatal("out of memory");
    rest->is_rest = rest->retiring = true;
    rest->fd = link->fd;
    rest->generation = 1;
    rest->hello_seen = link->hello_seen;
    rest->blocked = link->blocked;
    rest->peer_program = link->peer_program;
    rest->peer_bit = link->peer_bit;
    rest->peer_pid = link->peer_pid;
    rest->in = link->in;
    memcpy(rest->in_fds, link->in_fds, sizeof(rest->in_fds));
    rest->in_fd_count = link->in_fd_count;
    move_output(link, rest);
    link_move_calls(link, rest);
    list_append(&link->rests, &rest->rest_link);
    watch(rest);

    link->fd = -1;
    link->retiring = link->blocked = false;
    link->peer_pid = 0;
    link->in = (struct buf){0};
    link->in_fd_count = 0;
    link->closed_due = true;
    link_report_closed(link);
    task_wake_all(&link->room);
}

/* A server's closed() comes after the tasks that still unwind, because it may free what ctx points to. */
void
link_report_closed(struct link *link)
{
    if (!link->closed_due || (link->server && !list_is_empty(&link->requests)))
        return;
    link->closed_due = false;
    if (link->closed)
        link->closed(link->ctx, link);
}

void
link_end(struct link *link, const char *why)
{
    if (link->fd < 0)
        return;
    link_hold(link);
    loop_timer_clear(&link->hello_timer);
    detach(link);
    link_drop_output(link);
    link_drop_input(link);
    link_cancel_requests(link);
    link_fail_calls(link, why);
    link->peer_pid = 0;
    if (link->is_rest || link->server)
        link->freed = true;
    list_remove(&link->rest_link);
    if (link->server) {
        list_remove(&link->server_link);
        link_state.server_count--;
        task_wake_all(&link_state.server_gone);
    }
    link->closed_due = true;
    link_report_closed(link);
    task_wake_all(&link->room);
    link_release(link);
}

void
link_free(struct link **at)
{
    struct link *link = *at;

    *at = NULL;
    if (!link)
        return;
    link_hold(link);
    link->closed = NULL;
    link->freed = true;
    link_end(link, "link given up");
    LIST_EACH(rest, &link->rests)
    {
        link_end(LIST_ENTRY(rest, struct link, rest_link), "link given up");
    }
    task_wake_all(&link->room);
    link_release(link);
}

/* --- who is there --- */

static void
send_hello(struct link *link)
{
    struct hello hello = {LINK_VERSION, link_state.program, getpid()};
    struct err err; /* it is small, and has no descriptors */

    (void)!link_queue(link, &(struct link_head){.type = LINK_CODE_HELLO}, &hello_type, &hello, (struct slice){0}, NULL,
                      &err);
}

static int
check_peer(int fd, pid_t *pid, struct err *err)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
        return err_errno(err, "SO_PEERCRED");
    if (who.uid != 0 && who.uid != link_state.trusted_uid)
        return err_set(err, ERR_PERM, "peer with uid %u is not trusted", who.uid);
    *pid = who.pid;
    return 0;
}

static void
tell_retire(struct link *link)
{
    static const struct msg_type retire_type = {.name = "retire", .code = LINK_CODE_RETIRE};
    struct err err;

    if (link->hello_seen)
        (void)!link_queue(link, &(struct link_head){.type = LINK_CODE_RETIRE}, &retire_type, NULL, (struct slice){0},
                          NULL, &err);
}

int
link_take_hello(struct link *link, struct slice message, struct err *err)
{
    struct slice rest;
    struct hello *hello = msg_decode(link_state.passing, &hello_type, message, &rest, err);
    pid_t pid;

    if (!hello)
        return -1;
    if (rest.len > 0 || hello->version != LINK_VERSION)
        return err_set(err, ERR_SYNTAX, "hello of version %d", (int)hello->version);
    if (check_peer(link->fd, &pid, err) < 0)
        return -1;
    set_peer(link, hello->program);
    if (!link->peer_program)
        return err_set(err, ERR_SYNTAX, "hello from an unknown program");
    /* A client sees the credentials of the one who made the socket (master), so it takes the peer's word. */
    link->peer_pid = link->server ? pid : (pid_t)hello->pid;
    link->hello_seen = true;
    loop_timer_clear(&link->hello_timer);
    if (link->server)
        send_hello(link);
    if (link->server && link_state.draining)
        tell_retire(link);
    return 0;
}

static void
on_hello_timeout(void *arg)
{
    struct link *link = arg;

    link_hold(link);
    link_end(link, "no hello in time");
    link_release(link);
}

static struct link *
accept_any(int fd, const struct link_handler *handlers, unsigned count, void *ctx,
           void (*closed)(void *, struct link *), void (*trigger)(void *, const char *, size_t))
{
    struct link *link;

    if (evutil_make_socket_nonblocking(fd) < 0) {
        log_warning("link: non-blocking: %s", strerror(errno));
        close(fd);
        return NULL;
    }
    link = link_new(handlers, count, ctx, closed);
    link->server = true;
    link->trigger = trigger;
    list_append(&link_state.servers, &link->server_link);
    link_state.server_count++;
    attach(link, fd);
    loop_timer_set(&link->hello_timer, loop_now() + HELLO_TIME, on_hello_timeout, link);
    return link;
}

struct link *
link_accept(int fd, const struct link_handler *handlers, unsigned count, void *ctx,
            void (*closed)(void *ctx, struct link *))
{
    struct err err;
    pid_t pid;

    if (check_peer(fd, &pid, &err) < 0) {
        log_warning("link: %s", err.text);
        close(fd);
        return NULL;
    }
    return accept_any(fd, handlers, count, ctx, closed, NULL);
}

struct link *
link_accept_public(int fd, const struct link_handler *handlers, unsigned count, void *ctx,
                   void (*closed)(void *ctx, struct link *), void (*trigger)(void *ctx, const char *bytes, size_t len))
{
    return accept_any(fd, handlers, count, ctx, closed, trigger);
}

struct link *
link_connect(const char *path, const struct link_handler *handlers, unsigned count, void *ctx,
             void (*closed)(void *ctx, struct link *))
{
    struct link *link = link_new(handlers, count, ctx, closed);

    link->path = strdup(path);
    if (!link->path)
        fatal("out of memory");
    return link;
}

/* A Unix socket connects at once, or not: EAGAIN means that the listener's backlog is full. */
static int
open_socket(const char *path, bool *try_later, struct err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd;

    *try_later = false;
    if (len >= sizeof(sun.sun_path))
        return err_set(err, ERR_PERM, "connect to %s: path is too long", path);
    memcpy(sun.sun_path, path, len + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "socket");
    if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
        *try_later = errno == EAGAIN;
        err_set(err, ERR_CLOSED, "connect to %s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

int
link_ensure_connected(struct link *link, bool *try_later, struct err *err)
{
    pid_t pid;
    int fd;

    *try_later = false;
    if (link->fd >= 0)
        return 0;
    if (link->server || link->freed)
        return err_set(err, ERR_CLOSED, "link with %s: connection closed", link_name(link));
    fd = open_socket(link->path, try_later, err);
    if (fd < 0)
        return -1;
    if (check_peer(fd, &pid, err) < 0) {
        close(fd);
        return err_context(err, "connect to %s", link->path);
    }
    attach(link, fd);
    send_hello(link);
    return 0;
}

/* --- retiring --- */

void
link_take_retire(struct link *link)
{
    link->retiring = true;
    link_want_flush(link);
}

void
link_retire_servers(void)
{
    if (link_state.draining)
        return;
    link_state.draining = true;
    LIST_EACH(at, &link_state.servers)
    {
        tell_retire(LIST_ENTRY(at, struct link, server_link));
    }
}

int may_wait
link_drain_servers(usec_t deadline, struct err *err)
{
    link_retire_servers();
    while (link_state.server_count > 0)
        if (task_wait(&link_state.server_gone, deadline, err) < 0)
            return -1;
    return 0;
}

unsigned
link_server_count(void)
{
    return link_state.server_count;
}

void
link_trim(void)
{
    LIST_EACH(at, &link_state.all)
    {
        struct link *link = LIST_ENTRY(at, struct link, all_link);

        if (link->out.len == 0)
            buf_release(&link->out);
    }
    free(link_state.scratch);
    link_state.scratch = NULL;
}

/* --- what callers ask --- */

const char *
link_name(const struct link *link)
{
    if (link->path)
        return link->path;
    return link->peer_program ? link->peer_program : "unknown";
}

const char *
link_peer_program(const struct link *link)
{
    return link->peer_program ? link->peer_program : "";
}

pid_t
link_peer_pid(const struct link *link)
{
    return link->peer_pid;
}

bool
link_is_connected(const struct link *link)
{
    return link->fd >= 0;
}

bool
link_is_full(const struct link *link)
{
    return link->out.len >= LINK_OUT_LIMIT;
}

unsigned
link_outstanding(const struct link *link)
{
    return link->outstanding;
}
