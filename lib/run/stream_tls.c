/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/check.h"
#include "lib/run/stream_private.h"
#include "lib/run/tls_private.h"

/* OpenSSL reads and writes through a BIO of ours. Reading goes to the descriptor with the stream's knowledge of whether
 * it is empty, so a drained socket costs no system call; writing gathers in stream->wire, so many records leave with one
 * write, and OpenSSL never has to wait for output. */

struct tls_session {
    SSL *ssl;
    char *peer_name;    /* NULL: not known */
    char signature[64]; /* for struct tls_info */
    char subject[128], issuer[128];
    bool names_checked; /* a certificate that was accepted has one of the names wanted */
};

static struct tls_session *
session_of(const struct stream *s)
{
    return s->layer_state;
}

/* --- the BIO --------------------------------------------------------------------------------------------------- */

static int
bio_read(BIO *bio, char *bytes, int size)
{
    BIO_clear_retry_flags(bio);
    ssize_t n = stream_raw_read(BIO_get_data(bio), bytes, (size_t)size);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    return (int)n;
}

static int
bio_write(BIO *bio, const char *bytes, int size)
{
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    buf_append(&s->wire, bytes, (size_t)size);
    return size;
}

static long
bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
    const struct stream *s = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    switch (what) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return s->ended;
    default: return 0;
    }
}

/* Made once; for the life of the process. */
static BIO_METHOD *
bio_method(void)
{
    static BIO_METHOD *method;
    if (method)
        return method;
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (!method || !BIO_meth_set_read(method, bio_read) || !BIO_meth_set_write(method, bio_write) ||
        !BIO_meth_set_ctrl(method, bio_ctrl))
        fatal("out of memory");
    return method;
}

/* --- reading and writing --------------------------------------------------------------------------------------- */

/* Why a call did not succeed. Timeouts and cancels don't come this way. */
static enum stream_io
outcome(struct stream *s, int status, const char *doing, struct err *err)
{
    int why = errno;
    switch (SSL_get_error(session_of(s)->ssl, status)) {
    case SSL_ERROR_WANT_READ: return STREAM_IO_WANT_INPUT;
    case SSL_ERROR_ZERO_RETURN: return STREAM_IO_END;
    case SSL_ERROR_SYSCALL:
        if (!s->ended && ERR_peek_error() == 0) {
            errno = why;
            err_errno(err, "%s", doing);
            return STREAM_IO_FAILED;
        }
        break;
    default: break;
    }
    if (s->ended) {
        ERR_clear_error();
        return STREAM_IO_END; /* without the goodbye; what follows is up to the protocol */
    }
    tls_err(err, ERR_TEMP, "%s", doing);
    return STREAM_IO_FAILED;
}

static enum stream_io
tls_read(struct stream *s, void *bytes, size_t size, size_t *n, struct err *err)
{
    ERR_clear_error();
    errno = 0;
    int status = SSL_read_ex(session_of(s)->ssl, bytes, size, n);
    return status == 1 ? STREAM_IO_DONE : outcome(s, status, "TLS read", err);
}

static int
tls_write(struct stream *s, const void *bytes, size_t n, struct err *err)
{
    const char *at = bytes;
    while (n > 0) {
        size_t done;
        ERR_clear_error();
        if (SSL_write_ex(session_of(s)->ssl, at, n, &done) != 1)
            return tls_err(err, ERR_CLOSED, "TLS write");
        at += done;
        n -= done;
    }
    return 0;
}

static bool
tls_has_pending(const struct stream *s)
{
    return SSL_has_pending(session_of(s)->ssl);
}

static void
tls_shutdown(struct stream *s)
{
    if (SSL_is_init_finished(session_of(s)->ssl))
        SSL_shutdown(session_of(s)->ssl);
    ERR_clear_error();
}

static void
tls_release(struct stream *s)
{
    struct tls_session *session = session_of(s);
    SSL_free(session->ssl);
    free(session->peer_name);
    free(session);
    s->layer_state = NULL;
}

