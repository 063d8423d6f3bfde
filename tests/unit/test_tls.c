/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/{tls,stream_tls}: the switch in mid-connection and what came before it, every split of the wire, endings,
 * verification, settings. Certificates are made here. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"
#include "lib/run/stream_private.h"
#include "lib/run/task.h"
#include "lib/run/tls.h"

/* --- certificates ---------------------------------------------------------------------------------------------- */

static char directory[] = "/tmp/test_tls.XXXXXX";
static char cert_file[100], key_file[100], other_key_file[100];

static void
add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void
write_pem(const char *path, X509 *cert, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(cert ? PEM_write_X509(file, cert) : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
}

/* Self-signed, for mail.example, its own trust anchor. */
static void
make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    assert_non_null(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
                               0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    add_extension(cert, NID_subject_alt_name, "DNS:mail.example,DNS:*.wild.example,IP:192.0.2.1");
    add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_pem(cert_file, cert, NULL);
    X509_free(cert);
}

static int
group_setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(cert_file, sizeof(cert_file), "%s/cert.pem", directory);
    snprintf(key_file, sizeof(key_file), "%s/key.pem", directory);
    snprintf(other_key_file, sizeof(other_key_file), "%s/other.pem", directory);
    EVP_PKEY *key = EVP_RSA_gen(2048), *other = EVP_EC_gen("P-256");
    assert_true(key && other);
    make_certificate(key);
    write_pem(key_file, NULL, key);
    write_pem(other_key_file, NULL, other);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    unlink(cert_file);
    unlink(key_file);
    unlink(other_key_file);
    rmdir(directory);
    return 0;
}

static struct tls_context *server_context, *client_context;

static struct tls_context *
make_context(struct tls_settings settings)
{
    struct err err;
    struct tls_context *context = tls_context_new(&settings, &err);
    if (!context)
        fail_msg("%s", err.text);
    return context;
}

static int
setup(void **state)
{
    (void)state;
    loop_init();
    server_context = make_context((struct tls_settings){
        .role = TLS_SERVER, .cert_file = cert_file, .key_file = key_file, .session_tickets = true});
    client_context = make_context((struct tls_settings){.role = TLS_CLIENT, .ca_file = cert_file});
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    tls_context_free(&server_context);
    tls_context_free(&client_context);
    loop_release();
    return 0;
}

/* --- both ends ------------------------------------------------------------------------------------------------- */

struct end {
    struct stream *s;
    struct tls_context *context;
    const char *name;
    int status;
    struct err err;
};

static void
start_tls(void *arg)
{
    struct end *end = arg;
    end->status = stream_start_tls(end->s, end->context, end->name, &end->err);
}

static struct stream *
stream_on(int fd)
{
    struct stream *s = stream_new(fd);
    stream_set_deadline(s, loop_now() + SECONDS(20));
    return s;
}

static void
open_ends(struct end *server, struct end *client)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *server = (struct end){.s = stream_on(fds[0]), .context = server_context};
    *client = (struct end){.s = stream_on(fds[1]), .context = client_context};
}

static void
handshake_both(struct end *server, struct end *client)
{
    struct task_group group;
    task_group_init(&group);
    task_spawn(&group, "server", start_tls, server);
    task_spawn(&group, "client", start_tls, client);
    task_group_join(&group);
}

static void
must_shake_hands(struct end *server, struct end *client)
{
    handshake_both(server, client);
    if (server->status < 0 || client->status < 0)
        fail_msg("server: %s; client: %s", server->status < 0 ? server->err.text : "ok",
                 client->status < 0 ? client->err.text : "ok");
}

static void
close_ends(struct end *server, struct end *client)
{
    stream_free(&server->s);
    stream_free(&client->s);
}

static void
expect_line(struct stream *s, const char *want)
{
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    if (stream_read_line(s, 1000, &line, &ending, &err) < 0)
        fail_msg("%s", err.text);
    if (!slice_equal_text(line, want))
        fail_msg("got %.*s, want %s", SLICE_ARG(line), want);
}

