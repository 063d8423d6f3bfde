/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/tls.h: TLS settings, over OpenSSL. A context is made once for each set of settings and shared by streams. */
#ifndef LIB_RUN_TLS_H
#define LIB_RUN_TLS_H

#include <stdbool.h>

#include "lib/base/compiler.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct tls_context;

enum tls_role { TLS_SERVER, TLS_CLIENT };

/* NULL or "" means: not given. Strings are not kept. */
struct tls_settings {
    enum tls_role role;
    const char *cert_file, *key_file;   /* PEM; the chain after the certificate; key_file NULL: in cert_file */
    const char *cert_file2, *key_file2; /* of another kind (ECDSA beside RSA) */
    const char *const
        *chain_files; /* instead: each a key with its certificates behind it, or several of these; NULL at the end */
    const char *pem;  /* instead: such a chain as text */
    const char *ca_file, *ca_path; /* trust anchors */
    bool wide_wildcards;           /* "*.example.com" in a certificate is also for a.b.example.com */
    bool default_trust;            /* those of the system too */
    int verify_depth;              /* 0: the library's */
    bool require_peer;             /* server, with verify_peer: no client without a trusted certificate */
    bool server_preference;        /* ciphers in the server's order */

    /* Server: the context for a server name that a client asks for (SNI); *context NULL: this one. -1 ends the handshake. Called in
     * the task that does the handshake. */
    int (*choose)(void *ctx, const char *name, struct tls_context **context, struct err *);
    void *choose_ctx;

    const char *protocols; /* Postfix's form: ">=TLSv1.2", "!SSLv2, !SSLv3" */
    const char *ciphers;   /* OpenSSL's list for TLS 1.2 and below */
    const char *options;   /* tls_ssl_options: OpenSSL's SSL_OP_... without that prefix, or a mask "0x..." */
    const char *groups;    /* of the key exchange, best first; those that the library lacks are left out */
    bool verify_peer;      /* client: fail the handshake unless trusted and named; server: ask for one */
    bool session_tickets;
    int session_lifetime; /* in seconds; 0: the library's */
    const char *
        dane_digests; /* client: connections may have DANE records, whose digests are these, strongest first: "sha512 sha256" */
};

/* A TLSA record (RFC 6698), and those of a host with the name that they stand under, without "_25._tcp.". */
struct tls_dane_record {
    unsigned char usage, selector, matching;
    struct slice data;
};
struct tls_dane {
    const char *base;
    const struct tls_dane_record *records;
    size_t count;
};

/* What a client wants of one connection, beyond the context. */
struct tls_peer {
    const char *server_name; /* SNI; NULL: none */
    const char *const
        *names; /* with a context that verifies: the certificate must have one of these (".example.com": any
                                     * below it), NULL at the end; NULL: its chain counts alone */
    const char *protocols, *ciphers; /* NULL or "": as the context has them */
    const struct tls_dane
        *dane; /* its records, of which one is usable, say which certificate is right; names count for those of a trust
                                      * anchor alone. NULL: none. For a context with dane_digests */
};

/* How many of the records this context can use (RFC 7672, section 3.1: usages 2 and 3, known digests, well-formed data). */
size_t tls_dane_usable(struct tls_context *, const struct tls_dane *);

struct tls_context *tls_context_new(const struct tls_settings *, struct err *);
void tls_context_free(struct tls_context **);

#endif
