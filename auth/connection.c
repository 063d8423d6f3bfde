/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/connection.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "auth/mechanism.h"
#include "auth/request.h"
#include "auth/userdb.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/auth_protocol.h"
#include "lib/run/crypto.h"
#include "lib/run/stream.h"
#include "lib/service/service.h"

enum { REQUESTS_MOST = 100 /* of one connection at a time */ };

struct connection {
    struct server *server;
    struct stream *stream;
    struct map *requests; /* by id */
    struct task_group tasks;
    bool is_root;
};

void
connection_say(struct connection *c, const char *fmt, ...)
{
    struct buf line = {0};
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&line, fmt, args);
    va_end(args);
    buf_append_byte(&line, '\n');
    ssize_t n = send(stream_fd(c->stream), line.ptr, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n != (ssize_t)line.len)
        stream_cancel(c->stream);
    buf_release(&line);
}

static struct slice
id_key(const uint32_t *id)
{
    return slice_make(id, sizeof *id);
}

void
connection_forget(struct connection *c, struct request *r)
{
    map_remove(c->requests, id_key(&r->id));
}

static void
say_hello(struct connection *c)
{
    const struct mechanism *mechanism;
    unsigned char cookie[16];
    char text[33];
    unsigned index = 0;

    crypto_random(cookie, sizeof cookie);
    for (size_t i = 0; i < sizeof cookie; i++)
        snprintf(text + 2 * i, 3, "%02x", cookie[i]);
    connection_say(c, "VERSION\t1\t1");
    while ((mechanism = mechanism_next(c->server, &index)))
        connection_say(c, "MECH\t%s%s", mechanism->name, mechanism->properties);
    connection_say(c, "SPID\t%d\nCUID\t%d\nCOOKIE\t%s\nDONE", (int)getpid(), stream_fd(c->stream), text);
}

/* ---- AUTH ---- */

static const char *
unescaped(struct arena *arena, struct slice text)
{
    struct buf out = {0};

    auth_unescape(text, &out);
    const char *result = arena_strndup(arena, out.ptr ? out.ptr : "", out.len);
    buf_release(&out);
    return result;
}

static void
set_response(struct request *r, struct slice text)
{
    crypto_wipe(r->response.ptr, r->response.len);
    buf_clear(&r->response);
    buf_reserve(&r->response, text.len + 1); /* so that growing leaves no copies */
    r->bad_response = crypto_base64_decode(text, &r->response) < 0;
    r->has_response = true;
}

static void
read_parameters(struct request *r, struct slice rest)
{
    const struct {
        const char *name;
        const char **value;
    } texts[] = {{"service", &r->service},
                 {"rip", &r->client},
                 {"cert_username", &r->certificate_name},
                 {"tls_exporter", &r->binding}};
    struct slice field, name;

    while (rest.len > 0) {
        if (slice_starts_with_fold(rest, "resp=")) { /* the last, and may hold anything */
            set_response(r, slice_make(rest.ptr + 5, rest.len - 5));
            return;
        }
        slice_cut(&rest, '\t', &field);
        if (slice_equal_text(field, "valid-client-cert"))
            r->valid_certificate = true;
        if (!slice_has_byte(field, '='))
            continue;
        slice_cut(&field, '=', &name);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            if (slice_equal_text(name, texts[i].name))
                *texts[i].value = unescaped(r->arena, field);
    }
}

static struct request *
request_new(struct connection *c, uint32_t id, struct slice mechanism)
{
    struct request *r = calloc(1, sizeof *r);

    if (!r)
        fatal("out of memory");
    r->server = c->server;
    r->connection = c;
    r->arena = arena_new();
    r->id = id;
    r->service = r->client = r->certificate_name = r->binding = r->user = r->reason = "";
    r->mechanism = arena_strndup(r->arena, mechanism.ptr, mechanism.len);
    return r;
}

/* -1: nothing that follows can be trusted. */
static int
take_id(struct slice *line, uint32_t *id)
{
    struct slice text;
    unsigned long long number;

    if (!slice_cut(line, '\t', &text) || slice_to_u64(text, UINT32_MAX, &number) < 0)
        return -1;
    *id = (uint32_t)number;
    return 0;
}

