/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/auth_client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/auth_protocol.h"
#include "lib/run/crypto.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"

enum { IDLE_MOST = 16, HELLO_LINES = 200, STRAY_LINES = 100, MECHANISMS = 50, LINE = AUTH_LINE_SIZE };

struct connection {
    struct list link; /* among the idle ones */
    struct stream *stream;
    unsigned last_id;
};

struct auth_client {
    char *path;
    struct list idle;
    unsigned idle_count;
    struct auth_mechanism *mechanisms; /* as of the last connection; names are one allocation each */
    unsigned mechanism_count;
    bool known; /* mechanisms are */
};

struct auth_exchange {
    struct auth_client *client;
    struct connection *connection;
    struct arena *arena;
    unsigned id;
};

void
auth_wipe(void *memory, size_t size)
{
    crypto_wipe(memory, size);
}

/* ---- the client ---- */

struct auth_client *
auth_client_new(const char *path)
{
    struct auth_client *client = calloc(1, sizeof *client);

    if (client)
        client->path = strdup(path);
    if (!client || !client->path)
        fatal("out of memory");
    list_init(&client->idle);
    return client;
}

static void
forget_mechanisms(struct auth_client *client)
{
    for (unsigned i = 0; i < client->mechanism_count; i++)
        free((char *)(uintptr_t)client->mechanisms[i].name);
    free(client->mechanisms);
    client->mechanisms = NULL;
    client->mechanism_count = 0;
}

static void
drop(struct connection *connection)
{
    stream_free(&connection->stream);
    free(connection);
}

void
auth_client_free(struct auth_client **at)
{
    struct auth_client *client = *at;
    struct list *link;

    if (!client)
        return;
    while ((link = list_pop(&client->idle)))
        drop(LIST_ENTRY(link, struct connection, link));
    forget_mechanisms(client);
    free(client->path);
    free(client);
    *at = NULL;
}

/* ---- connecting ---- */

static int
find_address(const char *path, struct net_addr *addr, struct err *err)
{
    unsigned long long port;

    if (strncmp(path, "inet:", 5) != 0)
        return net_addr_unix(strncmp(path, "unix:", 5) == 0 ? path + 5 : path, addr, err);
    const char *host = path + 5, *colon = strrchr(host, ':');
    char text[INET6_ADDRSTRLEN + 2];
    size_t len = colon ? (size_t)(colon - host) : 0;
    if (!colon || slice_to_u64(slice_from(colon + 1), 65535, &port) < 0 || len >= sizeof text)
        return err_set(err, ERR_SYNTAX, "%s: inet:address:port is expected", path);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    memcpy(text, host, len);
    text[len] = '\0';
    return net_addr_parse(text, (unsigned)port, addr, err);
}

static void
add_mechanism(struct auth_client *client, struct slice rest)
{
    static const struct {
        const char *word;
        unsigned flag;
    } words[] = {{"anonymous", AUTH_MECH_ANONYMOUS},
                 {"plaintext", AUTH_MECH_PLAINTEXT},
                 {"dictionary", AUTH_MECH_DICTIONARY},
                 {"active", AUTH_MECH_ACTIVE},
                 {"forward-secrecy", AUTH_MECH_FORWARD_SECRECY},
                 {"mutual-auth", AUTH_MECH_MUTUAL},
                 {"private", AUTH_MECH_PRIVATE},
                 {"channel-binding", AUTH_MECH_NEEDS_BINDING}};
    struct auth_mechanism *more, mechanism = {0};
    struct slice word;

    if (client->mechanism_count >= MECHANISMS || !slice_cut(&rest, '\t', &word) || word.len == 0)
        return;
    char *name = strndup(word.ptr, word.len);
    more = realloc(client->mechanisms, (client->mechanism_count + 1) * sizeof *more);
    if (!name || !more)
        fatal("out of memory");
    mechanism.name = name;
    while (slice_cut(&rest, '\t', &word))
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (slice_equal_text(word, words[i].word))
                mechanism.flags |= words[i].flag;
    more[client->mechanism_count++] = mechanism;
    client->mechanisms = more;
}

