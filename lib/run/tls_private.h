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
    SSL_CTX *ssl;
};

enum { TLS_CONTEXT_MAGIC = 0x544c5343 };

/* Takes OpenSSL's queue of errors into *err, behind the text; empties it. Returns -1. */
int tls_err(struct err *, enum err_kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
