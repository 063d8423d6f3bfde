/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/password.h"

#include <crypt.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

enum { ITERATIONS = 10000, SALT_SIZE = 18, PASSWORD_MOST = 1024 };

/* A hash by the settings of ours, which no password is known for: what is compared when there is no user. */
#define NOBODY "$y$j9T$0123456789abcdefghijk/$"

static _Atomic unsigned hash_count; /* threads of the pool hash */

static const struct {
    const char *scheme, *digest;
} scrams[] = {{"{SCRAM-SHA-256}", "SHA256"}, {"{SCRAM-SHA-1}", "SHA1"}};

/* crypt(3) into memory that is wiped; NULL: it does not know this kind of hash. The result lives in *data. */
static const char *
hash(struct slice password, const char *setting, struct crypt_data **data)
{
    char text[PASSWORD_MOST + 1];

    *data = NULL;
    if (password.len > PASSWORD_MOST || slice_has_byte(password, '\0'))
        return NULL;
    *data = calloc(1, sizeof **data);
    if (!*data)
        fatal("out of memory");
    hash_count++;
    memcpy(text, password.ptr ? password.ptr : "", password.len);
    text[password.len] = '\0';
    const char *result = crypt_rn(text, setting, *data, sizeof **data);
    crypto_wipe(text, sizeof text);
    return result && result[0] != '*' ? result : NULL;
}

static void
release(struct crypt_data *data)
{
    if (data)
        crypto_wipe(data, sizeof *data);
    free(data);
}

/* ---- storing ---- */

static size_t
derive(const char *digest, struct slice password, struct slice salt, unsigned iterations, unsigned char *out)
{
    hash_count++;
    return crypto_pbkdf2(digest, password, salt, iterations, out);
}

static void
append_scram(struct buf *out, const char *scheme, const char *digest, struct slice password)
{
    unsigned char salt[SALT_SIZE], salted[CRYPTO_DIGEST_MOST], key[CRYPTO_DIGEST_MOST], stored[CRYPTO_DIGEST_MOST];

    crypto_random(salt, sizeof salt);
    size_t size = derive(digest, password, slice_make(salt, sizeof salt), ITERATIONS, salted);
    buf_printf(out, "%s%d,", scheme, ITERATIONS);
    crypto_base64_encode(slice_make(salt, sizeof salt), out);
    crypto_hmac(digest, slice_make(salted, size), slice_from("Client Key"), key);
    crypto_digest(digest, slice_make(key, size), stored);
    buf_append_byte(out, ',');
    crypto_base64_encode(slice_make(stored, size), out);
    crypto_hmac(digest, slice_make(salted, size), slice_from("Server Key"), key);
    buf_append_byte(out, ',');
    crypto_base64_encode(slice_make(key, size), out);
    buf_append_byte(out, '\n');
    crypto_wipe(salted, sizeof salted);
    crypto_wipe(key, sizeof key);
}

const char *
password_record(struct arena *arena, struct slice password, struct err *err)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *data;
    struct buf out = {0};

    if (password.len == 0 || password.len > PASSWORD_MOST || slice_has_byte(password, '\0')) {
        err_set(err, ERR_SYNTAX, "a password must have 1 to %d bytes", PASSWORD_MOST);
        return NULL;
    }
    if (!crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting)) {
        err_set(err, ERR_PERM, "crypt(3) does not know yescrypt");
        return NULL;
    }
    const char *hashed = hash(password, setting, &data);
    if (hashed) {
        buf_printf(&out, "%s\n", hashed);
        for (size_t i = 0; i < ARRAY_LEN(scrams); i++)
            append_scram(&out, scrams[i].scheme, scrams[i].digest, password);
    } else {
        err_set(err, ERR_PERM, "crypt(3) can't make a hash");
    }
    const char *record = hashed ? arena_strdup(arena, buf_text(&out)) : NULL;
    release(data);
    buf_release(&out);
    return record;
}

/* ---- what stands in a record ---- */