static int may_wait
read_line(struct connection *connection, struct slice *line, struct err *err)
{
    enum stream_line_end ending;

    if (stream_read_line(connection->stream, LINE, line, &ending, err) < 0)
        return -1;
    if (ending == STREAM_LINE_CUT || memchr(line->ptr, '\0', line->len))
        return err_set(err, ERR_SYNTAX, "malformed line from the server");
    return 0;
}

/* What the server tells before the first request: its version, its mechanisms. */
static int may_wait
read_hello(struct auth_client *client, struct connection *connection, struct err *err)
{
    struct slice line, word, major;
    bool version = false;

    forget_mechanisms(client);
    for (unsigned lines = 0; lines < HELLO_LINES; lines++) {
        if (read_line(connection, &line, err) < 0)
            return -1;
        slice_cut(&line, '\t', &word);
        if (slice_equal_text(word, "VERSION")) {
            if (!slice_cut(&line, '\t', &major) || !slice_equal_text(major, "1"))
                return err_set(err, ERR_SYNTAX, "the server speaks another version of the protocol");
            version = true;
        } else if (slice_equal_text(word, "MECH")) {
            add_mechanism(client, line);
        } else if (slice_equal_text(word, "DONE")) {
            client->known = version;
            return version ? 0 : err_set(err, ERR_SYNTAX, "the server does not tell its version");
        }
    }
    return err_set(err, ERR_SYNTAX, "the server's greeting has no end");
}

static struct connection *may_wait
connect_now(struct auth_client *client, usec_t deadline, struct err *err)
{
    struct connection *connection;
    struct net_addr addr;

    if (find_address(client->path, &addr, err) < 0)
        return NULL;
    int fd = net_connect(&addr, NULL, deadline, err);
    if (fd < 0)
        return NULL;
    connection = calloc(1, sizeof *connection);
    if (!connection)
        fatal("out of memory");
    connection->stream = stream_new(fd);
    stream_set_deadline(connection->stream, deadline);
    stream_printf(connection->stream, "VERSION\t1\t1\nCPID\t%d\n", (int)getpid());
    if (read_hello(client, connection, err) == 0)
        return connection;
    drop(connection);
    return NULL;
}

static struct connection *may_wait
take(struct auth_client *client, usec_t deadline, struct err *err)
{
    struct list *link;

    while ((link = list_pop(&client->idle))) {
        struct connection *connection = LIST_ENTRY(link, struct connection, link);
        client->idle_count--;
        if (stream_is_idle_alive(connection->stream))
            return connection;
        drop(connection);
    }
    struct connection *connection = connect_now(client, deadline, err);
    if (!connection)
        err_context(err, "SASL authentication server %s", client->path);
    return connection;
}

static void
give_back(struct auth_client *client, struct connection *connection)
{
    if (client->idle_count >= IDLE_MOST) {
        drop(connection);
        return;
    }
    list_prepend(&client->idle, &connection->link);
    client->idle_count++;
}

int may_wait
auth_client_mechanisms(struct auth_client *client, struct arena *arena, usec_t deadline,
                       const struct auth_mechanism **mechanisms, unsigned *count, struct err *err)
{
    if (!client->known) {
        struct connection *connection = take(client, deadline, err);
        if (!connection)
            return -1;
        give_back(client, connection);
    }
    struct auth_mechanism *copy = arena_array(arena, client->mechanism_count, sizeof *copy);
    for (unsigned i = 0; i < client->mechanism_count; i++)
        copy[i] = (struct auth_mechanism){.name = arena_strdup(arena, client->mechanisms[i].name),
                                          .flags = client->mechanisms[i].flags};
    *mechanisms = copy;
    *count = client->mechanism_count;
    return 0;
}

/* ---- an exchange ---- */

static void
add(struct buf *out, const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    buf_printf(out, "\t%s=", name);
    auth_escape(slice_from(value), out);
}

static void
add_port(struct buf *out, const char *name, unsigned port)
{
    if (port)
        buf_printf(out, "\t%s=%u", name, port);
}