static void
talk_body(void *arg)
{
    struct end server, client;
    struct err err;
    struct tls_info info;
    (void)arg;
    open_ends(&server, &client);
    client.name = "mail.example";
    must_shake_hands(&server, &client);
    stream_write_text(client.s, "one\r\ntwo\r\n");
    assert_int_equal(stream_flush(client.s, &err), 0);
    expect_line(server.s, "one");
    assert_true(stream_has_input(server.s));
    expect_line(server.s, "two");
    assert_false(stream_has_input(server.s));
    stream_write_text(server.s, "250 fine\r\n");
    assert_int_equal(stream_flush(server.s, &err), 0);
    expect_line(client.s, "250 fine");
    assert_true(stream_is_idle_alive(client.s)); /* session tickets are nothing unasked */

    stream_tls_info(server.s, &info);
    assert_string_equal(info.protocol, "TLSv1.3");
    assert_string_equal(info.cipher, "TLS_AES_256_GCM_SHA384");
    assert_int_equal(info.used_bits, 256);
    assert_int_equal(info.algorithm_bits, 256);
    assert_string_equal(info.key_exchange, "X25519");
    assert_string_equal(info.signature, "RSA-PSS (2048 bits)");
    assert_string_equal(info.digest, "SHA256");
    assert_false(info.peer_has_certificate);
    stream_tls_info(client.s, &info);
    assert_string_equal(info.signature, "RSA-PSS (2048 bits)");
    assert_string_equal(info.digest, "SHA256");
    assert_true(info.peer_has_certificate && info.peer_is_trusted && info.peer_name_matches);
    close_ends(&server, &client);
}

static void
lines_through_tls(void **state)
{
    (void)state;
    task_run_main(talk_body, NULL);
}

/* --- the wire in pieces ---------------------------------------------------------------------------------------- */

struct proxy {
    int from, to;
    size_t piece;
    struct task_fd tfd;
};

static void
forward(void *arg)
{
    struct proxy *proxy = arg;
    char bytes[2048];
    struct err err;
    ssize_t n;
    task_fd_init(&proxy->tfd, proxy->from);
    while ((n = read(proxy->from, bytes, sizeof(bytes))) != 0) {
        if (n < 0 && errno != EAGAIN)
            break;
        if (n < 0 && task_fd_wait_read(&proxy->tfd, NO_DEADLINE, &err) < 0)
            break;
        for (ssize_t at = 0; at < n; at += (ssize_t)proxy->piece) {
            size_t part = (size_t)(n - at) < proxy->piece ? (size_t)(n - at) : proxy->piece;
            if (write(proxy->to, bytes + at, part) < 0)
                break;
            if (task_yield(&err) < 0)
                break;
        }
    }
    task_fd_release(&proxy->tfd);
    shutdown(proxy->to, SHUT_WR);
}

static void
talk_through_pieces(size_t piece)
{
    int left[2], right[2];
    struct proxy there = {.piece = piece}, back = {.piece = piece};
    struct task_group proxies;
    struct err err;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, left), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, right), 0);
    there.from = back.to = left[1];
    there.to = back.from = right[1];
    struct end client = {.s = stream_on(left[0]), .context = client_context};
    struct end server = {.s = stream_on(right[0]), .context = server_context};
    task_group_init(&proxies);
    task_spawn(&proxies, "there", forward, &there);
    task_spawn(&proxies, "back", forward, &back);
    must_shake_hands(&server, &client);
    stream_write_text(client.s, "line\r\nhalf a ");
    assert_int_equal(stream_flush(client.s, &err), 0);
    expect_line(server.s, "line");
    stream_write_text(client.s, "line\r\n");
    assert_int_equal(stream_flush(client.s, &err), 0);
    expect_line(server.s, "half a line");
    stream_write_text(server.s, "answer\r\n");
    assert_int_equal(stream_flush(server.s, &err), 0);
    expect_line(client.s, "answer");
    close_ends(&server, &client);
    task_group_join(&proxies);
    close(left[1]);
    close(right[1]);
}

static void
pieces_body(void *arg)
{
    (void)arg;
    for (size_t piece = 1; piece < 40; piece++)
        talk_through_pieces(piece);
    talk_through_pieces(1000);
}

static void
every_split_of_the_wire(void **state)
{
    (void)state;
    task_run_main(pieces_body, NULL);
}

