/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/slice.h"
#include "lib/run/tls_private.h"

int
tls_err(struct err *err, enum err_kind kind, const char *fmt, ...)
{
    char what[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    unsigned long code = ERR_peek_last_error();
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    err_set(err, kind, "%s%s%s", what, why ? ": " : "", why ? why : "");
    ERR_clear_error();
    return -1;
}

static bool
is_given(const char *text)
{
    return text && text[0];
}

/* --- protocol versions ----------------------------------------------------------------------------------------- */

static const struct version {
    const char *name;
    int code;
    uint64_t off; /* SSL_OP_NO_...; 0: OpenSSL doesn't know it anyway */
} versions[] = {
    {"SSLv2", 2, 0},
    {"SSLv3", SSL3_VERSION, SSL_OP_NO_SSLv3},
    {"TLSv1", TLS1_VERSION, SSL_OP_NO_TLSv1},
    {"TLSv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
    {"TLSv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
    {"TLSv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

/* By name or, as Postfix 3.6 takes it, by hexadecimal code ("0304", "0x0304"). */
static const struct version *
find_version(struct slice name)
{
    char text[16];
    for (size_t i = 0; i < ARRAY_LEN(versions); i++)
        if (slice_equal_text_fold(name, versions[i].name))
            return &versions[i];
    if (name.len == 0 || name.len >= sizeof(text))
        return NULL;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    char *end;
    long code = strtol(text, &end, 16);
    for (size_t i = 0; i < ARRAY_LEN(versions) && !*end; i++)
        if (versions[i].code == code)
            return &versions[i];
    return NULL;
}

struct version_rules {
    uint64_t without; /* named with "!" */
    uint64_t only;    /* named plainly */
    int lowest, highest;
};

static int
add_version_rule(struct version_rules *rules, struct slice word, struct err *err)
{
    struct slice name = word;
    size_t prefix = 0;
    if (slice_starts_with_fold(word, ">=") || slice_starts_with_fold(word, "<="))
        prefix = 2;
    else if (slice_starts_with_fold(word, "!"))
        prefix = 1;
    name.ptr += prefix;
    name.len -= prefix;
    if (prefix == 2 && name.len == 0)
        return 0; /* ">=" alone: no bound */
    const struct version *version = find_version(name);
    if (!version)
        return err_set(err, ERR_SYNTAX, "unknown TLS protocol version: %.*s", SLICE_ARG(word));
    if (prefix == 1)
        rules->without |= version->off;
    else if (prefix == 0)
        rules->only |= version->off;
    else if (word.ptr[0] == '>')
        rules->lowest = version->code;
    else
        rules->highest = version->code;
    return 0;
}

static int
set_protocols(SSL_CTX *ssl, const char *text, struct err *err)
{
    struct version_rules rules = {0};
    struct slice rest = slice_from(text), word;
    uint64_t off;
    while (slice_word(&rest, " ,:\t\r\n", &word))
        if (add_version_rule(&rules, word, err) < 0)
            return -1;
    off = rules.without;
    for (size_t i = 0; i < ARRAY_LEN(versions) && rules.only; i++)
        if (!(rules.only & versions[i].off))
            off |= versions[i].off;
    SSL_CTX_set_options(ssl, off);
    if (rules.lowest > 2 && !SSL_CTX_set_min_proto_version(ssl, rules.lowest))
        return tls_err(err, ERR_PERM, "lowest TLS protocol version");
    if (rules.highest && !SSL_CTX_set_max_proto_version(ssl, rules.highest))
        return tls_err(err, ERR_PERM, "highest TLS protocol version");
    return 0;
}

/* --- contexts -------------------------------------------------------------------------------------------------- */

static int
load_certificate(SSL_CTX *ssl, const struct tls_settings *settings, struct err *err)
{
    const char *key = is_given(settings->key_file) ? settings->key_file : settings->cert_file;
    if (!is_given(settings->cert_file))
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ssl, settings->cert_file) != 1)
        return tls_err(err, ERR_PERM, "cannot load certificate from %s", settings->cert_file);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return tls_err(err, ERR_PERM, "cannot load private key from %s", key);
    if (SSL_CTX_check_private_key(ssl) != 1)
        return tls_err(err, ERR_PERM, "private key in %s does not belong to the certificate", key);
    return 0;
}

static int
load_trust(SSL_CTX *ssl, const struct tls_settings *settings, struct err *err)
{
    if (is_given(settings->ca_file) && SSL_CTX_load_verify_file(ssl, settings->ca_file) != 1)
        return tls_err(err, ERR_PERM, "cannot load trust anchors from %s", settings->ca_file);
    if (is_given(settings->ca_path) && SSL_CTX_load_verify_dir(ssl, settings->ca_path) != 1)
        return tls_err(err, ERR_PERM, "cannot use trust anchors in %s", settings->ca_path);
    return 0;
}

/* A server takes any certificate; whether it is trusted is for the caller to ask. */
static int
accept_any(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static void
set_verification(SSL_CTX *ssl, const struct tls_settings *settings)
{
    if (!settings->verify_peer)
        SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    else if (settings->role == TLS_CLIENT)
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    else
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, accept_any);
}

/* Sessions live in tickets or nowhere: there is no cache in the process. */
static void
set_sessions(SSL_CTX *ssl, const struct tls_settings *settings)
{
    static const unsigned char id[] = "postern";
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ssl, id, sizeof(id) - 1);
    if (settings->session_tickets)
        return;
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ssl, 0);
}

static int
configure(SSL_CTX *ssl, const struct tls_settings *settings, struct err *err)
{
    SSL_CTX_set_mode(ssl,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_max_early_data(ssl, 0);
    SSL_CTX_set_dh_auto(ssl, 1);
    set_verification(ssl, settings);
    set_sessions(ssl, settings);
    if (is_given(settings->protocols) && set_protocols(ssl, settings->protocols, err) < 0)
        return -1;
    if (is_given(settings->ciphers) && SSL_CTX_set_cipher_list(ssl, settings->ciphers) != 1)
        return tls_err(err, ERR_PERM, "no TLS cipher in \"%s\"", settings->ciphers);
    if (load_certificate(ssl, settings, err) < 0)
        return -1;
    return load_trust(ssl, settings, err);
}

struct tls_context *
tls_context_new(const struct tls_settings *settings, struct err *err)
{
    ERR_clear_error();
    SSL_CTX *ssl = SSL_CTX_new(settings->role == TLS_SERVER ? TLS_server_method() : TLS_client_method());
    if (!ssl) {
        tls_err(err, ERR_TEMP, "cannot start the TLS library");
        return NULL;
    }
    if (configure(ssl, settings, err) < 0) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    ERR_clear_error();
    struct tls_context *context = calloc(1, sizeof(*context));
    if (!context)
        fatal("out of memory");
    *context = (struct tls_context){
        .magic = TLS_CONTEXT_MAGIC, .role = settings->role, .verify_peer = settings->verify_peer, .ssl = ssl};
    return context;
}

void
tls_context_free(struct tls_context **context)
{
    if (!*context)
        return;
    check((*context)->magic == TLS_CONTEXT_MAGIC);
    SSL_CTX_free((*context)->ssl);
    free(*context);
    *context = NULL;
}