static void
make_request(struct buf *out, unsigned id, const char *mechanism, const struct auth_params *params,
             const char *response)
{
    buf_printf(out, "AUTH\t%u\t%s\tservice=%s\tnologin", id, mechanism, params->service);
    add(out, "lip", params->server_address);
    add(out, "rip", params->client_address);
    add_port(out, "lport", params->server_port);
    add_port(out, "rport", params->client_port);
    add(out, "local_name", params->client_name);
    add(out, "session", params->session);
    if (params->secured)
        buf_append_text(out, "\tsecured");
    if (params->valid_certificate) {
        buf_append_text(out, "\tvalid-client-cert");
        add(out, "cert_username", params->certificate_name);
    }
    add(out, "tls_exporter", params->channel_binding);
    if (response)
        buf_printf(out, "\tresp=%s", response); /* the last, by the protocol */
    buf_append_byte(out, '\n');
}

/* A parameter of an answer, unescaped; "" if it is not there. */
static const char *
find_field(struct arena *arena, struct slice fields, const char *name)
{
    size_t length = strlen(name);
    struct buf text = {0};
    struct slice field;

    while (slice_cut(&fields, '\t', &field)) {
        if (field.len <= length || field.ptr[length] != '=' || memcmp(field.ptr, name, length) != 0)
            continue;
        auth_unescape(slice_make(field.ptr + length + 1, field.len - length - 1), &text);
        const char *value = arena_strndup(arena, text.ptr ? text.ptr : "", text.len);
        buf_release(&text);
        return value;
    }
    return "";
}

static bool
has_word(struct slice fields, const char *word)
{
    struct slice field;

    while (slice_cut(&fields, '\t', &field))
        if (slice_equal_text(field, word))
            return true;
    return false;
}

static void
read_failure(struct arena *arena, struct slice fields, struct auth_step *step)
{
    const char *code = find_field(arena, fields, "code");

    step->result = has_word(fields, "temp") || strcmp(code, "temp_fail") == 0 ? AUTH_TEMP : AUTH_FAILED;
    step->user = find_field(arena, fields, "user");
    step->reason = find_field(arena, fields, "reason");
    step->disabled = has_word(fields, "user_disabled") || strcmp(code, "user_disabled") == 0;
    step->expired = has_word(fields, "pass_expired") || strcmp(code, "pass_expired") == 0;
}

/* 1: the line was the answer; 0: it concerns somebody else; -1: nonsense. */
static int
read_answer(struct auth_exchange *exchange, struct slice line, struct auth_step *step, struct err *err)
{
    struct slice command, id_text;
    unsigned long long id;

    slice_cut(&line, '\t', &command);
    if (!slice_equal_text(command, "OK") && !slice_equal_text(command, "FAIL") && !slice_equal_text(command, "CONT"))
        return 0;
    slice_cut(&line, '\t', &id_text);
    if (slice_to_u64(id_text, UINT32_MAX, &id) < 0)
        return err_set(err, ERR_SYNTAX, "malformed answer from the server");
    if (id != exchange->id)
        return 0; /* to a request that was given up */
    *step = (struct auth_step){.challenge = "", .user = "", .reason = "", .ticket = ""};
    if (slice_equal_text(command, "CONT")) {
        step->result = AUTH_CONTINUE;
        step->challenge = arena_strndup(exchange->arena, line.ptr ? line.ptr : "", line.len);
    } else if (slice_equal_text(command, "OK")) {
        step->result = AUTH_OK;
        step->user = find_field(exchange->arena, line, "user");
        step->ticket = find_field(exchange->arena, line, "ticket");
        if (!step->user[0])
            return err_set(err, ERR_SYNTAX, "the server does not say who has logged in");
    } else {
        read_failure(exchange->arena, line, step);
    }
    return 1;
}

static void
end_exchange(struct auth_exchange **at, bool good)
{
    struct auth_exchange *exchange = *at;

    *at = NULL;
    if (good)
        give_back(exchange->client, exchange->connection);
    else
        drop(exchange->connection);
    free(exchange);
}

