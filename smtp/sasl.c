/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/sasl.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/run/crypto.h"
#include "lib/run/loop.h"
#include "lib/smtp/client_reply.h"
#include "smtp/client.h"

enum { CHALLENGE_MOST = 8192, ITERATIONS_MOST = 1000000 };

/* A login under way. */
struct login {
    struct session *s;
    struct arena *arena;
    struct failure *failure;
    const char *user, *password;
    const char *mechanism;
    struct client_reply reply; /* the last */
};

struct mechanism {
    const char *name;
    const char *digest;
    bool plaintext;
    int (*run)(struct login *);
};

/* ---- what is sent ---- */

/* Sends a line of base64, behind prefix, and reads the reply. */
static int may_wait
say(struct login *login, const char *prefix, struct slice bytes)
{
    struct session *s = login->s;
    struct buf line = {0};

    buf_reserve(&line, strlen(prefix) + bytes.len * 4 / 3 + 16);
    buf_append_text(&line, prefix);
    crypto_base64_encode(bytes, &line);
    buf_append_text(&line, "\r\n");
    stream_write(s->stream, line.ptr, line.len);
    crypto_wipe(line.ptr, line.len);
    buf_release(&line);
    login->reply = (struct client_reply){.code = 0};
    return session_reply(s, login->arena, s->client->hello_timeout, "performing the SASL handshake", &login->reply,
                         login->failure);
}

static int may_wait
begin(struct login *login)
{
    stream_printf(login->s->stream, "AUTH %s\r\n", login->mechanism);
    login->reply = (struct client_reply){.code = 0};
    return session_reply(login->s, login->arena, login->s->client->hello_timeout, "performing the SASL handshake",
                         &login->reply, login->failure);
}

/* The challenge of a reply of 334, decoded. 1: it is something else, which the caller's caller judges. */
static int
challenge(struct login *login, struct slice *bytes)
{
    const char *rest = login->reply.text;
    struct buf out = {0};
    struct slice line;

    if (login->reply.code != 334 || !client_reply_next_line(&rest, &line))
        return 1;
    line = slice_trim(line);
    if (line.len > CHALLENGE_MOST || crypto_base64_decode(line, &out) < 0) {
        buf_release(&out);
        return failure_set(login->failure, login->arena, "4.7.0",
                           "SASL authentication failed; malformed challenge from %s", login->s->label);
    }
    *bytes = arena_slice(login->arena, buf_slice(&out));
    buf_release(&out);
    return 0;
}

/* ---- the mechanisms: 0: login->reply is the server's verdict; -1: failure ---- */

static int may_wait
run_plain(struct login *login)
{
    struct buf text = {0};

    buf_reserve(&text, strlen(login->user) + strlen(login->password) + 8);
    if (login->s->client->set.send_cyrus_sasl_authzid)
        buf_append_text(&text, login->user);
    buf_append_byte(&text, '\0');
    buf_append_text(&text, login->user);
    buf_append_byte(&text, '\0');
    buf_append_text(&text, login->password);
    int result = say(login, "AUTH PLAIN ", buf_slice(&text));
    crypto_wipe(text.ptr, text.len);
    buf_release(&text);
    return result;
}

static int may_wait
run_login(struct login *login)
{
    if (begin(login) < 0)
        return -1;
    if (login->reply.code != 334)
        return 0;
    if (say(login, "", slice_from(login->user)) < 0)
        return -1;
    return login->reply.code == 334 ? say(login, "", slice_from(login->password)) : 0;
}

static int may_wait
run_cram_md5(struct login *login)
{
    unsigned char mac[CRYPTO_DIGEST_MOST];
    struct slice text;
    int more;

    if (begin(login) < 0)
        return -1;
    if ((more = challenge(login, &text)) != 0)
        return more < 0 ? -1 : 0;
    size_t size = crypto_hmac("MD5", slice_from(login->password), text, mac);
    struct buf answer = {0};
    buf_printf(&answer, "%s ", login->user);
    for (size_t i = 0; i < size; i++)
        buf_printf(&answer, "%02x", mac[i]);
    int result = say(login, "", buf_slice(&answer));
    buf_release(&answer);
    return result;
}

/* "x=value" of a SCRAM message. */
static bool
field(struct slice message, char name, struct slice *value)
{
    struct slice part;

    while (slice_cut(&message, ',', &part))
        if (part.len > 2 && part.ptr[0] == name && part.ptr[1] == '=') {
            *value = slice_make(part.ptr + 2, part.len - 2);
            return true;
        }
    return false;
}

static const char *
scram_name(struct arena *arena, const char *user)
{
    struct buf out = {0};

    for (const char *c = user; *c; c++)
        if (*c == ',' || *c == '=')
            buf_append_text(&out, *c == ',' ? "=2C" : "=3D");
        else
            buf_append_byte(&out, *c);
    const char *name = arena_strdup(arena, buf_text(&out));
    buf_release(&out);
    return name;
}

