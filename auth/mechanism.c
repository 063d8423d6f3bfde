/* SPDX-License-Identifier: Apache-2.0 */
/* The table of mechanisms, and those that hand a password or a certificate's name over as it is. */
#include "auth/mechanism.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "auth/gssapi.h"
#include "auth/source.h"
#include "lib/run/crypto.h"
#include "lib/run/loop.h"

enum needs { NEEDS_NOTHING, NEEDS_PASSWORD, NEEDS_RECORD, NEEDS_TOKENS, NEEDS_KEYTAB };

static const struct {
    struct mechanism mechanism;
    enum needs needs;
} rows[] = {
#define MECHANISM(name, run, properties, needs) {{name, properties, run}, needs},
#include "auth/mechanisms.def"
#undef MECHANISM
};

static bool
works(const struct server *server, enum needs needs)
{
    switch (needs) {
    case NEEDS_PASSWORD: return server->source_count > 0;
    case NEEDS_RECORD: return server_has_source(server, SOURCE_USERS) || server_has_source(server, SOURCE_TABLE);
    case NEEDS_TOKENS: return !maps_is_empty(server->tokens);
    case NEEDS_KEYTAB: return gssapi_is_ready();
    case NEEDS_NOTHING: break;
    }
    return true;
}

bool
mechanism_is_wanted(const struct server *server, const char *name)
{
    struct slice rest = slice_from(server->set.auth_mechanisms), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, name))
            return true;
    return false;
}

const struct mechanism *
mechanism_next(const struct server *server, unsigned *index)
{
    while (*index < ARRAY_LEN(rows)) {
        unsigned i = (*index)++;
        if (works(server, rows[i].needs) && mechanism_is_wanted(server, rows[i].mechanism.name))
            return &rows[i].mechanism;
    }
    return NULL;
}

const struct mechanism *
mechanism_find(const struct server *server, const char *name)
{
    const struct mechanism *mechanism;
    unsigned index = 0;

    while ((mechanism = mechanism_next(server, &index)))
        if (strcmp(mechanism->name, name) == 0)
            return mechanism;
    return NULL;
}

/* ---- PLAIN: RFC 4616 ---- */

enum verdict may_wait
mechanism_plain(struct request *r)
{
    struct slice rest, authorize, user;

    if (request_initial(r) < 0)
        return VERDICT_GONE;
    rest = buf_slice(&r->response);
    if (!slice_cut(&rest, '\0', &authorize) || !slice_cut(&rest, '\0', &user) || slice_has_byte(rest, '\0'))
        return VERDICT_FAILED;
    /* Nobody acts for somebody else. */
    if (authorize.len > 0 && !slice_equal(authorize, user))
        return VERDICT_FAILED;
    return source_check(r, user, rest);
}

/* ---- LOGIN: no standard, but widely used ---- */

enum verdict may_wait
mechanism_login(struct request *r)
{
    if (r->has_response ? request_initial(r) < 0 : request_challenge(r, slice_from("Username:")) < 0)
        return VERDICT_GONE;
    const char *user = arena_strndup(r->arena, r->response.ptr ? r->response.ptr : "", r->response.len);
    size_t length = r->response.len;
    if (request_challenge(r, slice_from("Password:")) < 0)
        return VERDICT_GONE;
    return source_check(r, slice_make(user, length), buf_slice(&r->response));
}

/* ---- CRAM-MD5: RFC 2195 ---- */

static void
hmac_text(struct slice password, struct slice challenge, char text[2 * CRYPTO_DIGEST_MOST + 1])
{
    unsigned char mac[CRYPTO_DIGEST_MOST];
    size_t size = crypto_hmac("MD5", password, challenge, mac);

    text[0] = '\0';
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", mac[i]);
}

