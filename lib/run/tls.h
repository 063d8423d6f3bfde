/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/tls.h: TLS settings, over OpenSSL. A context is made once for each set of settings and shared by streams. */
#ifndef LIB_RUN_TLS_H
#define LIB_RUN_TLS_H

#include <stdbool.h>

#include "lib/base/compiler.h"
#include "lib/base/err.h"

struct tls_context;

enum tls_role { TLS_SERVER, TLS_CLIENT };

/* NULL or "" means: not given. Strings are not kept. */
struct tls_settings {
    enum tls_role role;
    const char *cert_file, *key_file; /* PEM; the chain after the certificate; key_file NULL: in cert_file */
    const char *ca_file, *ca_path;    /* trust anchors */
    const char *protocols;            /* Postfix's form: ">=TLSv1.2", "!SSLv2, !SSLv3" */
    const char *ciphers;              /* OpenSSL's list for TLS 1.2 and below */
    bool verify_peer;                 /* client: fail the handshake unless trusted and named; server: ask for one */
    bool session_tickets;
};

struct tls_context *tls_context_new(const struct tls_settings *, struct err *);
void tls_context_free(struct tls_context **);

#endif