/* RFC 5802 section 3: the proof, and what the server must answer. */
static void
scram_proof(const struct login *login, const char *digest, struct slice salt, unsigned iterations,
            struct slice auth_message, struct buf *proof, struct buf *server)
{
    unsigned char salted[CRYPTO_DIGEST_MOST], key[CRYPTO_DIGEST_MOST], stored[CRYPTO_DIGEST_MOST],
        signature[CRYPTO_DIGEST_MOST];
    size_t size = crypto_pbkdf2(digest, slice_from(login->password), salt, iterations, salted);

    crypto_hmac(digest, slice_make(salted, size), slice_from("Client Key"), key);
    crypto_digest(digest, slice_make(key, size), stored);
    crypto_hmac(digest, slice_make(stored, size), auth_message, signature);
    for (size_t i = 0; i < size; i++)
        key[i] ^= signature[i];
    crypto_base64_encode(slice_make(key, size), proof);
    crypto_hmac(digest, slice_make(salted, size), slice_from("Server Key"), key);
    crypto_hmac(digest, slice_make(key, size), auth_message, signature);
    buf_append_text(server, "v=");
    crypto_base64_encode(slice_make(signature, size), server);
    crypto_wipe(salted, sizeof salted);
    crypto_wipe(key, sizeof key);
}

static int may_wait
scram_final(struct login *login, const char *digest, const char *bare, const char *nonce, struct slice first)
{
    struct slice full_nonce, salt_text, count_text, said;
    struct buf salt = {0}, proof = {0}, server = {0};
    unsigned long long iterations;

    bool good = field(first, 'r', &full_nonce) && field(first, 's', &salt_text) && field(first, 'i', &count_text) &&
                full_nonce.len > strlen(nonce) && memcmp(full_nonce.ptr, nonce, strlen(nonce)) == 0 &&
                slice_to_u64(count_text, ITERATIONS_MOST, &iterations) == 0 && iterations > 0 &&
                crypto_base64_decode(salt_text, &salt) == 0;
    if (!good) {
        buf_release(&salt);
        return failure_set(login->failure, login->arena, "4.7.0",
                           "SASL authentication failed; malformed challenge from %s", login->s->label);
    }
    const char *final = arena_printf(login->arena, "c=biws,r=%.*s", SLICE_ARG(full_nonce));
    const char *message = arena_printf(login->arena, "%s,%.*s,%s", bare, SLICE_ARG(first), final);
    scram_proof(login, digest, buf_slice(&salt), (unsigned)iterations, slice_from(message), &proof, &server);
    int result = say(login, "", slice_from(arena_printf(login->arena, "%s,p=%s", final, buf_text(&proof))));
    if (result == 0 && challenge(login, &said) == 0) {
        /* The server has to show that it knows the password, too. */
        if (!slice_equal_text(said, buf_text(&server)))
            result = failure_set(login->failure, login->arena, "4.7.0",
                                 "SASL authentication failed; server %s does not know the password", login->s->label);
        else
            result = say(login, "", slice_from(""));
    }
    buf_release(&salt);
    buf_release(&proof);
    buf_release(&server);
    return result;
}

static int may_wait
run_scram(struct login *login, const char *digest)
{
    unsigned char fresh[18];
    struct buf nonce = {0};
    struct slice first;

    crypto_random(fresh, sizeof fresh);
    crypto_base64_encode(slice_make(fresh, sizeof fresh), &nonce);
    const char *mine = arena_strdup(login->arena, buf_text(&nonce));
    buf_release(&nonce);
    const char *bare = arena_printf(login->arena, "n=%s,r=%s", scram_name(login->arena, login->user), mine);
    if (say(login, arena_printf(login->arena, "AUTH %s ", login->mechanism),
            slice_from(arena_printf(login->arena, "n,,%s", bare))) < 0)
        return -1;
    int more = challenge(login, &first);
    if (more != 0)
        return more < 0 ? -1 : 0;
    return scram_final(login, digest, bare, mine, first);
}

static int may_wait
run_scram_sha256(struct login *login)
{
    return run_scram(login, "SHA256");
}

static int may_wait
run_scram_sha1(struct login *login)
{
    return run_scram(login, "SHA1");
}

/* The best first. */
static const struct mechanism mechanisms[] = {
    {"SCRAM-SHA-256", "SHA256", false, run_scram_sha256},
    {"SCRAM-SHA-1", "SHA1", false, run_scram_sha1},
    {"CRAM-MD5", "MD5", false, run_cram_md5},
    {"PLAIN", NULL, true, run_plain},
    {"LOGIN", NULL, true, run_login},
};

/* ---- which mechanism ---- */

static bool
has_word(const char *list, const char *separators, const char *wanted)
{
    struct slice rest = slice_from(list), word;

    while (slice_word(&rest, separators, &word))
        if (slice_equal_text_fold(word, wanted))
            return true;
    return false;
}

static const char *
security_options(const struct session *s)
{
    const struct smtp_settings *set = &s->client->set;
    struct tls_info tls;

    if (!stream_is_tls(s->stream))
        return set->smtp_sasl_security_options;
    stream_tls_info(s->stream, &tls);
    return tls.peer_is_trusted && tls.peer_name_matches ? set->smtp_sasl_tls_verified_security_options
                                                        : set->smtp_sasl_tls_security_options;
}