/* Nobody's password is one that nobody knows. */
enum verdict may_wait
mechanism_cram_md5(struct request *r)
{
    enum { DIGEST_TEXT = 32 };
    char right[2 * CRYPTO_DIGEST_MOST + 1];
    unsigned char unknown[16];
    uint64_t number;
    struct slice user, password, digest;

    crypto_random(&number, sizeof number);
    const char *challenge = arena_printf(r->arena, "<%" PRIu64 ".%lld@%s>", number,
                                         (long long)(loop_now_wall() / SECONDS(1)), r->server->set.myhostname);
    if (request_challenge(r, slice_from(challenge)) < 0)
        return VERDICT_GONE;
    user = digest = buf_slice(&r->response);
    if (user.len <= DIGEST_TEXT + 1 || user.ptr[user.len - DIGEST_TEXT - 1] != ' ')
        return VERDICT_FAILED;
    digest = slice_make(user.ptr + user.len - DIGEST_TEXT, DIGEST_TEXT);
    user.len -= DIGEST_TEXT + 1;
    if (!source_set_user(r, user))
        return VERDICT_FAILED;
    enum verdict verdict = source_plain(r, &password);
    if (verdict != VERDICT_OK)
        return verdict;
    crypto_random(unknown, sizeof unknown);
    hmac_text(password.ptr ? password : slice_make(unknown, sizeof unknown), slice_from(challenge), right);
    bool good = strlen(right) == DIGEST_TEXT && crypto_equal(right, digest.ptr, DIGEST_TEXT) && password.ptr;
    crypto_wipe(right, sizeof right);
    return good ? VERDICT_OK : VERDICT_FAILED;
}

/* ---- EXTERNAL: RFC 4422, appendix A ---- */

enum verdict may_wait
mechanism_external(struct request *r)
{
    if (request_initial(r) < 0)
        return VERDICT_GONE;
    if (!r->valid_certificate || !r->certificate_name[0])
        return VERDICT_FAILED;
    if (r->response.len > 0 && !slice_equal_text(buf_slice(&r->response), r->certificate_name))
        return VERDICT_FAILED;
    return source_accept(r, slice_from(r->certificate_name));
}

/* ---- tokens: XOAUTH2, and OAUTHBEARER (RFC 7628) ---- */

/* auth_token_maps say whose token it is; that must be who the client says to be. */
static enum verdict may_wait
check_token(struct request *r, struct slice user, struct slice token)
{
    const char *owner = NULL;
    struct err err;

    if (user.len == 0 || token.len == 0)
        return VERDICT_FAILED;
    if (!source_set_user(r, user))
        return VERDICT_FAILED;
    if (maps_find(r->server->tokens, r->arena, token, &owner, &err) < 0)
        return source_failed("auth_token_maps", &err);
    if (!owner || !slice_equal_text_fold(slice_from(r->user), owner))
        return VERDICT_FAILED;
    return VERDICT_OK;
}

/* "user=NAME^Aauth=Bearer TOKEN^A^A", or the same behind "n,a=NAME,^A". */
static enum verdict may_wait
bearer(struct request *r, bool has_header)
{
    struct slice rest, field, user = {0}, token = {0};

    if (request_initial(r) < 0)
        return VERDICT_GONE;
    rest = arena_slice(r->arena, buf_slice(&r->response));
    if (has_header && slice_cut(&rest, '\001', &field)) {
        struct slice part;
        while (slice_cut(&field, ',', &part))
            if (part.len > 2 && memcmp(part.ptr, "a=", 2) == 0)
                user = slice_make(part.ptr + 2, part.len - 2);
    }
    while (slice_cut(&rest, '\001', &field)) {
        if (!has_header && slice_starts_with_fold(field, "user="))
            user = slice_make(field.ptr + 5, field.len - 5);
        if (slice_starts_with_fold(field, "auth=Bearer "))
            token = slice_make(field.ptr + 12, field.len - 12);
    }
    enum verdict verdict = check_token(r, user, token);
    if (verdict == VERDICT_FAILED && request_challenge(r, slice_from("{\"status\":\"invalid_token\"}")) < 0)
        return VERDICT_GONE;
    return verdict;
}

enum verdict may_wait
mechanism_xoauth2(struct request *r)
{
    return bearer(r, false);
}

enum verdict may_wait
mechanism_oauthbearer(struct request *r)
{
    return bearer(r, true);
}