static const struct stream_layer tls_layer = {
    .is_tls = true,
    .read = tls_read,
    .write = tls_write,
    .has_pending = tls_has_pending,
    .shutdown = tls_shutdown,
    .release = tls_release,
};

/* --- the switch ------------------------------------------------------------------------------------------------ */

static bool
is_numeric_address(const char *name)
{
    struct in6_addr any;
    return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

/* What the client asks for, and what it demands of the certificate. */
static bool
set_peer_name(struct tls_session *session, const struct tls_context *context, const char *name)
{
    session->peer_name = strdup(name);
    if (!session->peer_name)
        fatal("out of memory");
    bool numeric = is_numeric_address(name);
    if (!numeric && !SSL_set_tlsext_host_name(session->ssl, name))
        return false;
    if (!context->verify_peer)
        return true;
    if (numeric)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session->ssl), name) == 1;
    SSL_set_hostflags(session->ssl, context->host_flags);
    return SSL_set1_host(session->ssl, name) == 1;
}

/* Protocols and ciphers of one connection; the names that its certificate may have. */
static int
set_peer(struct tls_session *session, const struct tls_context *context, const struct tls_peer *peer, struct err *err)
{
    int lowest, highest;
    uint64_t off;
    if (peer->protocols && peer->protocols[0]) {
        if (tls_parse_protocols(peer->protocols, &off, &lowest, &highest, err) < 0)
            return -1;
        SSL_set_options(session->ssl, off);
        if ((lowest && !SSL_set_min_proto_version(session->ssl, lowest)) ||
            (highest && !SSL_set_max_proto_version(session->ssl, highest)))
            return tls_err(err, ERR_PERM, "TLS protocol version");
    }
    if (peer->ciphers && peer->ciphers[0] && SSL_set_cipher_list(session->ssl, peer->ciphers) != 1)
        return tls_err(err, ERR_PERM, "no TLS cipher in \"%s\"", peer->ciphers);
    if (peer->server_name && peer->server_name[0] && !is_numeric_address(peer->server_name) &&
        !SSL_set_tlsext_host_name(session->ssl, peer->server_name))
        return tls_err(err, ERR_PERM, "TLS: cannot use the name \"%s\"", peer->server_name);
    if (peer->dane && tls_dane_add(session->ssl, peer->dane) == 0)
        return err_set(err, ERR_PERM, "TLS: no usable DANE record for \"%s\"", peer->dane->base);
    if (!context->verify_peer || !peer->names)
        return 0;
    SSL_set_hostflags(session->ssl, context->host_flags);
    session->names_checked = true;
    for (size_t i = 0; peer->names[i]; i++)
        if (is_numeric_address(peer->names[i])
                ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session->ssl), peer->names[i]) != 1
                : SSL_add1_host(session->ssl, peer->names[i]) != 1)
            return tls_err(err, ERR_PERM, "TLS: cannot use the name \"%s\"", peer->names[i]);
    return 0;
}

static int
session_begin(struct stream *s, const struct tls_context *context, const char *peer_name, const struct tls_peer *peer,
              struct err *err)
{
    struct tls_session *session = calloc(1, sizeof(*session));
    BIO *bio = BIO_new(bio_method());
    ERR_clear_error();
    if (!session || !bio)
        fatal("out of memory");
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    s->layer = &tls_layer;
    s->layer_state = session;
    session->ssl = SSL_new(context->ssl);
    if (!session->ssl)
        fatal("out of memory");
    SSL_set_bio(session->ssl, bio, bio);
    if (context->role == TLS_SERVER) {
        SSL_set_accept_state(session->ssl);
        return 0;
    }
    SSL_set_connect_state(session->ssl);
    if (peer)
        return set_peer(session, context, peer, err);
    if (peer_name && peer_name[0] && !set_peer_name(session, context, peer_name))
        return tls_err(err, ERR_PERM, "TLS: cannot use the name \"%s\"", peer_name);
    return 0;
}

/* With verification it tells why a certificate was refused. */
static void
explain(struct stream *s, struct err *why)
{
    long verdict = SSL_get_verify_result(session_of(s)->ssl);
    if (verdict != X509_V_OK && !SSL_is_init_finished(session_of(s)->ssl))
        err_set(why, ERR_TEMP, "TLS handshake: server certificate: %s", X509_verify_cert_error_string(verdict));
}

