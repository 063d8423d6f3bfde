/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
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

int
tls_parse_protocols(const char *text, uint64_t *off, int *lowest, int *highest, struct err *err)
{
    struct version_rules rules = {0};
    struct slice rest = slice_from(text), word;
    while (slice_word(&rest, " ,:\t\r\n", &word))
        if (add_version_rule(&rules, word, err) < 0)
            return -1;
    *off = rules.without;
    for (size_t i = 0; i < ARRAY_LEN(versions) && rules.only; i++)
        if (!(rules.only & versions[i].off))
            *off |= versions[i].off;
    *lowest = rules.lowest > 2 ? rules.lowest : 0;
    *highest = rules.highest;
    return 0;
}

static int
set_protocols(SSL_CTX *ssl, const char *text, struct err *err)
{
    int lowest, highest;
    uint64_t off;
    if (tls_parse_protocols(text, &off, &lowest, &highest, err) < 0)
        return -1;
    SSL_CTX_set_options(ssl, off);
    if (lowest && !SSL_CTX_set_min_proto_version(ssl, lowest))
        return tls_err(err, ERR_PERM, "lowest TLS protocol version");
    if (highest && !SSL_CTX_set_max_proto_version(ssl, highest))
        return tls_err(err, ERR_PERM, "highest TLS protocol version");
    return 0;
}

/* --- options and groups ---------------------------------------------------------------------------------------- */

static const struct option {
    const char *name;
    uint64_t bit;
} options[] = {
    {"ENABLE_MIDDLEBOX_COMPAT", SSL_OP_ENABLE_MIDDLEBOX_COMPAT},
    {"LEGACY_SERVER_CONNECT", SSL_OP_LEGACY_SERVER_CONNECT},
    {"NO_TICKET", SSL_OP_NO_TICKET},
    {"NO_COMPRESSION", SSL_OP_NO_COMPRESSION},
    {"NO_RENEGOTIATION", SSL_OP_NO_RENEGOTIATION},
    {"NO_SESSION_RESUMPTION_ON_RENEGOTIATION", SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION},
    {"PRIORITIZE_CHACHA", SSL_OP_PRIORITIZE_CHACHA},
};

static int
parse_option(struct slice word, uint64_t *bits, struct err *err)
{
    char text[20], *end;

    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (slice_equal_text_fold(word, options[i].name)) {
            *bits |= options[i].bit;
            return 0;
        }
    if (slice_starts_with_fold(word, "0x") && word.len > 2 && word.len < sizeof text) {
        memcpy(text, word.ptr, word.len);
        text[word.len] = '\0';
        *bits |= strtoull(text, &end, 16);
        if (!*end)
            return 0;
    }
    return err_set(err, ERR_SYNTAX, "tls_ssl_options: unknown option %.*s", SLICE_ARG(word));
}

int
tls_parse_options(const char *text, uint64_t *bits, struct err *err)
{
    struct slice rest = slice_from(text), word;

    *bits = 0;
    while (slice_word(&rest, ", \t\r\n", &word))
        if (parse_option(word, bits, err) < 0)
            return -1;
    return 0;
}

static int
set_options(SSL_CTX *ssl, const char *text, struct err *err)
{
    uint64_t bits;

    if (tls_parse_options(text, &bits, err) < 0)
        return -1;
    SSL_CTX_set_options(ssl, bits);
    if (bits & SSL_OP_NO_TICKET)
        SSL_CTX_set_num_tickets(ssl, 0);
    return 0;
}