/* Takes "{SCHEME}" off the front; empty if there is none. */
static struct slice
take_scheme(struct slice *line)
{
    const char *end = line->len > 0 && line->ptr[0] == '{' ? memchr(line->ptr, '}', line->len) : NULL;
    struct slice scheme = slice_make(line->ptr, end ? (size_t)(end - line->ptr) + 1 : 0);

    *line = slice_make(line->ptr + scheme.len, line->len - scheme.len);
    return scheme;
}

static bool
is_plain(struct slice scheme)
{
    return slice_equal_text_fold(scheme, "{PLAIN}") || slice_equal_text_fold(scheme, "{CLEARTEXT}");
}

bool
password_plain(const char *record, struct slice *password)
{
    struct slice rest = slice_from(record), line;

    while (slice_cut(&rest, '\n', &line)) {
        struct slice scheme = take_scheme(&line);
        *password = line;
        if (is_plain(scheme))
            return line.len > 0;
    }
    return false;
}

/* ---- SCRAM keys ---- */

static bool
decode_key(struct slice text, void *out, size_t most, size_t *len)
{
    struct buf bytes = {0};
    bool good = crypto_base64_decode(text, &bytes) == 0 && bytes.len > 0 && bytes.len <= most;

    if (good) {
        memcpy(out, bytes.ptr, bytes.len);
        *len = bytes.len;
    }
    buf_release(&bytes);
    return good;
}

/* "4096,salt,stored,server" */
static bool
parse_scram(struct slice text, const char *digest, struct scram_keys *keys)
{
    struct slice iterations, salt, stored;
    unsigned char probe[CRYPTO_DIGEST_MOST];
    unsigned long long number;
    size_t size = crypto_digest(digest, slice_from(""), probe), stored_len, server_len;

    if (!slice_cut(&text, ',', &iterations) || !slice_cut(&text, ',', &salt) || !slice_cut(&text, ',', &stored) ||
        slice_to_u64(iterations, 10000000, &number) < 0 || number < 1 ||
        !decode_key(salt, keys->salt, sizeof keys->salt, &keys->salt_len) ||
        !decode_key(stored, keys->stored, sizeof keys->stored, &stored_len) ||
        !decode_key(text, keys->server, sizeof keys->server, &server_len) || stored_len != size || server_len != size)
        return false;
    keys->iterations = (unsigned)number;
    keys->size = size;
    return true;
}

/* keys has salt and iterations. */
static void
derive_scram(struct slice password, const char *digest, struct scram_keys *keys)
{
    unsigned char salted[CRYPTO_DIGEST_MOST], key[CRYPTO_DIGEST_MOST];

    keys->size = derive(digest, password, slice_make(keys->salt, keys->salt_len), keys->iterations, salted);
    crypto_hmac(digest, slice_make(salted, keys->size), slice_from("Client Key"), key);
    crypto_digest(digest, slice_make(key, keys->size), keys->stored);
    crypto_hmac(digest, slice_make(salted, keys->size), slice_from("Server Key"), keys->server);
    crypto_wipe(salted, sizeof salted);
    crypto_wipe(key, sizeof key);
}

/* What can be shown of keys that are not stored: it must not change from one time to the next. */
static void
make_salt(struct slice secret, struct slice user, struct scram_keys *keys)
{
    unsigned char mac[CRYPTO_SHA256_SIZE];

    *keys = (struct scram_keys){.salt_len = SALT_SIZE, .iterations = ITERATIONS};
    crypto_hmac_sha256(secret, user, mac);
    memcpy(keys->salt, mac, SALT_SIZE);
}

bool
password_scram_keys(const char *record, struct slice secret, struct slice user, const char *digest,
                    struct scram_keys *keys)
{
    struct slice rest = slice_from(record), line;

    while (slice_cut(&rest, '\n', &line)) {
        for (size_t i = 0; i < ARRAY_LEN(scrams); i++) {
            size_t length = strlen(scrams[i].scheme);
            if (strcmp(scrams[i].digest, digest) == 0 && slice_starts_with_fold(line, scrams[i].scheme))
                return parse_scram(slice_make(line.ptr + length, line.len - length), digest, keys);
        }
    }
    if (!password_plain(record, &line))
        return false;
    make_salt(secret, user, keys);
    derive_scram(line, digest, keys);
    return true;
}

