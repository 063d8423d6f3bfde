/* SPDX-License-Identifier: Apache-2.0 */
#include "front/front.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/run/loop.h"
#include "lib/run/proxy_header.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "lib/table/server_names.h"

#define ANVIL_TIME    SECONDS(10)
#define AUTH_TIME     SECONDS(60)
#define HANDOVER_TIME SECONDS(30)
#define FAILURE_PAUSE SECONDS(2)
#define RELAY_GRACE   SECONDS(60) /* the session ends first */

/* ---- settings ---- */

static int
load_tls(struct front *front, struct arena *arena, const struct conf *conf, struct err *err)
{
    const struct front_settings *set = &front->set;
    if (strcmp(set->login_tls_security_level, "none") == 0 && !set->login_tls_wrappermode)
        return 0;
    front->needs_tls = strcmp(set->login_tls_security_level, "encrypt") == 0 || set->login_tls_wrappermode;
    if (!*set->login_tls_cert_file) {
        if (front->needs_tls)
            return err_set(err, ERR_PERM, "TLS is demanded, but login_tls_cert_file (smtpd_tls_cert_file) is not set");
        return 0;
    }
    struct tls_settings settings = {.role = TLS_SERVER,
                                    .cert_file = set->login_tls_cert_file,
                                    .key_file = set->login_tls_key_file,
                                    .protocols = set->smtpd_tls_mandatory_protocols,
                                    .ca_file = set->login_tls_CAfile,
                                    .verify_peer = set->login_tls_ask_ccert,
                                    .session_tickets = true};
    front->tls_files = file_watch_new();
    file_watch_add(front->tls_files, set->login_tls_cert_file);
    file_watch_add(front->tls_files, set->login_tls_key_file);
    if (server_names_use(arena, conf, "login_tls_server_sni_maps", set->login_tls_server_sni_maps, &settings, err) < 0)
        return -1;
    front->tls = tls_context_new(&settings, err);
    if (front->tls)
        return 0;
    if (front->needs_tls)
        return -1;
    log_warning("no TLS: %s", err->text);
    return 0;
}

struct front *
front_new(struct arena *arena, const struct conf *conf, const char *protocol, struct err *err)
{
    struct front *front = ARENA_NEW(arena, struct front);
    front->protocol = protocol;
    front->clients = map_new();
    if (front_settings_load(&front->set, conf, arena, err) < 0 || load_tls(front, arena, conf, err) < 0)
        return NULL;
    front->plaintext =
        match_list_new(arena, conf, "login_plaintext_networks", front->set.login_plaintext_networks, 0, err);
    return front->plaintext ? front : NULL;
}

void
front_connect(struct front *front)
{
    bool imap = strcmp(front->protocol, "imap") == 0;
    front->auth = auth_client_new(service_socket_path(front->set.login_auth_path));
    if (front->set.login_client_connection_limit > 0)
        front->anvil = link_connect(service_socket_path("private/anvil"), NULL, 0, NULL, NULL);
    front->sessions =
        link_connect(service_socket_path(imap ? "private/imap-session" : "private/pop3-session"), NULL, 0, NULL, NULL);
}

/* ---- a connection ---- */

/* A proxy says whose the connection is: before TLS, so the stream has read nothing yet. */
static int may_wait
read_proxy_header(struct connection *c, struct proxy_header *header)
{
    const struct front_settings *set = &c->front->set;
    usec_t deadline = loop_now() + set->login_upstream_proxy_timeout;
    header->is_local = true;
    if (!set->login_upstream_proxy_protocol[0] ||
        proxy_header_read(stream_fd(c->stream), deadline, header, &c->err) == 0)
        return 0;
    log_warning("haproxy read: %s", c->err.text);
    return -1;
}