static int
set_groups(SSL_CTX *ssl, const char *text, struct err *err)
{
    enum { LONGEST = 40 };
    struct slice rest = slice_from(text), word;
    struct buf list = {0};
    char name[LONGEST + 1];
    int result = 0;

    while (slice_word(&rest, ", :\t\r\n", &word)) {
        if (word.len > LONGEST)
            continue;
        memcpy(name, word.ptr, word.len);
        name[word.len] = '\0';
        if (SSL_CTX_set1_groups_list(ssl, name) == 1)
            buf_printf(&list, "%s%s", list.len > 0 ? ":" : "", name);
    }
    ERR_clear_error();
    if (list.len == 0)
        result = err_set(err, ERR_SYNTAX, "no group for the TLS key exchange in \"%s\"", text);
    else if (SSL_CTX_set1_groups_list(ssl, buf_text(&list)) != 1)
        result = tls_err(err, ERR_PERM, "groups for the TLS key exchange");
    buf_release(&list);
    return result;
}

/* --- contexts -------------------------------------------------------------------------------------------------- */

static int
load_pair(SSL_CTX *ssl, const char *certificate, const char *key, struct err *err)
{
    if (!is_given(certificate))
        return 0;
    if (!is_given(key))
        key = certificate;
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1)
        return tls_err(err, ERR_PERM, "cannot load certificate from %s", certificate);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return tls_err(err, ERR_PERM, "cannot load private key from %s", key);
    if (SSL_CTX_check_private_key(ssl) != 1)
        return tls_err(err, ERR_PERM, "private key in %s does not belong to the certificate", key);
    return 0;
}

/* A key, its certificate, and those that vouch for it; perhaps several times. */
struct chain {
    EVP_PKEY *key;
    X509 *certificate;
    STACK_OF(X509) * others;
};

static int
use_chain(SSL_CTX *ssl, struct chain *chain, const char *where, struct err *err)
{
    int result = 0;
    if (!chain->key && !chain->certificate)
        return 0;
    if (!chain->key || !chain->certificate)
        result = err_set(err, ERR_PERM, "%s: each certificate must stand behind its key", where);
    else if (SSL_CTX_use_cert_and_key(ssl, chain->certificate, chain->key, chain->others, 1) != 1)
        result = tls_err(err, ERR_PERM, "cannot use the certificate in %s", where);
    EVP_PKEY_free(chain->key);
    X509_free(chain->certificate);
    sk_X509_pop_free(chain->others, X509_free);
    *chain = (struct chain){0};
    return result;
}

static bool
ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* One object of the PEM text. */
static int
add_object(SSL_CTX *ssl, struct chain *chain, const char *name, const unsigned char *data, long len, const char *where,
           struct err *err)
{
    if (ends_with(name, "PRIVATE KEY")) {
        if (use_chain(ssl, chain, where, err) < 0)
            return -1;
        chain->key =
            strcmp(name, "PRIVATE KEY") == 0
                ? d2i_AutoPrivateKey(NULL, &data, len)
                : d2i_PrivateKey(strcmp(name, "EC PRIVATE KEY") == 0 ? EVP_PKEY_EC : EVP_PKEY_RSA, NULL, &data, len);
        return chain->key ? 0 : tls_err(err, ERR_PERM, "cannot read private key from %s", where);
    }
    if (!ends_with(name, "CERTIFICATE"))
        return 0; /* parameters */
    X509 *certificate = d2i_X509(NULL, &data, len);
    if (!certificate)
        return tls_err(err, ERR_PERM, "cannot read certificate from %s", where);
    if (!chain->certificate)
        chain->certificate = certificate;
    else if ((!chain->others && !(chain->others = sk_X509_new_null())) || !sk_X509_push(chain->others, certificate))
        fatal("out of memory");
    return 0;
}

static int
load_chains(SSL_CTX *ssl, BIO *bio, const char *where, struct err *err)
{
    struct chain chain = {0};
    char *name, *header;
    unsigned char *data;
    long len;
    int result = 0;
    while (result == 0 && PEM_read_bio(bio, &name, &header, &data, &len) == 1) {
        if (header[0])
            result = err_set(err, ERR_PERM, "%s: keys must not be encrypted", where);
        else
            result = add_object(ssl, &chain, name, data, len, where, err);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, (size_t)len);
    }
    ERR_clear_error();
    int last = use_chain(ssl, &chain, where, result == 0 ? err : NULL);
    return result < 0 ? result : last;
}

