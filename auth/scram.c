/* SPDX-License-Identifier: Apache-2.0 */
/* SCRAM-SHA-1 and SCRAM-SHA-256, with and without channel binding: RFC 5802, 7677, 9266. A user who does not exist gets keys that
 * fit no password, so that the dialogue is the same. */
#include <string.h>

#include "auth/mechanism.h"
#include "auth/source.h"
#include "lib/mail/password.h"
#include "lib/run/crypto.h"

enum { NONCE_SIZE = 18, MESSAGE_MOST = 4096 };

struct scram {
    struct request *r;
    const char *digest;
    bool plus;
    struct slice header;     /* "p=tls-exporter,," of the first message */
    struct slice first_bare; /* what follows it */
    const char *nonce;       /* the client's and ours */
    const char *server_first;
    struct scram_keys keys;
    bool exists;
};

/* The value of "x=..." at the front of the text, up to the comma; taken off. */
static bool
take(struct slice *rest, char name, struct slice *value)
{
    struct slice part;

    if (!slice_cut(rest, ',', &part) || part.len < 2 || part.ptr[0] != name || part.ptr[1] != '=')
        return false;
    *value = slice_make(part.ptr + 2, part.len - 2);
    return true;
}

/* "=2C" and "=3D" in names. */
static bool
decode_name(struct arena *arena, struct slice text, struct slice *name)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t length = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '=') {
            out[length++] = text.ptr[i];
            continue;
        }
        struct slice code = slice_make(text.ptr + i, text.len - i < 3 ? text.len - i : 3);
        if (!slice_equal_text(code, "=2C") && !slice_equal_text(code, "=3D"))
            return false;
        out[length++] = slice_equal_text(code, "=2C") ? ',' : '=';
        i += 2;
    }
    *name = slice_make(out, length);
    return true;
}

/* The channel binding that the client wants must be the one of this mechanism; "y" says that it believes that we have none, which
 * an attacker may have made it believe. */
static bool
binding_fits(const struct scram *scram, struct slice flag)
{
    if (scram->plus)
        return slice_equal_text(flag, "p=tls-exporter") && scram->r->binding[0];
    if (slice_equal_text(flag, "y"))
        return !scram->r->binding[0];
    return slice_equal_text(flag, "n");
}

static bool
read_first(struct scram *scram, struct slice *user)
{
    struct slice message = arena_slice(scram->r->arena, buf_slice(&scram->r->response)), rest = message, flag,
                 authorize, name, nonce;

    if (message.len > MESSAGE_MOST || slice_has_byte(message, '\0') || !slice_cut(&rest, ',', &flag) ||
        !slice_cut(&rest, ',', &authorize) || !binding_fits(scram, flag))
        return false;
    scram->first_bare = rest;
    scram->header = slice_make(message.ptr, (size_t)(rest.ptr - message.ptr));
    if (!take(&rest, 'n', &name) || !take(&rest, 'r', &nonce) || nonce.len == 0 ||
        !decode_name(scram->r->arena, name, user))
        return false;
    if (authorize.len > 0 &&
        (authorize.len < 2 || !slice_equal(slice_make(authorize.ptr + 2, authorize.len - 2), name)))
        return false;
    unsigned char fresh[NONCE_SIZE];
    struct buf text = {0};
    crypto_random(fresh, sizeof fresh);
    crypto_base64_encode(slice_make(fresh, sizeof fresh), &text);
    scram->nonce = arena_printf(scram->r->arena, "%.*s%s", SLICE_ARG(nonce), buf_text(&text));
    buf_release(&text);
    return true;
}

static void
make_server_first(struct scram *scram)
{
    struct buf salt = {0};

    crypto_base64_encode(slice_make(scram->keys.salt, scram->keys.salt_len), &salt);
    scram->server_first =
        arena_printf(scram->r->arena, "r=%s,s=%s,i=%u", scram->nonce, buf_text(&salt), scram->keys.iterations);
    buf_release(&salt);
}

/* Does "c=" repeat the header of the first message, with the channel binding behind it? */
static bool
repeats_header(const struct scram *scram, struct slice text)
{
    struct buf got = {0}, want = {0}, binding = {0};

    buf_append_slice(&want, scram->header);
    bool good = crypto_base64_decode(text, &got) == 0;
    if (scram->plus) {
        good = good && crypto_base64_decode(slice_from(scram->r->binding), &binding) == 0;
        buf_append_slice(&want, buf_slice(&binding));
    }
    good = good && slice_equal(buf_slice(&got), buf_slice(&want));
    buf_release(&got);
    buf_release(&want);
    buf_release(&binding);
    return good;
}