void
password_scram_pretend(const char *sample, struct slice secret, struct slice user, const char *digest,
                       struct scram_keys *keys)
{
    struct scram_keys other;

    make_salt(secret, user, keys);
    if (sample && password_scram_keys(sample, secret, user, digest, &other)) {
        keys->iterations = other.iterations;
        keys->salt_len = other.salt_len < SALT_SIZE ? other.salt_len : SALT_SIZE;
        crypto_wipe(&other, sizeof other);
    }
    keys->size = crypto_digest(digest, slice_from(""), keys->stored);
    crypto_random(keys->stored, keys->size);
    crypto_random(keys->server, keys->size);
}

/* ---- comparing ---- */

static bool
equal(struct slice a, struct slice b)
{
    unsigned char one[CRYPTO_SHA256_SIZE], other[CRYPTO_SHA256_SIZE], key[16];

    crypto_random(key, sizeof key);
    crypto_hmac_sha256(slice_make(key, sizeof key), a, one);
    crypto_hmac_sha256(slice_make(key, sizeof key), b, other);
    return crypto_equal(one, other, sizeof one);
}

static bool
crypt_matches(struct slice stored, struct slice password)
{
    char setting[CRYPT_OUTPUT_SIZE];
    struct crypt_data *data;

    if (stored.len == 0 || stored.len >= sizeof setting)
        return false;
    memcpy(setting, stored.ptr, stored.len);
    setting[stored.len] = '\0';
    const char *hashed = hash(password, setting, &data);
    bool matches = hashed && equal(slice_from(hashed), stored);
    release(data);
    return matches;
}

static bool
scram_matches(struct slice text, const char *digest, struct slice password)
{
    unsigned char salted[CRYPTO_DIGEST_MOST], key[CRYPTO_DIGEST_MOST], stored[CRYPTO_DIGEST_MOST];
    struct scram_keys keys;

    if (!parse_scram(text, digest, &keys) || !password.ptr)
        return false;
    size_t size = derive(digest, password, slice_make(keys.salt, keys.salt_len), keys.iterations, salted);
    crypto_hmac(digest, slice_make(salted, size), slice_from("Client Key"), key);
    crypto_digest(digest, slice_make(key, size), stored);
    crypto_wipe(salted, sizeof salted);
    crypto_wipe(key, sizeof key);
    return size == keys.size && crypto_equal(stored, keys.stored, size);
}

static bool
is_crypt(struct slice scheme)
{
    static const char *const names[] = {"{CRYPT}", "{MD5-CRYPT}", "{SHA256-CRYPT}", "{SHA512-CRYPT}", "{BLF-CRYPT}"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_text_fold(scheme, names[i]))
            return true;
    return false;
}

bool
password_matches(const char *record, struct slice password, bool *known)
{
    struct slice rest = slice_from(record), line;

    *known = false;
    while (slice_cut(&rest, '\n', &line)) {
        struct slice whole = line, scheme = take_scheme(&line);
        *known = true; /* the first line that is understood decides */
        if (is_crypt(scheme) || (scheme.len == 0 && line.len > 1 && line.ptr[0] == '$'))
            return crypt_matches(line, password);
        if (is_plain(scheme))
            return equal(line, password);
        for (size_t i = 0; i < ARRAY_LEN(scrams); i++)
            if (slice_starts_with_fold(whole, scrams[i].scheme))
                return scram_matches(line, scrams[i].digest, password);
        *known = false;
    }
    return false;
}

void
password_pretend(const char *sample, struct slice password)
{
    struct crypt_data *data;
    bool known = false;

    if (sample)
        (void)password_matches(sample, password, &known);
    if (known)
        return;
    (void)hash(password, NOBODY, &data);
    release(data);
}

unsigned
password_hash_count(void)
{
    return hash_count;
}
