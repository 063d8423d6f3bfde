/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/source.h"

#include <string.h>
#include <unistd.h>

#include "auth/pam.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/run/crypto.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/stream.h"

#define SASLAUTHD_TIME SECONDS(60)

/* What a source says of a user and a password. */
enum answer { ANSWER_YES, ANSWER_NO, ANSWER_UNKNOWN, ANSWER_FAILED };

enum verdict
source_failed(const char *source, const struct err *err)
{
    log_warning("auth_sources: %s: %s", source, err->text);
    return VERDICT_TEMP;
}

bool
source_set_user(struct request *r, struct slice user)
{
    const char *realm = r->server->set.smtpd_sasl_local_domain;

    if (!user_table_name_is_valid(user))
        return false;
    char *name = realm[0] && !slice_has_byte(user, '@') ? arena_printf(r->arena, "%.*s@%s", SLICE_ARG(user), realm)
                                                        : arena_strndup(r->arena, user.ptr, user.len);
    text_lower_all(name, strlen(name));
    if (strlen(name) > USER_NAME_SIZE)
        return false;
    r->user = name;
    return true;
}

/* ---- stored passwords ---- */

/* The record that the source has of the user; NULL: it has none. -1: it can't be asked. */
static int may_wait
find_record(struct request *r, const struct source *source, const char **record, struct err *err)
{
    if (source->kind == SOURCE_USERS)
        return user_table_get(r->server->users, r->arena, slice_from(r->user), record, err);
    return maps_find(source->maps, r->arena, slice_from(r->user), record, err);
}

/* Kept for as long as the process lives: who makes up names must see no difference between two answers. */
static const char *
sample_of(struct request *r, const char *record)
{
    if (record && !r->server->sample)
        r->server->sample = arena_strdup(r->server->arena, record);
    return r->server->sample;
}

static bool
has_records(const struct source *source)
{
    return source->kind == SOURCE_USERS || source->kind == SOURCE_TABLE;
}

/* Work for a thread of the pool. */
struct compare {
    const char *record; /* NULL: there is no such user */
    const char *sample;
    struct slice password;
    bool matches, known;
};

static void
compare(void *arg)
{
    struct compare *work = arg;

    if (work->record)
        work->matches = password_matches(work->record, work->password, &work->known);
    if (!work->known)
        password_pretend(work->sample, work->password);
}

static void may_wait
pretend(struct request *r, struct slice password)
{
    struct compare work = {.sample = sample_of(r, NULL), .password = password};

    task_run_blocking(compare, &work);
}

/* A name that it does not know costs no hash here: source_check() sees to one. */
static enum answer may_wait
ask_record(struct request *r, const struct source *source, struct slice password, bool *hashed, struct err *err)
{
    struct compare work = {.password = password};

    if (find_record(r, source, &work.record, err) < 0)
        return ANSWER_FAILED;
    if (!work.record)
        return ANSWER_UNKNOWN;
    work.sample = sample_of(r, work.record);
    *hashed = true;
    task_run_blocking(compare, &work);
    if (!work.known) {
        err_set(err, ERR_PERM, "user %s: a password of unknown kind", r->user);
        return ANSWER_FAILED;
    }
    return work.matches ? ANSWER_YES : ANSWER_NO;
}

/* ---- saslauthd: counted strings, and "OK" or "NO" ---- */

static void
add_counted(struct buf *out, struct slice text)
{
    char count[2] = {(char)(text.len >> 8), (char)(text.len & 255)};

    buf_append(out, count, 2);
    buf_append_slice(out, text);
}

static int may_wait
saslauthd_answer(struct stream *stream, char *answer, size_t size, struct err *err)
{
    unsigned char count[2];

    if (stream_read(stream, count, 2, err) < 0)
        return -1;
    size_t length = (size_t)count[0] << 8 | count[1], taken = length < size ? length : size - 1;
    if (stream_read(stream, answer, taken, err) < 0)
        return -1;
    answer[taken] = '\0';
    return 0;
}

static enum answer may_wait
ask_saslauthd(struct request *r, const struct source *source, struct slice password, struct err *err)
{
    const char *path = source->argument[0] ? source->argument : "/run/saslauthd/mux";
    struct slice user = slice_from(r->user), realm = user;
    char answer[64] = "";
    struct net_addr addr;
    struct buf question = {0};

    if (net_addr_unix(path, &addr, err) < 0)
        return ANSWER_FAILED;
    int fd = net_connect(&addr, NULL, loop_now() + SASLAUTHD_TIME, err);
    if (fd < 0) {
        err_context(err, "%s", path);
        return ANSWER_FAILED;
    }
    struct stream *stream = stream_new(fd);
    slice_cut(&realm, '@', &user);
    add_counted(&question, user);
    add_counted(&question, password);
    add_counted(&question, slice_from(r->service));
    add_counted(&question, realm);
    stream_set_deadline(stream, loop_now() + SASLAUTHD_TIME);
    stream_write(stream, question.ptr, question.len);
    crypto_wipe(question.ptr, question.len);
    buf_release(&question);
    int result = saslauthd_answer(stream, answer, sizeof answer, err);
    stream_free(&stream);
    if (result == 0 && strncmp(answer, "OK", 2) == 0)
        return ANSWER_YES;
    if (result == 0 && strncmp(answer, "NO", 2) == 0)
        return ANSWER_UNKNOWN; /* it does not tell which */
    if (result == 0)
        err_set(err, ERR_TEMP, "%s: strange answer", path);
    return ANSWER_FAILED;
}

