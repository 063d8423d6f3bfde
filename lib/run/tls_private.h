/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/tls_private.h: for tls.c and stream_tls.c alone. */
#ifndef LIB_RUN_TLS_PRIVATE_H
#define LIB_RUN_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "lib/run/tls.h"

struct tls_context {
    unsigned magic;
    enum tls_role role;
    bool verify_peer;
    unsigned host_flags; /* X509_CHECK_FLAG_... for names in certificates */
    SSL_CTX *ssl;
    int (*choose)(void *ctx, const char *name, struct tls_context **context, struct err *);
    void *choose_ctx;
};

enum { TLS_CONTEXT_MAGIC = 0x544c5343 };

/* Takes OpenSSL's queue of errors into *err, behind the text; empties it. Returns -1. */
int tls_err(struct err *, enum err_kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Postfix's form of protocol versions, as options to switch off and bounds; 0: no bound. */
int tls_parse_protocols(const char *text, uint64_t *off, int *lowest, int *highest, struct err *) MUST_USE;

/* Gives the connection the records of usages 2 and 3 that it can use; returns how many. */
size_t tls_dane_add(SSL *, const struct tls_dane *);

/* The bits of tls_ssl_options. */
int tls_parse_options(const char *text, uint64_t *bits, struct err *) MUST_USE;

#endif