/* Sends the request and waits for its answer. Ends the exchange unless it goes on. */
static int may_wait
ask(struct auth_exchange **at, struct buf *request, usec_t deadline, struct auth_step *step, struct err *err)
{
    struct auth_exchange *exchange = *at;
    struct connection *connection = exchange->connection;
    struct slice line;
    int result = 0;

    stream_set_deadline(connection->stream, deadline);
    stream_write(connection->stream, request->ptr, request->len);
    crypto_wipe(request->ptr, request->len);
    buf_release(request);
    for (unsigned lines = 0; result == 0; lines++) {
        if (lines > STRAY_LINES)
            result = err_set(err, ERR_SYNTAX, "no answer among many lines");
        else
            result = read_line(connection, &line, err);
        if (result == 0)
            result = read_answer(exchange, line, step, err);
    }
    if (result < 0)
        err_context(err, "SASL authentication server %s", exchange->client->path);
    if (result < 0 || step->result != AUTH_CONTINUE)
        end_exchange(at, result > 0);
    return result < 0 ? -1 : 0;
}

/* Base64 has none of the bytes that would begin another field or line. */
static bool
is_clean(const char *text)
{
    return text[strcspn(text, "\t\n\r\001")] == '\0' && strlen(text) < LINE / 2;
}

int may_wait
auth_begin(struct auth_client *client, struct arena *arena, const char *mechanism, const struct auth_params *params,
           const char *response, usec_t deadline, struct auth_exchange **at, struct auth_step *step, struct err *err)
{
    struct buf request = {0};

    *at = NULL;
    if (!is_clean(mechanism) || (response && !is_clean(response)))
        return err_set(err, ERR_SYNTAX, "malformed response");
    struct connection *connection = take(client, deadline, err);
    if (!connection)
        return -1;
    struct auth_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        fatal("out of memory");
    *exchange =
        (struct auth_exchange){.client = client, .connection = connection, .arena = arena, .id = ++connection->last_id};
    *at = exchange;
    make_request(&request, exchange->id, mechanism, params, response);
    return ask(at, &request, deadline, step, err);
}

int may_wait
auth_continue(struct auth_exchange **at, const char *response, usec_t deadline, struct auth_step *step, struct err *err)
{
    struct buf request = {0};

    if (!is_clean(response)) {
        auth_abort(at);
        return err_set(err, ERR_SYNTAX, "malformed response");
    }
    buf_printf(&request, "CONT\t%u\t%s\n", (*at)->id, response);
    return ask(at, &request, deadline, step, err);
}

void
auth_abort(struct auth_exchange **at)
{
    /* Not every server knows CANCEL; the end of the connection says the same. */
    if (*at)
        end_exchange(at, false);
}

int may_wait
auth_password(struct auth_client *client, struct arena *arena, const struct auth_params *params, struct slice user,
              struct slice password, usec_t deadline, struct auth_step *step, struct err *err)
{
    struct buf plain = {0}, encoded = {0};
    struct auth_exchange *exchange;

    *step = (struct auth_step){.result = AUTH_FAILED, .challenge = "", .user = "", .reason = "", .ticket = ""};
    if (user.len == 0 || slice_has_byte(user, '\0') || slice_has_byte(password, '\0') ||
        user.len + password.len > LINE / 4)
        return 0;
    buf_reserve(&plain, user.len + password.len + 2);
    buf_reserve(&encoded, (user.len + password.len + 2) * 4 / 3 + 8);
    buf_append_byte(&plain, '\0');
    buf_append_slice(&plain, user);
    buf_append_byte(&plain, '\0');
    buf_append_slice(&plain, password);
    crypto_base64_encode(buf_slice(&plain), &encoded);
    int result = auth_begin(client, arena, "PLAIN", params, buf_text(&encoded), deadline, &exchange, step, err);
    crypto_wipe(plain.ptr, plain.len);
    crypto_wipe(encoded.ptr, encoded.len);
    buf_release(&plain);
    buf_release(&encoded);
    if (exchange) {
        auth_abort(&exchange);
        return err_set(err, ERR_SYNTAX, "the server wants more than PLAIN has");
    }
    return result;
}