static const struct mechanism *may_wait
choose(struct session *s)
{
    const char *options = security_options(s);
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
        bool wanted = true;
        if (!has_word(s->auth_offered, " ", mechanisms[i].name) ||
            (mechanisms[i].plaintext && has_word(options, ", \t\r\n", "noplaintext")) ||
            has_word(options, ", \t\r\n", "forward_secrecy") ||
            (strncmp(mechanisms[i].name, "SCRAM", 5) != 0 && has_word(options, ", \t\r\n", "mutual_auth")))
            continue;
        if (!match_list_is_empty(s->client->sasl_filter) &&
            match_list_text(s->client->sasl_filter, slice_from(mechanisms[i].name), &wanted, &err) < 0) {
            log_warning("smtp_sasl_mechanism_filter: %s", err.text);
            continue;
        }
        if (wanted)
            return &mechanisms[i];
    }
    return NULL;
}

const char *
sasl_offered(struct arena *arena, const char *reply_text)
{
    const char *offered = "";
    struct slice line;

    client_reply_next_line(&reply_text, &line);
    while (client_reply_next_line(&reply_text, &line))
        if (slice_starts_with_fold(line, "AUTH ") || slice_starts_with_fold(line, "AUTH="))
            offered = arena_printf(arena, "%s %.*s", offered, (int)(line.len - 5), line.ptr + 5);
    return offered;
}

/* ---- which password ---- */

/* "user:password"; *secret NULL: none for this server. */
static int may_wait
find_secret(struct session *s, struct arena *arena, const char *next_hop, const char *sender, const char **secret,
            struct err *err)
{
    const struct client *client = s->client;
    const char *keys[] = {client->set.smtp_sender_dependent_authentication ? sender : "", s->name, next_hop};
    const char *extension;

    *secret = NULL;
    if (keys[0][0] &&
        maps_find_address(client->sasl_passwords, arena, slice_from(keys[0]), client->set.recipient_delimiter,
                          MAPS_FULL | MAPS_DOMAIN, NULL, secret, &extension, err) < 0)
        return -1;
    for (size_t i = 1; i < ARRAY_LEN(keys) && !*secret; i++)
        if (maps_find(client->sasl_passwords, arena, slice_from(keys[i]), secret, err) < 0)
            return -1;
    return 0;
}

static bool
split_secret(struct login *login, const char *secret)
{
    const char *delimiter = login->s->client->set.smtp_sasl_password_result_delimiter;
    const char *at = delimiter[0] ? strstr(secret, delimiter) : NULL;

    login->user = at ? arena_strndup(login->arena, secret, (size_t)(at - secret)) : secret;
    login->password = at ? at + strlen(delimiter) : "";
    return login->user[0] && login->password[0];
}

/* ---- the whole ---- */

static int
refused(struct login *login)
{
    const char *said = client_reply_joined(&login->reply, login->arena);
    char *dsn = arena_strdup(login->arena, login->reply.dsn);

    if (login->s->client->set.smtp_sasl_auth_soft_bounce || login->reply.code / 100 != 5)
        dsn[0] = '4';
    if (strcmp(dsn + 1, ".0.0") == 0)
        dsn = arena_printf(login->arena, "%c.7.8", dsn[0]);
    failure_set(login->failure, login->arena, dsn, "SASL authentication failed; server %s said: %s", login->s->label,
                said);
    login->failure->is_permanent = dsn[0] == '5';
    login->failure->is_of_host = true;
    login->failure->mta_name = arena_strdup(login->arena, login->s->name);
    return -1;
}

static int
not_possible(struct login *login, const char *why)
{
    failure_set(login->failure, login->arena, "4.7.0", "SASL authentication failed; %s", why);
    login->failure->is_of_host = true;
    login->failure->mta_name = arena_strdup(login->arena, login->s->name);
    return -1;
}

int may_wait
sasl_log_in(struct session *s, struct arena *arena, const char *next_hop, const char *sender, struct failure *failure)
{
    struct login login = {.s = s, .arena = arena, .failure = failure};
    const char *secret;
    struct err err;

    if (!s->client->set.smtp_sasl_auth_enable || !s->auth_offered[0])
        return 0;
    if (find_secret(s, arena, next_hop, sender, &secret, &err) < 0) {
        log_warning("smtp_sasl_password_maps: %s", err.text);
        return not_possible(&login, "a table with passwords can't be read");
    }
    if (!secret)
        return 0;
    if (!split_secret(&login, secret))
        return not_possible(
            &login, arena_printf(arena, "the entry for %s in smtp_sasl_password_maps is not user:password", s->name));
    const struct mechanism *mechanism = choose(s);
    if (!mechanism)
        return not_possible(&login, arena_printf(arena,
                                                 "server %s offered no compatible authentication mechanisms for "
                                                 "this type of connection security",
                                                 s->label));
    login.mechanism = mechanism->name;
    if (mechanism->run(&login) < 0) {
        failure->is_of_host = true;
        failure->mta_name = arena_strdup(arena, s->name);
        return -1;
    }
    if (login.reply.code / 100 != 2)
        return refused(&login);
    s->logged_in = true;
    return 0;
}
