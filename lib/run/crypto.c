/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/crypto.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/check.h"

void
crypto_random(void *bytes, size_t size)
{
    char *at = bytes;

    while (size > 0) {
        ssize_t n = getrandom(at, size < 256 ? size : 256, 0);
        if (n <= 0)
            fatal("no random bytes to be had");
        at += n;
        size -= (size_t)n;
    }
}

void
crypto_wipe(void *bytes, size_t size)
{
    if (bytes)
        explicit_bzero(bytes, size);
}

bool
crypto_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}

size_t
crypto_digest(const char *digest, struct slice text, unsigned char *out)
{
    EVP_MD *md = EVP_MD_fetch(NULL, digest, NULL);
    unsigned len = 0;
    bool made = md && EVP_Digest(text.ptr, text.len, out, &len, md, NULL) == 1;

    EVP_MD_free(md);
    ERR_clear_error();
    return made ? len : 0;
}

size_t
crypto_hmac(const char *digest, struct slice key, struct slice text, unsigned char *out)
{
    EVP_MD *md = EVP_MD_fetch(NULL, digest, NULL);
    unsigned len = 0;
    bool made = md && HMAC(md, key.ptr ? key.ptr : "", (int)key.len, (const unsigned char *)text.ptr, text.len, out,
                           &len) != NULL;

    EVP_MD_free(md);
    ERR_clear_error();
    return made ? len : 0;
}

void
crypto_hmac_sha256(struct slice key, struct slice text, unsigned char mac[CRYPTO_SHA256_SIZE])
{
    unsigned char out[CRYPTO_DIGEST_MOST];

    if (crypto_hmac("SHA256", key, text, out) != CRYPTO_SHA256_SIZE)
        fatal("the crypto library has no SHA256");
    memcpy(mac, out, CRYPTO_SHA256_SIZE);
}

size_t
crypto_pbkdf2(const char *digest, struct slice password, struct slice salt, unsigned iterations, unsigned char *out)
{
    EVP_MD *md = EVP_MD_fetch(NULL, digest, NULL);
    int len = md ? EVP_MD_get_size(md) : 0;
    bool made = len > 0 && PKCS5_PBKDF2_HMAC(password.ptr, (int)password.len, (const unsigned char *)salt.ptr,
                                             (int)salt.len, (int)iterations, md, len, out) == 1;

    EVP_MD_free(md);
    ERR_clear_error();
    return made ? (size_t)len : 0;
}

/* ---- base64 ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
crypto_base64_encode(struct slice bytes, struct buf *out)
{
    const unsigned char *b = (const unsigned char *)bytes.ptr;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        unsigned group = (unsigned)b[i] << 16 | (left > 1 ? (unsigned)b[i + 1] << 8 : 0) | (left > 2 ? b[i + 2] : 0U);
        buf_append_byte(out, alphabet[group >> 18]);
        buf_append_byte(out, alphabet[group >> 12 & 63]);
        buf_append_byte(out, left > 1 ? alphabet[group >> 6 & 63] : '=');
        buf_append_byte(out, left > 2 ? alphabet[group & 63] : '=');
    }
}

static int
digit(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;

    return at ? (int)(at - alphabet) : -1;
}

int
crypto_base64_decode(struct slice text, struct buf *out)
{
    size_t padding = 0;

    if (text.len % 4 != 0)
        return -1;
    while (padding < 2 && padding < text.len && text.ptr[text.len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text.len; i += 4) {
        size_t digits = i + 4 == text.len ? 4 - padding : 4;
        unsigned group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = j < digits ? digit(text.ptr[i + j]) : 0;
            if (value < 0)
                return -1;
            group = group << 6 | (unsigned)value;
        }
        if ((digits == 2 && (group & 0xffff)) || (digits == 3 && (group & 0xff)))
            return -1;
        buf_append_byte(out, (char)(group >> 16));
        if (digits > 2)
            buf_append_byte(out, (char)(group >> 8));
        if (digits > 3)
            buf_append_byte(out, (char)group);
    }
    return 0;
}