static int
load_chain_files(SSL_CTX *ssl, const char *const *files, struct err *err)
{
    for (size_t i = 0; files && files[i]; i++) {
        BIO *bio = BIO_new_file(files[i], "r");
        if (!bio)
            return tls_err(err, ERR_PERM, "cannot open %s", files[i]);
        int result = load_chains(ssl, bio, files[i], err);
        BIO_free(bio);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int
load_certificate(SSL_CTX *ssl, const struct tls_settings *settings, struct err *err)
{
    if (is_given(settings->pem)) {
        BIO *bio = BIO_new_mem_buf(settings->pem, -1);
        if (!bio)
            fatal("out of memory");
        int result = load_chains(ssl, bio, "tls_server_sni_maps", err);
        BIO_free(bio);
        return result;
    }
    if (load_chain_files(ssl, settings->chain_files, err) < 0 ||
        load_pair(ssl, settings->cert_file, settings->key_file, err) < 0)
        return -1;
    return load_pair(ssl, settings->cert_file2, settings->key_file2, err);
}

static int
load_trust(SSL_CTX *ssl, const struct tls_settings *settings, struct err *err)
{
    if (is_given(settings->ca_file) && SSL_CTX_load_verify_file(ssl, settings->ca_file) != 1)
        return tls_err(err, ERR_PERM, "cannot load trust anchors from %s", settings->ca_file);
    if (is_given(settings->ca_path) && SSL_CTX_load_verify_dir(ssl, settings->ca_path) != 1)
        return tls_err(err, ERR_PERM, "cannot use trust anchors in %s", settings->ca_path);
    if (settings->default_trust && SSL_CTX_set_default_verify_paths(ssl) != 1)
        return tls_err(err, ERR_PERM, "cannot use the system's trust anchors");
    if (settings->role == TLS_SERVER && is_given(settings->ca_file))
        SSL_CTX_set_client_CA_list(ssl, SSL_load_client_CA_file(settings->ca_file));
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
    else if (settings->require_peer)
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    else
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, accept_any);
    if (settings->verify_depth > 0)
        SSL_CTX_set_verify_depth(ssl, settings->verify_depth);
}

/* Sessions live in tickets or nowhere: there is no cache in the process. */
static void
set_sessions(SSL_CTX *ssl, const struct tls_settings *settings)
{
    static const unsigned char id[] = "postern";
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ssl, id, sizeof(id) - 1);
    if (settings->session_lifetime > 0)
        SSL_CTX_set_timeout(ssl, settings->session_lifetime);
    if (settings->session_tickets)
        return;
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ssl, 0);
}

/* --- DANE ------------------------------------------------------------------------------------------------------ */

/* The numbers of digests in TLSA records; a list may give them, "sha256=1". */
static const struct digest {
    const char *name;
    uint8_t number;
} digests[] = {{"sha256", 1}, {"sha512", 2}};

static const struct digest *
find_digest(struct slice word)
{
    struct slice name, number = word;
    bool has_number = slice_has_byte(word, '=');

    slice_cut(&number, '=', &name);
    for (size_t i = 0; i < ARRAY_LEN(digests); i++) {
        unsigned long long value = digests[i].number;
        if (slice_equal_text_fold(name, digests[i].name) &&
            (!has_number || (slice_to_u64(number, UINT8_MAX, &value) == 0 && value == digests[i].number)))
            return &digests[i];
    }
    return NULL;
}

