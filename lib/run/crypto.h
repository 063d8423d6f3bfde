/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/crypto.h: the few things that daemons need of a crypto library besides TLS. */
#ifndef LIB_RUN_CRYPTO_H
#define LIB_RUN_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/compiler.h"
#include "lib/base/slice.h"

enum { CRYPTO_SHA256_SIZE = 32, CRYPTO_DIGEST_MOST = 64 };

/* Fatal if the system has no randomness to give. */
void crypto_random(void *bytes, size_t size);

/* Overwrites a secret; the compiler does not leave it out. */
void crypto_wipe(void *, size_t);

/* Takes the same time wherever they differ. */
bool crypto_equal(const void *, const void *, size_t);

void crypto_hmac_sha256(struct slice key, struct slice text, unsigned char mac[CRYPTO_SHA256_SIZE]);

/* What SCRAM (RFC 5802) is made of; digest: "SHA1" or "SHA256", for CRAM-MD5 "MD5". Results hold CRYPTO_DIGEST_MOST bytes; the length is returned, 0:
 * no such digest. */
size_t crypto_digest(const char *digest, struct slice text, unsigned char *out);
size_t crypto_hmac(const char *digest, struct slice key, struct slice text, unsigned char *out);
size_t crypto_pbkdf2(const char *digest, struct slice password, struct slice salt, unsigned iterations,
                     unsigned char *out);

/* RFC 4648 section 4. Decoding is strict: no blanks, right padding; -1 if it is anything else. */
void crypto_base64_encode(struct slice, struct buf *out);
int crypto_base64_decode(struct slice, struct buf *out) MUST_USE;

#endif