struct blast {
    struct stream *s;
    const char *bytes;
    size_t len;
};

static void
send_blast(void *arg)
{
    struct blast *blast = arg;
    struct err err;
    assert_int_equal(stream_write_through(blast->s, blast->bytes, blast->len, &err), 0);
}

static void
large_body(void *arg)
{
    enum { SIZE = 3 << 20 };
    struct end server, client;
    struct task_group group;
    struct err err;
    char *sent = malloc(SIZE), *got = malloc(SIZE);
    (void)arg;
    assert_true(sent && got);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (char)(i * 7 + i / 4093);
    open_ends(&server, &client);
    must_shake_hands(&server, &client);
    struct blast blast = {.s = client.s, .bytes = sent, .len = SIZE};
    stream_write_text(client.s, "BDAT\r\n");
    task_group_init(&group);
    task_spawn(&group, "sender", send_blast, &blast);
    expect_line(server.s, "BDAT");
    assert_int_equal(stream_read(server.s, got, SIZE, &err), 0);
    assert_memory_equal(sent, got, SIZE);
    task_group_join(&group);
    assert_null(server.s->wire.base);
    close_ends(&server, &client);
    free(sent);
    free(got);
}

static void
large_blocks(void **state)
{
    (void)state;
    task_run_main(large_body, NULL);
}

/* In bulk a look shows many records, and all bytes come in their order up to the end. */
static void
bulk_body(void *arg)
{
    enum { SIZE = 3 << 20 };
    struct end server, client;
    struct task_group group;
    struct slice bytes;
    struct err err;
    char *sent = malloc(SIZE);
    size_t at = 0, most = 0;
    (void)arg;
    assert_non_null(sent);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (char)(i * 7 + i / 4093);
    open_ends(&server, &client);
    must_shake_hands(&server, &client);
    struct blast blast = {.s = client.s, .bytes = sent, .len = SIZE};
    task_group_init(&group);
    task_spawn(&group, "sender", send_blast, &blast);
    stream_set_bulk(server.s, true);
    while (at < SIZE) {
        assert_int_equal(stream_peek(server.s, &bytes, &err), 0);
        assert_true(bytes.len <= SIZE - at && bytes.len <= STREAM_BULK_SIZE);
        assert_memory_equal(bytes.ptr, sent + at, bytes.len);
        most = bytes.len > most ? bytes.len : most;
        at += bytes.len;
        stream_take(server.s, bytes.len);
    }
    assert_true(most > STREAM_IN_SIZE);
    task_group_join(&group);
    stream_free(&client.s);
    assert_int_equal(stream_peek(server.s, &bytes, &err), -1);
    assert_int_equal(err.kind, ERR_CLOSED);
    stream_free(&server.s);
    free(sent);
}

static void
bulk_shows_many_records(void **state)
{
    (void)state;
    task_run_main(bulk_body, NULL);
}

/* --- what came before the switch ------------------------------------------------------------------------------- */

/* One who injects sends more than STARTTLS in clear text, in the same packet or just behind it; then the handshake comes
 * from the victim. */
static void
inject(struct end *server, struct end *client, bool same_packet)
{
    static const char command[] = "STARTTLS\r\n", injected[] = "RSET\r\nMAIL FROM:<evil@example>\r\nNOO";
    struct err err;
    stream_write_text(client->s, command);
    if (same_packet)
        stream_write_text(client->s, injected);
    assert_int_equal(stream_flush(client->s, &err), 0);
    expect_line(server->s, "STARTTLS");
    stream_write_text(server->s, "220 go ahead\r\n");
    if (!same_packet) {
        stream_write_text(client->s, injected);
        assert_int_equal(stream_flush(client->s, &err), 0);
    }
}

static void
client_after_reply(void *arg)
{
    struct end *end = arg;
    expect_line(end->s, "220 go ahead");
    start_tls(end);
}