/* -1: nobody knows whose connection it is. */
static int may_wait
find_addresses(struct connection *c, const struct net_addr *peer)
{
    struct proxy_header proxy;
    if (read_proxy_header(c, &proxy) < 0)
        return -1;
    struct net_addr remote = proxy.is_local ? *peer : proxy.client,
                    local = {.len = sizeof local - offsetof(struct net_addr, any)};
    char text[NET_NETWORK_SIZE];
    net_addr_unmap(&remote);
    bool inet = remote.len > 0 && (remote.any.sa_family == AF_INET || remote.any.sa_family == AF_INET6);
    net_addr_format(&remote, text, sizeof text);
    c->address = arena_strdup(c->arena, inet ? text : "127.0.0.1");
    c->port = inet ? net_addr_port(&remote) : 0;
    if (!proxy.is_local)
        local = proxy.server;
    else if (getsockname(stream_fd(c->stream), &local.any, &local.len) < 0)
        local.any.sa_family = AF_UNSPEC;
    net_addr_unmap(&local);
    net_addr_format(&local, text, sizeof text);
    c->server_address = arena_strdup(c->arena, text);
    c->server_port = net_addr_port(&local);
    c->client = arena_printf(c->arena, "unknown[%s]", c->address);
    net_addr_network(&remote, NET_CLIENT_V4_BITS, NET_CLIENT_V6_BITS, text, sizeof text);
    c->network = inet ? arena_strdup(c->arena, text) : c->address;
    if (!inet)
        c->plaintext_ok = true; /* somebody on this machine */
    else if (match_list_host(c->front->plaintext, slice_from("unknown"), &remote, &c->plaintext_ok, &c->err) < 0)
        log_warning("%s", c->err.text);
    return 0;
}

/* ---- TLS after the login: bytes are passed on. From here the stack is short, for connections that idle ---- */

struct relay {
    struct stream *from, *to;
    usec_t time;
};

/* One direction, until its end or an error; then the other side hears of it. */
static void may_wait
relay_one_way(const struct relay *r)
{
    struct slice bytes;
    struct err err;
    for (;;) {
        stream_set_deadline(r->from, loop_now() + r->time);
        stream_set_deadline(r->to, loop_now() + r->time);
        if (stream_peek(r->from, &bytes, &err) < 0 || stream_write_through(r->to, bytes.ptr, bytes.len, &err) < 0)
            break;
        stream_take(r->from, bytes.len);
    }
}

static void
relay_from_client(void *arg)
{
    const struct relay *r = arg;
    relay_one_way(r);
    shutdown(stream_fd(r->to), SHUT_WR);
}

static void may_wait
relay(struct connection *c)
{
    struct task_group group;
    struct stream *session = stream_new(c->relay_fd);
    bool imap = strcmp(c->front->protocol, "imap") == 0;
    usec_t time = (imap ? c->front->set.imap_idle_timeout : c->front->set.pop3_idle_timeout) + RELAY_GRACE;
    struct relay out = {session, c->stream, time}, in = {c->stream, session, time};
    stream_set_duplex(session, true);
    stream_set_duplex(c->stream, true);
    task_group_init(&group);
    task_spawn(&group, "relay", relay_from_client, &in);
    relay_one_way(&out); /* until the session ends */
    stream_cancel(c->stream);
    task_group_join(&group);
    stream_free(&session);
}

/* ---- the whole ---- */

/* Many slow connections of one client shall not be all that there are: anvil counts those of all processes, and we our own, in case
 * that it can't be asked. */

/* Of all processes; 0: not known. */
static int64_t may_wait
count_all(struct connection *c)
{
    struct msg_anvil message = {.event = "connect", .service = "login", .client = c->network, .amount = 1};
    struct link_message reply;
    if (link_call(c->front->anvil, c->cmd, &type_anvil, &message, slice_make(NULL, 0), NULL, 0, &type_anvil_count,
                  &reply, loop_now() + ANVIL_TIME, &c->err) == 0)
        return ((const struct msg_anvil_count *)reply.message)->count;
    log_warning("anvil service: %s", c->err.text);
    return 0;
}

/* False: it has its share. */
static bool may_wait
client_enters(struct connection *c)
{
    struct map *clients = c->front->clients;
    int64_t limit = c->front->set.login_client_connection_limit;
    uintptr_t count = (uintptr_t)map_get_text(clients, c->network) + 1;
    map_put_text(clients, c->network, (void *)count);
    if (!c->front->anvil)
        return true;
    int64_t all = count_all(c);
    return (int64_t)count <= limit && all <= limit;
}

static void
client_leaves(struct connection *c)
{
    struct map *clients = c->front->clients;
    uintptr_t count = (uintptr_t)map_get_text(clients, c->network);
    struct msg_anvil message = {.event = "disconnect", .service = "login", .client = c->network, .amount = 1};
    if (count > 1)
        map_put_text(clients, c->network, (void *)(count - 1));
    else
        map_remove_text(clients, c->network);
    if (c->front->anvil)
        (void)!link_send(c->front->anvil, &type_anvil, &message, slice_make(NULL, 0), NULL, 0, &c->err);
}

