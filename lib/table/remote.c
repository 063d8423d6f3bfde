/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/remote.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/task.h"

enum { CONNECTIONS_MOST = 30, ADDRESSES_MOST = 8 };

struct remote {
    const char *where;
    const char *host, *port; /* host NULL: a Unix socket */
    struct net_addr path;
    struct stream *idle[CONNECTIONS_MOST];
    unsigned idle_count, busy;
    struct task_cond turn;
};

static int
split_host(struct remote *r, struct arena *arena, const char *text, struct err *err)
{
    const char *colon = strrchr(text, ':');
    size_t len;

    if (!colon || colon == text || colon[1] == '\0')
        return err_set(err, ERR_PERM, "\"%s\": host:port is expected", text);
    len = (size_t)(colon - text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    r->host = arena_strndup(arena, text, len);
    r->port = arena_strdup(arena, colon + 1);
    return 0;
}

static void
release(void *arg)
{
    struct remote *r = arg;

    while (r->idle_count > 0)
        stream_free(&r->idle[--r->idle_count]);
}

struct remote *
remote_new(struct arena *arena, const char *where, struct err *err)
{
    struct remote *r = ARENA_NEW(arena, struct remote);
    int result;

    r->where = arena_strdup(arena, where);
    if (strncmp(where, "unix:", 5) == 0)
        result = net_addr_unix(where + 5, &r->path, err);
    else if (strncmp(where, "inet:", 5) == 0)
        result = split_host(r, arena, where + 5, err);
    else
        result = err_set(err, ERR_PERM, "\"%s\": inet:host:port or unix:path is expected", where);
    if (result < 0)
        return NULL;
    arena_defer(arena, release, r);
    return r;
}

/* ---- connecting ---- */

struct names {
    const char *host, *port;
    struct net_addr addresses[ADDRESSES_MOST];
    unsigned count;
    int error;
};

static void
look_up_names(void *arg)
{
    struct names *names = arg;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;

    names->error = getaddrinfo(names->host, names->port, &hints, &list);
    for (struct addrinfo *info = list; info && names->count < ADDRESSES_MOST; info = info->ai_next) {
        if (info->ai_addrlen > sizeof(struct sockaddr_in6))
            continue;
        memcpy(&names->addresses[names->count].any, info->ai_addr, info->ai_addrlen);
        names->addresses[names->count++].len = info->ai_addrlen;
    }
    if (list)
        freeaddrinfo(list);
}

static int may_wait
connect_host(const struct remote *r, usec_t deadline, struct err *err)
{
    struct arena *arena = arena_new();
    struct names *names = ARENA_NEW(arena, struct names);
    int fd = -1;

    names->host = r->host;
    names->port = r->port;
    task_run_blocking(look_up_names, names);
    err_set(err, ERR_TEMP, "%s", names->error ? gai_strerror(names->error) : "the name has no address");
    for (unsigned i = 0; i < names->count && fd < 0; i++) {
        usec_t share = (deadline - loop_now()) / (names->count - i);

        fd = net_connect(&names->addresses[i], NULL, loop_now() + share, err);
        if (fd < 0 && err->kind == ERR_CANCELLED)
            break;
    }
    arena_free(&arena);
    return fd;
}

static struct stream *may_wait
make_connection(const struct remote *r, usec_t deadline, struct err *err)
{
    int fd = r->host ? connect_host(r, deadline, err) : net_connect(&r->path, NULL, deadline, err);

    if (fd >= 0)
        return stream_new(fd);
    err_context(err, "connect to %s", r->where);
    return NULL;
}

/* ---- asking ---- */

static struct stream *
take_idle(struct remote *r)
{
    while (r->idle_count > 0) {
        struct stream *stream = r->idle[--r->idle_count];

        if (stream_is_idle_alive(stream))
            return stream;
        stream_free(&stream);
    }
    return NULL;
}

/* Keeps the connection if all went well. */
static int may_wait
talk_over(struct remote *r, struct stream *stream, const struct remote_talk *talk, bool is_new, usec_t deadline,
          struct err *err)
{
    stream_set_deadline(stream, deadline);
    if ((!is_new || !talk->begin || talk->begin(talk->ctx, stream, err) == 0) &&
        talk->converse(talk->ctx, stream, err) == 0 && stream_buffered(stream) == 0 &&
        r->idle_count < CONNECTIONS_MOST) {
        r->idle[r->idle_count++] = stream;
        return 0;
    }
    if (err->kind == ERR_NONE) {
        stream_free(&stream);
        return 0;
    }
    stream_free(&stream);
    return -1;
}

static int may_wait
ask_once(struct remote *r, const struct remote_talk *talk, usec_t deadline, struct err *err)
{
    struct stream *stream = take_idle(r);

    err->kind = ERR_NONE;
    if (stream) {
        if (talk_over(r, stream, talk, false, deadline, err) == 0)
            return 0;
        if (err->kind != ERR_CLOSED && err->kind != ERR_IO)
            return -1;
    }
    stream = make_connection(r, deadline, err);
    if (!stream)
        return -1;
    err->kind = ERR_NONE;
    return talk_over(r, stream, talk, true, deadline, err);
}

int may_wait
remote_ask(struct remote *r, const struct remote_talk *talk, usec_t time, struct err *err)
{
    usec_t deadline = loop_now() + time;
    int result;

    if (!task_current())
        return err_set(err, ERR_TEMP, "asked outside of a task");
    while (r->busy >= CONNECTIONS_MOST)
        if (task_wait(&r->turn, deadline, err) < 0)
            return -1;
    r->busy++;
    result = ask_once(r, talk, deadline, err);
    r->busy--;
    task_wake_one(&r->turn);
    if (result < 0 && err->kind != ERR_CANCELLED)
        err->kind = ERR_TEMP;
    return result;
}