static int
handshake(struct stream *s, struct err *err)
{
    struct err why;
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int status = SSL_do_handshake(session_of(s)->ssl);
        enum stream_io io = status == 1 ? STREAM_IO_DONE : outcome(s, status, "TLS handshake", &why);
        if (io == STREAM_IO_FAILED)
            explain(s, &why);
        if (io == STREAM_IO_END)
            err_set(&why, ERR_CLOSED, "TLS handshake: connection closed");
        if (s->wire.len > 0 && stream_send_all(s, &s->wire, err) < 0) /* an alert too */
            return -1;
        if (io == STREAM_IO_DONE)
            return 0;
        if (io != STREAM_IO_WANT_INPUT)
            return stream_fail(s, &why, err);
        if (stream_wait_input(s, err) < 0)
            return err_context(err, "TLS handshake");
    }
}

static int
start(struct stream *s, struct tls_context *context, const char *peer_name, const struct tls_peer *peer,
      struct err *err)
{
    struct err why;
    check(context->magic == TLS_CONTEXT_MAGIC && !s->layer);
    bool peer_waits = context->role == TLS_CLIENT || s->out.len > 0;
    stream_drop_buffered(s);
    if (stream_usable(s, err) < 0 || (peer_waits && stream_drop_socket(s, err) < 0) || stream_flush(s, err) < 0)
        return -1;
    s->may_have_input = true;
    if (session_begin(s, context, peer_name, peer, &why) < 0)
        return stream_fail(s, &why, err);
    return handshake(s, err);
}

int
stream_start_tls(struct stream *s, struct tls_context *context, const char *peer_name, struct err *err)
{
    return start(s, context, peer_name, NULL, err);
}

int
stream_start_tls_peer(struct stream *s, struct tls_context *context, const struct tls_peer *peer, struct err *err)
{
    return start(s, context, NULL, peer, err);
}

/* --- information ----------------------------------------------------------------------------------------------- */

/* The kind of the server's key, as people know it: "RSA-PSS (2048 bits)", "ECDSA (prime256v1)". */
static void
describe_signature(struct tls_session *session, EVP_PKEY *key, int type)
{
    char curve[40] = "";
    size_t len;
    if (type == EVP_PKEY_RSA || type == EVP_PKEY_RSA_PSS)
        snprintf(session->signature, sizeof(session->signature), "%s (%d bits)",
                 type == EVP_PKEY_RSA_PSS ? "RSA-PSS" : "RSA", EVP_PKEY_get_bits(key));
    else if (type == EVP_PKEY_EC && EVP_PKEY_get_group_name(key, curve, sizeof(curve), &len) == 1)
        snprintf(session->signature, sizeof(session->signature), "ECDSA (%s)", curve);
    else
        snprintf(session->signature, sizeof(session->signature), "%s", OBJ_nid2sn(type));
}

static void
server_signature(SSL *ssl, struct tls_session *session, struct tls_info *info)
{
    bool server = SSL_is_server(ssl);
    int type = 0, digest = 0;
    X509 *certificate = server ? SSL_get_certificate(ssl) : SSL_get0_peer_certificate(ssl);
    EVP_PKEY *key = certificate ? X509_get0_pubkey(certificate) : NULL;
    if (!key)
        return;
    if (server ? SSL_get_signature_type_nid(ssl, &type) : SSL_get_peer_signature_type_nid(ssl, &type)) {
        describe_signature(session, key, type);
        info->signature = session->signature;
    }
    if ((server ? SSL_get_signature_nid(ssl, &digest) : SSL_get_peer_signature_nid(ssl, &digest)) && digest)
        info->digest = OBJ_nid2sn(digest);
}

static const char *
key_exchange(SSL *ssl)
{
    static const struct {
        int nid;
        const char *name;
    } names[] = {{NID_X25519, "X25519"}, {NID_X448, "X448"}, {NID_X9_62_prime256v1, "secp256r1"}};
    int nid = (int)SSL_get_negotiated_group(ssl);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].nid == nid)
            return names[i].name;
    const char *name = nid ? OBJ_nid2sn(nid) : NULL;
    return name ? name : "";
}