static void
injected_commands_body(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct end server, client;
        struct task_group group;
        struct err err;
        open_ends(&server, &client);
        inject(&server, &client, i == 0);
        task_group_init(&group);
        task_spawn(&group, "server", start_tls, &server);
        task_spawn(&group, "client", client_after_reply, &client);
        task_group_join(&group);
        assert_int_equal(server.status, 0);
        assert_int_equal(client.status, 0);
        assert_int_equal(stream_buffered(server.s), 0);
        stream_write_text(client.s, "EHLO good\r\n");
        assert_int_equal(stream_flush(client.s, &err), 0);
        expect_line(server.s, "EHLO good");
        close_ends(&server, &client);
    }
}

static void
injected_commands_are_thrown_away(void **state)
{
    (void)state;
    task_run_main(injected_commands_body, NULL);
}

static void
injected_replies_body(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct end server, client;
        struct err err;
        open_ends(&server, &client);
        stream_write_text(server.s, i ? "220 go\r\n250-evil\r\n250 AU" : "220 go\r\n");
        assert_int_equal(stream_flush(server.s, &err), 0);
        expect_line(client.s, "220 go");
        stream_write_text(server.s, "250-evil\r\n250 AUTH PLAIN\r\n");
        assert_int_equal(stream_flush(server.s, &err), 0);
        must_shake_hands(&server, &client);
        stream_write_text(server.s, "250 good\r\n");
        assert_int_equal(stream_flush(server.s, &err), 0);
        expect_line(client.s, "250 good");
        close_ends(&server, &client);
    }
}

static void
injected_replies_are_thrown_away(void **state)
{
    (void)state;
    task_run_main(injected_replies_body, NULL);
}

/* --- endings --------------------------------------------------------------------------------------------------- */

static void
expect_failure(struct stream *s, enum err_kind kind)
{
    struct slice line;
    enum stream_line_end ending;
    struct err err;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stream_read_line(s, 1000, &line, &ending, &err), -1);
        assert_int_equal(err.kind, kind);
    }
    stream_write_text(s, "more");
    assert_int_equal(stream_flush(s, &err), -1);
}

/* close_notify in the middle of a command, then clear text on the same connection: none of it is read. */
static void
clear_text_after_end_body(void *arg)
{
    struct end server, client;
    struct err err;
    (void)arg;
    open_ends(&server, &client);
    must_shake_hands(&server, &client);
    stream_write_text(client.s, "BDAT 1000\r\nhalf");
    assert_int_equal(stream_flush(client.s, &err), 0);
    client.s->layer->shutdown(client.s);
    assert_int_equal(stream_send_all(client.s, &client.s->wire, &err), 0);
    assert_int_equal(write(stream_fd(client.s), "\r\nRSET\r\nQUIT\r\n", 14), 14);
    expect_line(server.s, "BDAT 1000");
    expect_failure(server.s, ERR_CLOSED);
    close_ends(&server, &client);
}

static void
nothing_is_read_as_clear_text_after_the_end(void **state)
{
    (void)state;
    task_run_main(clear_text_after_end_body, NULL);
}

static void
clear_text_inside_body(void *arg)
{
    struct end server, client;
    (void)arg;
    open_ends(&server, &client);
    must_shake_hands(&server, &client);
    assert_int_equal(write(stream_fd(client.s), "MAIL FROM:<a@b.example> and so on\r\n", 35), 35);
    expect_failure(server.s, ERR_TEMP);
    close_ends(&server, &client);
}

static void
clear_text_inside_ends_it(void **state)
{
    (void)state;
    task_run_main(clear_text_inside_body, NULL);
}

static void
abrupt_end_body(void *arg)
{
    struct end server, client;
    (void)arg;
    open_ends(&server, &client);
    must_shake_hands(&server, &client);
    shutdown(stream_fd(client.s), SHUT_RDWR);
    expect_failure(server.s, ERR_CLOSED);
    close_ends(&server, &client);
}

static void
an_abrupt_end_is_an_end(void **state)
{
    (void)state;
    task_run_main(abrupt_end_body, NULL);
}