/* ---- PAM ---- */

static enum answer may_wait
ask_pam(struct request *r, const struct source *source, struct slice password, struct err *err)
{
    struct pam_work work = {.service = source->argument[0] ? source->argument : r->service,
                            .user = r->user,
                            .password = arena_strndup(r->arena, password.ptr ? password.ptr : "", password.len),
                            .client = r->client};

    task_run_blocking(pam_check, &work);
    crypto_wipe((char *)(uintptr_t)work.password, password.len);
    if (work.result == PAM_RESULT_FAILED)
        err_set(err, ERR_TEMP, "PAM: %s", work.text);
    return work.result == PAM_RESULT_YES ? ANSWER_YES : work.result == PAM_RESULT_NO ? ANSWER_UNKNOWN : ANSWER_FAILED;
}

/* ---- all sources: one hash, whichever of them knows the user, and if none does. It comes before others are asked, PAM and
 * saslauthd, which take a time of their own ---- */

static enum answer may_wait
ask(struct request *r, const struct source *source, struct slice password, bool *hashed, struct err *err)
{
    switch (source->kind) {
    case SOURCE_USERS:
    case SOURCE_TABLE: return ask_record(r, source, password, hashed, err);
    case SOURCE_SASLAUTHD: return ask_saslauthd(r, source, password, err);
    case SOURCE_PAM: return ask_pam(r, source, password, err);
    }
    return ANSWER_FAILED;
}

enum verdict may_wait
source_check(struct request *r, struct slice user, struct slice password)
{
    enum verdict verdict = VERDICT_FAILED;
    bool hashed = !server_has_source(r->server, SOURCE_USERS) && !server_has_source(r->server, SOURCE_TABLE);
    struct err err;

    if (!source_set_user(r, user) || password.len == 0 || slice_has_byte(password, '\0'))
        return VERDICT_FAILED;
    for (unsigned i = 0; i < r->server->source_count; i++) {
        const struct source *source = &r->server->sources[i];
        if (!has_records(source) && !hashed) {
            pretend(r, password);
            hashed = true;
        }
        switch (ask(r, source, password, &hashed, &err)) {
        case ANSWER_YES: return VERDICT_OK;
        case ANSWER_NO: return verdict;
        case ANSWER_FAILED: verdict = source_failed(source->name, &err); break; /* a later source may still say yes */
        case ANSWER_UNKNOWN: break;
        }
    }
    if (!hashed)
        pretend(r, password);
    return verdict;
}

enum verdict may_wait
source_accept(struct request *r, struct slice user)
{
    return source_set_user(r, user) ? VERDICT_OK : VERDICT_FAILED;
}

/* Work for a thread of the pool: keys may have to be made from a password. */
struct make_keys {
    const char *record, *sample; /* NULL: there is no such user; nobody was found yet */
    const char *digest;
    struct slice secret, user;
    struct scram_keys *keys;
    bool exists;
};

static void
make_keys(void *arg)
{
    struct make_keys *work = arg;

    work->exists =
        work->record && password_scram_keys(work->record, work->secret, work->user, work->digest, work->keys);
    if (!work->exists)
        password_scram_pretend(work->sample, work->secret, work->user, work->digest, work->keys);
}

/* Of the first source that has one; NULL: none has. */
static enum verdict may_wait
find_in_all(struct request *r, const char **record)
{
    struct err err;

    *record = NULL;
    for (unsigned i = 0; i < r->server->source_count && !*record; i++) {
        const struct source *source = &r->server->sources[i];
        if (has_records(source) && find_record(r, source, record, &err) < 0)
            return source_failed(source->name, &err);
    }
    return VERDICT_OK;
}

enum verdict may_wait
source_plain(struct request *r, struct slice *password)
{
    const char *record;
    enum verdict verdict = find_in_all(r, &record);

    if (verdict != VERDICT_OK || !record || !password_plain(record, password))
        *password = slice_make(NULL, 0);
    return verdict;
}

enum verdict may_wait
source_scram_keys(struct request *r, const char *digest, struct scram_keys *keys, bool *exists)
{
    struct make_keys work = {.digest = digest,
                             .secret = slice_make(r->server->pretend_key, AUTH_KEY_SIZE),
                             .user = slice_from(r->user),
                             .keys = keys};
    enum verdict verdict = find_in_all(r, &work.record);

    if (verdict != VERDICT_OK)
        return verdict;
    work.sample = sample_of(r, work.record);
    task_run_blocking(make_keys, &work);
    *exists = work.exists;
    return VERDICT_OK;
}