static bool
name_matches(X509 *certificate, const char *name)
{
    if (!name)
        return false;
    if (is_numeric_address(name))
        return X509_check_ip_asc(certificate, name, 0) == 1;
    return X509_check_host(certificate, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

/* Control characters, and what could end a comment in a header, become '?'. */
static const char *
common_name(const X509_NAME *name, char *text, size_t size)
{
    int length = X509_NAME_get_text_by_NID(name, NID_commonName, text, (int)size);

    if (length < 0 || strlen(text) != (size_t)length)
        text[0] = '\0'; /* none, or one with a NUL in it, which names nobody */
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
            *c = '?';
    return text;
}

int
stream_tls_fingerprint(const struct stream *s, const char *digest, bool of_key, char *text, size_t size)
{
    X509 *certificate = s->layer == &tls_layer ? SSL_get0_peer_certificate(session_of(s)->ssl) : NULL;
    unsigned char bytes[EVP_MAX_MD_SIZE], *encoded = NULL;
    unsigned len = 0;

    ERR_clear_error();
    EVP_MD *md = certificate ? EVP_MD_fetch(NULL, digest, NULL) : NULL;
    if (!md)
        return -1;
    int size_in =
        of_key ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded) : i2d_X509(certificate, &encoded);
    bool made = size_in > 0 && EVP_Digest(encoded, (size_t)size_in, bytes, &len, md, NULL) == 1;
    OPENSSL_free(encoded);
    EVP_MD_free(md);
    ERR_clear_error();
    if (!made || (size_t)len * 3 > size)
        return -1;
    for (unsigned i = 0; i < len; i++)
        snprintf(text + (size_t)3 * i, size - (size_t)3 * i, i + 1 < len ? "%02X:" : "%02X", bytes[i]);
    return 0;
}

int
stream_tls_binding(const struct stream *s, unsigned char binding[STREAM_BINDING_SIZE])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    bool is_tls = s->layer == &tls_layer;

    ERR_clear_error();
    /* Below 1.3 it binds only with the extended master secret (RFC 9266 section 3). */
    if (!is_tls || (SSL_version(session_of(s)->ssl) < TLS1_3_VERSION && SSL_get_extms_support(session_of(s)->ssl) != 1))
        return -1;
    int made = SSL_export_keying_material(session_of(s)->ssl, binding, STREAM_BINDING_SIZE, label, sizeof(label) - 1,
                                          (const unsigned char *)"", 0, 1);
    ERR_clear_error();
    return made == 1 ? 0 : -1;
}

void
stream_tls_info(const struct stream *s, struct tls_info *info)
{
    *info = (struct tls_info){.protocol = "",
                              .cipher = "",
                              .key_exchange = "",
                              .signature = "",
                              .digest = "",
                              .peer_subject = "",
                              .peer_issuer = ""};
    if (s->layer != &tls_layer)
        return;
    struct tls_session *session = session_of(s);
    SSL *ssl = session->ssl;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    info->protocol = SSL_get_version(ssl);
    info->cipher = SSL_CIPHER_get_name(cipher);
    info->used_bits = SSL_CIPHER_get_bits(cipher, &info->algorithm_bits);
    info->key_exchange = key_exchange(ssl);
    info->resumed = SSL_session_reused(ssl);
    server_signature(ssl, session, info);
    info->peer_has_certificate = certificate != NULL;
    info->peer_is_trusted = certificate && SSL_get_verify_result(ssl) == X509_V_OK;
    info->peer_name_matches =
        certificate && (session->names_checked ? info->peer_is_trusted : name_matches(certificate, session->peer_name));
    if (!certificate)
        return;
    info->peer_subject = common_name(X509_get_subject_name(certificate), session->subject, sizeof session->subject);
    info->peer_issuer = common_name(X509_get_issuer_name(certificate), session->issuer, sizeof session->issuer);
}