static void
bad_handshakes_body(void *arg)
{
    static const struct {
        const char *bytes; /* NULL: silence */
        bool end;
        enum err_kind want;
    } rows[] = {
        {"GET / HTTP/1.0\r\n\r\n", false, ERR_TEMP},
        {"EHLO not a handshake\r\n", false, ERR_TEMP},
        {"\x16\x03\x01\x40", true, ERR_CLOSED},
        {"\x16\x03\x01\xff\xff nonsense nonsense", false, ERR_TEMP},
        {"", true, ERR_CLOSED},
        {NULL, false, ERR_TIMEOUT},
        {"\x16\x03", false, ERR_TIMEOUT},
    };
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct end server, client;
        open_ends(&server, &client);
        stream_set_deadline(server.s, loop_now() + 30000);
        if (rows[i].bytes)
            assert_true(write(stream_fd(client.s), rows[i].bytes, strlen(rows[i].bytes)) >= 0);
        if (rows[i].end)
            shutdown(stream_fd(client.s), SHUT_WR);
        start_tls(&server);
        assert_int_equal(server.status, -1);
        if (server.err.kind != rows[i].want)
            fail_msg("row %zu: %s", i, server.err.text);
        expect_failure(server.s, rows[i].want);
        close_ends(&server, &client);
    }
}

static void
bad_handshakes_end_the_stream(void **state)
{
    (void)state;
    task_run_main(bad_handshakes_body, NULL);
}

/* --- settings -------------------------------------------------------------------------------------------------- */

static void
verification_body(void *arg)
{
    static const struct {
        const char *name;
        bool trust, want;
    } rows[] = {
        {"mail.example", true, true},      {"MAIL.example", true, true},   {"other.example", true, false},
        {"a.wild.example", true, true},    {"192.0.2.1", true, true},      {"192.0.2.2", true, false},
        {"a.b.wild.example", true, false}, {"mail.example", false, false},
    };
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct end server, client;
        struct tls_info info;
        struct tls_context *strict = make_context((struct tls_settings){
            .role = TLS_CLIENT, .ca_file = rows[i].trust ? cert_file : NULL, .verify_peer = true});
        struct tls_context *lax =
            make_context((struct tls_settings){.role = TLS_CLIENT, .ca_file = rows[i].trust ? cert_file : NULL});
        open_ends(&server, &client);
        client.name = rows[i].name;
        client.context = strict;
        handshake_both(&server, &client);
        if ((client.status == 0) != rows[i].want)
            fail_msg("%s: %s", rows[i].name, client.status < 0 ? client.err.text : "accepted");
        close_ends(&server, &client);
        tls_context_free(&strict);

        open_ends(&server, &client);
        client.name = rows[i].name;
        client.context = lax;
        must_shake_hands(&server, &client);
        tls_context_free(&lax); /* the stream has what it needs */
        stream_tls_info(client.s, &info);
        assert_int_equal(info.peer_is_trusted, rows[i].trust);
        assert_int_equal(info.peer_is_trusted && info.peer_name_matches, rows[i].want);
        close_ends(&server, &client);
    }
}

static void
certificates_are_verified(void **state)
{
    (void)state;
    task_run_main(verification_body, NULL);
}

static void
client_certificate_body(void *arg)
{
    struct end server, client;
    struct tls_info info;
    (void)arg;
    struct tls_context *asking = make_context((struct tls_settings){
        .role = TLS_SERVER, .cert_file = cert_file, .key_file = key_file, .ca_file = cert_file, .verify_peer = true});
    struct tls_context *known =
        make_context((struct tls_settings){.role = TLS_CLIENT, .cert_file = cert_file, .key_file = key_file});
    for (int i = 0; i < 2; i++) {
        open_ends(&server, &client);
        server.context = asking;
        client.context = i ? known : client_context;
        must_shake_hands(&server, &client);
        stream_tls_info(server.s, &info);
        assert_int_equal(info.peer_has_certificate, i);
        assert_int_equal(info.peer_is_trusted, i);
        close_ends(&server, &client);
    }
    tls_context_free(&asking);
    tls_context_free(&known);
}

static void
a_server_may_ask_for_a_certificate(void **state)
{
    (void)state;
    task_run_main(client_certificate_body, NULL);
}