/* The proof is the client key, xored with its signature of the dialogue (RFC 5802 section 3). */
static bool
proof_is_right(struct scram *scram, struct slice auth_message, struct slice proof_text)
{
    unsigned char signature[CRYPTO_DIGEST_MOST], key[CRYPTO_DIGEST_MOST], stored[CRYPTO_DIGEST_MOST];
    size_t size = scram->keys.size;
    struct buf proof = {0};

    bool good = crypto_base64_decode(proof_text, &proof) == 0 && proof.len == size;
    crypto_hmac(scram->digest, slice_make(scram->keys.stored, size), auth_message, signature);
    for (size_t i = 0; good && i < size; i++)
        key[i] = (unsigned char)(signature[i] ^ (unsigned char)proof.ptr[i]);
    if (good) {
        crypto_digest(scram->digest, slice_make(key, size), stored);
        good = crypto_equal(stored, scram->keys.stored, size);
    }
    crypto_wipe(key, sizeof key);
    crypto_wipe(proof.ptr, proof.len);
    buf_release(&proof);
    return good && scram->exists;
}

static bool
check_final(struct scram *scram, struct slice *server_signature)
{
    struct slice message = buf_slice(&scram->r->response), rest = message, channel, nonce, part, proof = {0};
    unsigned char signature[CRYPTO_DIGEST_MOST];
    size_t before_proof = 0;
    struct buf text = {0};

    if (message.len > MESSAGE_MOST || !take(&rest, 'c', &channel) || !take(&rest, 'r', &nonce) ||
        !slice_equal_text(nonce, scram->nonce) || !repeats_header(scram, channel))
        return false;
    while (slice_cut(&rest, ',', &part))
        if (part.len > 2 && part.ptr[0] == 'p' && part.ptr[1] == '=') {
            proof = slice_make(part.ptr + 2, part.len - 2);
            before_proof = (size_t)(part.ptr - message.ptr) - 1;
        }
    if (proof.len == 0)
        return false;
    buf_append_slice(&text, scram->first_bare);
    buf_printf(&text, ",%s,", scram->server_first);
    buf_append(&text, message.ptr, before_proof);
    bool good = proof_is_right(scram, buf_slice(&text), proof);
    crypto_hmac(scram->digest, slice_make(scram->keys.server, scram->keys.size), buf_slice(&text), signature);
    buf_release(&text);
    buf_append_text(&text, "v=");
    crypto_base64_encode(slice_make(signature, scram->keys.size), &text);
    *server_signature = arena_slice(scram->r->arena, buf_slice(&text));
    buf_release(&text);
    return good;
}

static enum verdict may_wait
run(struct request *r, const char *digest)
{
    struct scram *scram = ARENA_NEW(r->arena, struct scram);
    struct slice user, server_signature = {0};

    scram->r = r;
    scram->digest = digest;
    scram->plus = strlen(r->mechanism) > 5 && strcmp(r->mechanism + strlen(r->mechanism) - 5, "-PLUS") == 0;
    if (request_initial(r) < 0)
        return VERDICT_GONE;
    if (!read_first(scram, &user) || !source_set_user(r, user))
        return VERDICT_FAILED;
    enum verdict verdict = source_scram_keys(r, digest, &scram->keys, &scram->exists);
    if (verdict != VERDICT_OK)
        return verdict;
    make_server_first(scram);
    if (request_challenge(r, slice_from(scram->server_first)) < 0)
        return VERDICT_GONE;
    bool good = check_final(scram, &server_signature);
    crypto_wipe(&scram->keys, sizeof scram->keys);
    if (!good)
        return VERDICT_FAILED;
    if (request_challenge(r, server_signature) < 0)
        return VERDICT_GONE;
    return VERDICT_OK;
}

enum verdict may_wait
mechanism_scram_sha256(struct request *r)
{
    return run(r, "SHA256");
}

enum verdict may_wait
mechanism_scram_sha1(struct request *r)
{
    return run(r, "SHA1");
}