static void may_wait
log_in(struct connection *c)
{
    bool imap = strcmp(c->front->protocol, "imap") == 0;
    if (!client_enters(c)) {
        log_warning("%s: too many connections without a login", c->client);
        if (!c->front->set.login_tls_wrappermode)
            stream_write_text(c->stream, imap ? "* BYE [LIMIT] Too many connections.\r\n"
                                              : "-ERR [SYS/TEMP] Too many connections.\r\n");
    } else if (!c->front->set.login_tls_wrappermode || front_start_tls(c) == 0) {
        if (imap)
            imap_login(c);
        else
            pop3_login(c);
    }
    client_leaves(c);
}

static void may_wait
serve(struct connection *c)
{
    stream_set_deadline(c->stream, loop_now() + c->front->set.login_timeout);
    log_connect(c->client);
    log_in(c);
    arena_free(&c->cmd);
    if (c->relay_fd >= 0) {
        relay(c);
    } else if (c->stream) {
        stream_set_deadline(c->stream, loop_now() + SECONDS(10));
        (void)!stream_flush(c->stream, &c->err);
    }
    log_disconnect(c->client, "");
}

void
front_serve(struct front *front, int fd, const struct net_addr *peer)
{
    struct connection c = {
        .front = front, .stream = stream_new(fd), .arena = arena_new(), .cmd = arena_new(), .relay_fd = -1};
    bool known = find_addresses(&c, peer) == 0;
    if (front->tls_files && file_watch_changed(front->tls_files) && !service_is_ending()) {
        log_restarting("a certificate");
        service_retire();
    }
    if (known)
        serve(&c);
    arena_free(&c.cmd);
    stream_free(&c.stream);
    arena_free(&c.arena);
}

/* ---- TLS and passwords ---- */

bool
front_may_send_password(const struct connection *c)
{
    return stream_is_tls(c->stream) || (c->plaintext_ok && !c->front->needs_tls);
}

bool
front_has_tls(const struct connection *c)
{
    return c->front->tls && !stream_is_tls(c->stream);
}

int
front_start_tls(struct connection *c)
{
    if (stream_start_tls(c->stream, c->front->tls, NULL, &c->err) < 0) {
        log_tls_accept_error(c->client, c->err.text);
        return -1;
    }
    struct tls_info tls;
    stream_tls_info(c->stream, &tls);
    if (tls.peer_has_certificate && tls.peer_is_trusted && *tls.peer_subject)
        c->certificate_name = arena_strdup(c->arena, tls.peer_subject);
    log_tls(!tls.peer_has_certificate ? "Anonymous"
            : tls.peer_is_trusted     ? "Trusted"
                                      : "Untrusted",
            "established from", c->client, &tls);
    return 0;
}

static struct auth_params
params_of(const struct connection *c)
{
    return (struct auth_params){.service = c->front->protocol,
                                .client_address = c->address,
                                .server_address = c->server_address,
                                .client_port = c->port,
                                .server_port = c->server_port,
                                .valid_certificate = c->certificate_name,
                                .certificate_name = c->certificate_name,
                                .secured = stream_is_tls(c->stream) || c->plaintext_ok};
}

int
front_password(struct connection *c, struct slice user, struct slice password, struct auth_step *step)
{
    struct auth_params params = params_of(c);
    return auth_password(c->front->auth, c->cmd, &params, user, password, loop_now() + AUTH_TIME, step, &c->err);
}

/* NULL: the client gives up. */
static int may_wait
ask(struct connection *c, const char *challenge, const char **response)
{
    enum stream_line_end ending;
    struct slice line;
    stream_printf(c->stream, "+ %s\r\n", challenge);
    if (stream_read_line(c->stream, STREAM_IN_SIZE - 2, &line, &ending, &c->err) < 0)
        return -1;
    if (ending == STREAM_LINE_CUT)
        return err_set(&c->err, ERR_CLOSED, "a response without end");
    *response = slice_equal_text(line, "*") ? NULL : arena_strndup(c->cmd, line.ptr, line.len);
    return 0;
}

int
front_authenticate(struct connection *c, const char *mechanism, const char *initial, struct auth_step *step)
{
    struct auth_params params = params_of(c);
    struct auth_exchange *exchange;
    if (auth_begin(c->front->auth, c->cmd, mechanism, &params, initial, loop_now() + AUTH_TIME, &exchange, step,
                   &c->err) < 0)
        return -1;
    while (step->result == AUTH_CONTINUE) {
        const char *response;
        if (ask(c, step->challenge, &response) < 0) {
            auth_abort(&exchange);
            return -1;
        }
        if (!response) {
            auth_abort(&exchange);
            return err_set(&c->err, ERR_SYNTAX, "Authentication aborted by client.");
        }
        if (auth_continue(&exchange, response, loop_now() + AUTH_TIME, step, &c->err) < 0)
            return -1;
    }
    return 0;
}