static void
protocols_body(void *arg)
{
    static const struct {
        const char *server, *client, *want; /* NULL: no handshake */
    } rows[] = {
        {">=TLSv1.2", "", "TLSv1.3"},     {">=TLSv1.2", "<=TLSv1.2", "TLSv1.2"},
        {"!TLSv1.3", "", "TLSv1.2"},      {"!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", "!SSLv2 !SSLv3", "TLSv1.3"},
        {"TLSv1.2", "", "TLSv1.2"},       {"TLSv1.2 TLSv1.3", "", "TLSv1.3"},
        {">=TLSv1.3", "<=TLSv1.2", NULL}, {">=0304", "", "TLSv1.3"},
        {"<=0x0303", "", "TLSv1.2"},      {">=", "", "TLSv1.3"},
    };
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct end server, client;
        struct tls_info info;
        open_ends(&server, &client);
        server.context = make_context((struct tls_settings){
            .role = TLS_SERVER, .cert_file = cert_file, .key_file = key_file, .protocols = rows[i].server});
        client.context = make_context((struct tls_settings){.role = TLS_CLIENT, .protocols = rows[i].client});
        handshake_both(&server, &client);
        assert_int_equal(client.status, rows[i].want ? 0 : -1);
        if (rows[i].want) {
            stream_tls_info(client.s, &info);
            assert_string_equal(info.protocol, rows[i].want);
        }
        close_ends(&server, &client);
        tls_context_free(&server.context);
        tls_context_free(&client.context);
    }
}

static void
protocol_settings(void **state)
{
    (void)state;
    task_run_main(protocols_body, NULL);
}

static void
groups_body(void *arg)
{
    struct end server, client;
    struct tls_info info;

    (void)arg;
    open_ends(&server, &client);
    server.context = make_context((struct tls_settings){
        .role = TLS_SERVER, .cert_file = cert_file, .key_file = key_file, .options = "no_ticket 0x0", .groups = "secp384r1"});
    client.context = make_context((struct tls_settings){.role = TLS_CLIENT, .groups = "X25519, no-such-curve secp384r1"});
    handshake_both(&server, &client);
    assert_int_equal(client.status, 0);
    stream_tls_info(client.s, &info);
    assert_non_null(strstr(info.key_exchange, "384"));
    close_ends(&server, &client);
    tls_context_free(&server.context);
    tls_context_free(&client.context);
}

static void
groups_are_those_that_both_allow(void **state)
{
    (void)state;
    task_run_main(groups_body, NULL);
}

static void
bad_settings_are_refused(void **state)
{
    const struct tls_settings rows[] = {
        {.role = TLS_SERVER, .cert_file = "/nonexistent/cert.pem"},
        {.role = TLS_SERVER, .cert_file = cert_file}, /* holds no key */
        {.role = TLS_SERVER, .cert_file = cert_file, .key_file = other_key_file},
        {.role = TLS_SERVER, .cert_file = key_file},
        {.role = TLS_CLIENT, .ca_file = "/nonexistent/ca.pem"},
        {.role = TLS_CLIENT, .protocols = ">=TLSv9"},
        {.role = TLS_CLIENT, .options = "NO_COMPRESSION, NO_SUCH_THING"},
        {.role = TLS_CLIENT, .options = "0x12zz"},
        {.role = TLS_CLIENT, .groups = "no-such-curve nor-this"},
        {.role = TLS_CLIENT, .protocols = "!"},
        {.role = TLS_CLIENT, .ciphers = "no such cipher"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = {.kind = ERR_NONE};
        assert_null(tls_context_new(&rows[i], &err));
        assert_int_not_equal(err.kind, ERR_NONE);
        assert_true(strlen(err.text) > 10);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_through_tls),
        TEST(every_split_of_the_wire),
        TEST(large_blocks),
        TEST(bulk_shows_many_records),
        TEST(injected_commands_are_thrown_away),
        TEST(injected_replies_are_thrown_away),
        TEST(nothing_is_read_as_clear_text_after_the_end),
        TEST(clear_text_inside_ends_it),
        TEST(an_abrupt_end_is_an_end),
        TEST(bad_handshakes_end_the_stream),
        TEST(certificates_are_verified),
        TEST(a_server_may_ask_for_a_certificate),
        TEST(protocol_settings),
        TEST(groups_are_those_that_both_allow), TEST(bad_settings_are_refused),
    };
    log_init("postfix/test");
    return cmocka_run_group_tests_name("tls", tests, group_setup, group_teardown);
}