static int
begin(struct connection *c, struct slice line)
{
    struct slice mechanism;
    uint32_t id;

    if (take_id(&line, &id) < 0 || !slice_cut(&line, '\t', &mechanism) || map_get(c->requests, id_key(&id)) ||
        map_count(c->requests) >= REQUESTS_MOST)
        return -1;
    struct request *r = request_new(c, id, mechanism);
    read_parameters(r, line);
    map_put(c->requests, id_key(&r->id), r);
    task_spawn(&c->tasks, "login", request_run, r);
    return 0;
}

static int
go_on(struct connection *c, struct slice line)
{
    struct request *r;
    uint32_t id;

    if (take_id(&line, &id) < 0)
        return -1;
    r = map_get(c->requests, id_key(&id));
    if (!r || r->has_response)
        return r ? -1 : 0; /* it may have timed out meanwhile */
    set_response(r, line);
    task_wake_all(&r->cond);
    return 0;
}

static int
cancel(struct connection *c, struct slice line)
{
    struct request *r;
    uint32_t id;

    if (take_id(&line, &id) < 0)
        return -1;
    r = map_get(c->requests, id_key(&id));
    if (r) {
        r->gone = true;
        task_wake_all(&r->cond);
    }
    return 0;
}

/* ---- USER: where somebody's mail lies; for root's programs alone ---- */

static int may_wait
look_up_user(struct connection *c, struct slice line)
{
    struct auth_ticket ticket;
    struct arena *arena;
    struct slice name;
    struct err err;
    bool found;
    uint32_t id;

    if (take_id(&line, &id) < 0 || !slice_cut(&line, '\t', &name) || !c->is_root)
        return -1;
    arena = arena_new();
    const char *user = unescaped(arena, name);
    if (userdb_find(c->server, arena, user, &ticket, &found, &err) < 0) {
        log_warning("user %s: %s", user, err.text);
        connection_say(c, "FAIL\t%u\treason=temporary failure", id);
    } else if (!found) {
        connection_say(c, "NOTFOUND\t%u", id);
    } else {
        struct buf fields = {0};
        auth_escape(slice_from(user), &fields);
        buf_printf(&fields, "\tuid=%lu\tgid=%lu\thome=", (unsigned long)ticket.uid, (unsigned long)ticket.gid);
        auth_escape(slice_from(ticket.home), &fields);
        buf_append_text(&fields, "\tmail=");
        auth_escape(slice_from(ticket.mail), &fields);
        connection_say(c, "USER\t%u\t%s", id, buf_text(&fields));
        buf_release(&fields);
    }
    arena_free(&arena);
    return 0;
}

/* ---- lines ---- */

static int may_wait
handle(struct connection *c, struct slice line)
{
    struct slice command, major;

    slice_cut(&line, '\t', &command);
    if (slice_equal_text(command, "VERSION"))
        return slice_cut(&line, '\t', &major) && slice_equal_text(major, "1") ? 0 : -1;
    if (slice_equal_text(command, "AUTH"))
        return begin(c, line);
    if (slice_equal_text(command, "CONT"))
        return go_on(c, line);
    if (slice_equal_text(command, "CANCEL"))
        return cancel(c, line);
    if (slice_equal_text(command, "USER"))
        return look_up_user(c, line);
    return 0; /* CPID, and what later versions say */
}

static void may_wait
read_lines(struct connection *c)
{
    enum stream_line_end ending;
    struct slice line;
    struct err err;

    while (stream_read_line(c->stream, AUTH_LINE_SIZE, &line, &ending, &err) == 0) {
        if (ending != STREAM_LINE_CUT && !memchr(line.ptr ? line.ptr : "", '\0', line.len) && handle(c, line) == 0)
            continue;
        log_warning("a client of this service sent a malformed request");
        return;
    }
}

void may_wait
connection_serve(struct server *server, int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;

    if (!c)
        fatal("out of memory");
    c->server = server;
    c->is_root = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == getuid());
    c->stream = stream_new(fd);
    c->requests = map_new();
    task_group_init(&c->tasks);
    say_hello(c);
    read_lines(c);
    task_group_cancel(&c->tasks);
    task_group_join(&c->tasks);
    map_free(&c->requests, NULL);
    stream_free(&c->stream);
    free(c);
}