static bool
is_usable(const struct connection *c, const struct auth_mechanism *m)
{
    if (m->flags & (AUTH_MECH_PRIVATE | AUTH_MECH_NEEDS_BINDING))
        return false;
    if (strcmp(m->name, "EXTERNAL") == 0 && !c->certificate_name)
        return false;
    return !(m->flags & AUTH_MECH_PLAINTEXT) || front_may_send_password(c);
}

static bool may_wait
find_mechanism(struct connection *c, const char *name, const char *prefix, struct buf *out)
{
    const struct auth_mechanism *list;
    unsigned count;
    if (auth_client_mechanisms(c->front->auth, c->cmd, loop_now() + AUTH_TIME, &list, &count, &c->err) < 0) {
        log_warning("%s: %s", c->front->set.login_auth_path, c->err.text);
        return false;
    }
    bool found = false;
    for (unsigned i = 0; i < count; i++) {
        if (!is_usable(c, &list[i]))
            continue;
        if (out)
            buf_printf(out, "%s%s", prefix, list[i].name);
        found = found || (name && strcmp(list[i].name, name) == 0);
    }
    return found;
}

void
front_put_mechanisms(struct connection *c, const char *prefix, struct buf *out)
{
    (void)find_mechanism(c, NULL, prefix, out);
}

bool
front_has_mechanism(struct connection *c, const char *name)
{
    return find_mechanism(c, name, NULL, NULL);
}

bool
front_failed(struct connection *c, const char *mechanism, const struct auth_step *step)
{
    log_warning("%s: SASL %s authentication failed: %s%s%s", c->client, mechanism,
                *step->reason ? step->reason : "authentication failure", *step->user ? ", sasl_username=" : "",
                step->user);
    (void)!task_sleep(FAILURE_PAUSE, &c->err);
    return ++c->failures >= (unsigned)c->front->set.login_failure_limit;
}

/* ---- handing over ---- */

/* Whether the session was taken is not known, and may come about later: then it is the session that answers, so we must not. In clear text both
 * would speak to the client; the connection ends for both. */
static void
end_unanswered(struct connection *c)
{
    shutdown(stream_fd(c->stream), SHUT_RDWR);
    stream_free(&c->stream);
}

int
front_hand_over(struct connection *c, const struct auth_step *step, const char *method, const char *tag)
{
    struct msg_session message = {.ticket = step->ticket,
                                  .tag = tag,
                                  .client_name = "unknown",
                                  .client_address = c->address,
                                  .client_port = c->port,
                                  .server_address = c->server_address,
                                  .method = method,
                                  .secured = stream_is_tls(c->stream)};
    struct link_message reply;
    struct slice input = {"", 0};
    int pair[2] = {-1, -1}, fd = stream_fd(c->stream);
    usec_t patience = c->front->set.login_timeout < HANDOVER_TIME ? c->front->set.login_timeout : HANDOVER_TIME;

    if (!*step->ticket)
        return err_set(&c->err, ERR_TEMP, "the login gave no mailbox");
    if (stream_flush(c->stream, &c->err) < 0)
        return -1;
    if (message.secured) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
            return err_errno(&c->err, "socketpair");
        fd = pair[1];
    } else if (stream_buffered(c->stream) > 0 && stream_peek(c->stream, &input, &c->err) < 0) {
        return -1;
    }
    int result = link_call(c->front->sessions, c->cmd, &type_session, &message, input, &fd, 1, &type_session_taken,
                           &reply, loop_now() + patience, &c->err);
    if (pair[1] >= 0)
        close(pair[1]);
    if (result == 0 && !((const struct msg_session_taken *)reply.message)->taken)
        result = err_set(&c->err, ERR_TEMP, "%s", ((const struct msg_session_taken *)reply.message)->reason);
    if (result < 0) {
        log_warning("%s: session of user %s not started: %s", c->client, step->user, c->err.text);
        if (pair[0] >= 0)
            close(pair[0]);
        if (message.secured || (c->err.kind != ERR_TIMEOUT && c->err.kind != ERR_CLOSED))
            return -1;
        end_unanswered(c);
        return 0;
    }
    log_login(c->client, step->user, method, message.secured ? "TLS" : "plain");
    c->relay_fd = pair[0];
    if (!message.secured)
        stream_free(&c->stream);
    return 0;
}