static int
set_dane(SSL_CTX *ssl, const char *text, struct err *err)
{
    struct slice rest = slice_from(text), word;
    uint8_t strength = 100;

    if (SSL_CTX_dane_enable(ssl) != 1)
        return tls_err(err, ERR_TEMP, "DANE");
    for (size_t i = 0; i < ARRAY_LEN(digests); i++)
        if (SSL_CTX_dane_mtype_set(ssl, NULL, digests[i].number, 0) != 1)
            return tls_err(err, ERR_TEMP, "DANE");
    while (slice_word(&rest, ", \t\r\n", &word)) {
        const struct digest *digest = find_digest(word);
        if (!digest)
            return err_set(err, ERR_SYNTAX, "tls_dane_digests: unknown digest %.*s", SLICE_ARG(word));
        if (SSL_CTX_dane_mtype_set(ssl, EVP_get_digestbyname(digest->name), digest->number, strength--) != 1)
            return tls_err(err, ERR_PERM, "tls_dane_digests: %s", digest->name);
    }
    return 0;
}

size_t
tls_dane_add(SSL *ssl, const struct tls_dane *dane)
{
    enum { TRUST_ANCHOR = 2, END_ENTITY = 3 };
    size_t usable = 0;

    if (SSL_dane_enable(ssl, dane->base) != 1)
        return 0;
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    for (size_t i = 0; i < dane->count; i++) {
        const struct tls_dane_record *r = &dane->records[i];
        if ((r->usage == TRUST_ANCHOR || r->usage == END_ENTITY) &&
            SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching, (const unsigned char *)r->data.ptr,
                              r->data.len) == 1)
            usable++;
    }
    ERR_clear_error();
    return usable;
}

size_t
tls_dane_usable(struct tls_context *context, const struct tls_dane *dane)
{
    check(context->magic == TLS_CONTEXT_MAGIC);
    SSL *ssl = SSL_new(context->ssl);
    if (!ssl)
        fatal("out of memory");
    SSL_set_connect_state(ssl);
    size_t usable = tls_dane_add(ssl, dane);
    SSL_free(ssl);
    ERR_clear_error();
    return usable;
}

static int
configure(SSL_CTX *ssl, const struct tls_settings *settings, struct err *err)
{
    SSL_CTX_set_mode(ssl,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    if (settings->server_preference)
        SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_max_early_data(ssl, 0);
    SSL_CTX_set_dh_auto(ssl, 1);
    set_verification(ssl, settings);
    set_sessions(ssl, settings);
    if (is_given(settings->protocols) && set_protocols(ssl, settings->protocols, err) < 0)
        return -1;
    if (is_given(settings->ciphers) && SSL_CTX_set_cipher_list(ssl, settings->ciphers) != 1)
        return tls_err(err, ERR_PERM, "no TLS cipher in \"%s\"", settings->ciphers);
    if (is_given(settings->options) && set_options(ssl, settings->options, err) < 0)
        return -1;
    if (is_given(settings->groups) && set_groups(ssl, settings->groups, err) < 0)
        return -1;
    if (is_given(settings->dane_digests) && set_dane(ssl, settings->dane_digests, err) < 0)
        return -1;
    if (load_certificate(ssl, settings, err) < 0)
        return -1;
    return load_trust(ssl, settings, err);
}

/* A handshake asks for a name. */
static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls_context *context = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct tls_context *chosen = NULL;
    struct err err;
    if (!name || !name[0])
        return SSL_TLSEXT_ERR_NOACK;
    if (context->choose(context->choose_ctx, name, &chosen, &err) < 0) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    if (chosen)
        SSL_set_SSL_CTX(ssl, chosen->ssl);
    return SSL_TLSEXT_ERR_OK;
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
    *context =
        (struct tls_context){.magic = TLS_CONTEXT_MAGIC,
                             .role = settings->role,
                             .verify_peer = settings->verify_peer,
                             .host_flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                           (settings->wide_wildcards ? X509_CHECK_FLAG_MULTI_LABEL_WILDCARDS : 0),
                             .ssl = ssl,
                             .choose = settings->choose,
                             .choose_ctx = settings->choose_ctx};
    if (settings->choose) {
        SSL_CTX_set_tlsext_servername_callback(ssl, on_server_name);
        SSL_CTX_set_tlsext_servername_arg(ssl, context);
    }
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
