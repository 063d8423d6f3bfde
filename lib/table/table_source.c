/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/table_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/table/driver_load.h"
#include "lib/table/match_list.h"
#include "lib/table/template.h"

enum {
    CONNECTIONS_MOST = 8, /* of a table: each holds a thread while it is asked */
    HOSTS_MOST = 32,
    RESULT_LIMIT = 4 << 20, /* bytes of a result */
};
#define TURN_TIME SECONDS(30) /* how long a look-up waits for a connection that is free */

static const char *const common_parameters[] = {"query",   "result_format",  "domain",        "expansion_limit",
                                                "timeout", "retry_interval", "idle_interval", "require_result_set",
                                                NULL};

struct host {
    const char *name;
    const char *shown; /* without a password */
    bool is_unix;
    unsigned failures; /* in a row */
    usec_t rests_until;
    char why[DRIVER_WHY_SIZE];
};

struct connection {
    void *handle; /* the driver's */
    usec_t used;
};

struct source {
    struct arena *arena;
    const struct source_kind *kind;
    const struct table_driver *driver;
    const char *name; /* "mysql:/etc/postfix/x.cf" */
    struct source_conf *conf;
    struct driver_settings settings;
    const char *query, *base, *format;
    struct match_list *domains; /* NULL: all */
    unsigned expansion_limit, retry_time, idle_time;
    struct host hosts[HOSTS_MOST];
    unsigned host_count;
    struct connection idle[CONNECTIONS_MOST]; /* the one used last at the end */
    unsigned idle_count, busy;
    struct task_cond turn;
    int watch_fd;
};

/* ---- opening ---- */

static const char *
get_setting(void *ctx, const char *name)
{
    return source_conf_text(ctx, name, "");
}

int
source_old_query(struct source_conf *conf, struct arena *arena, struct err *err)
{
    static const char *const needed[] = {"select_field", "table", "where_field"};

    if (source_conf_get(conf, "query"))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!source_conf_get(conf, needed[i]))
            return err_set(err, ERR_PERM, "the parameter query is missing");
    source_conf_default(conf, "query",
                        arena_printf(arena, "SELECT %s FROM %s WHERE %s = '%%s' %s",
                                     source_conf_get(conf, "select_field"), source_conf_get(conf, "table"),
                                     source_conf_get(conf, "where_field"),
                                     source_conf_text(conf, "additional_conditions", "")));
    return 0;
}

static const char *const *
all_parameters(struct arena *arena, const struct source_kind *kind)
{
    const char **all, **end;
    size_t count = ARRAY_LEN(common_parameters);

    for (const char *const *p = kind->parameters; *p; p++)
        count++;
    end = all = arena_array(arena, count + 1, sizeof(*all));
    for (const char *const *p = common_parameters; *p; p++)
        *end++ = *p;
    for (const char *const *p = kind->parameters; *p; p++)
        *end++ = *p;
    return all;
}

/* A URL may have user:password@ before the host. */
static const char *
without_password(struct arena *arena, const char *name)
{
    const char *start = strstr(name, "://"), *at = start ? strchr(start, '@') : NULL;
    const char *colon = at ? memchr(start + 3, ':', (size_t)(at - start - 3)) : NULL;

    return colon ? arena_printf(arena, "%.*s:...%s", (int)(colon - name), name, at) : name;
}

static int
take_hosts(struct source *s, struct err *err)
{
    struct slice rest = slice_from(source_conf_text(s->conf, s->kind->hosts, s->kind->default_host)), word;

    if (slice_trim(rest).len == 0)
        rest = slice_from(s->kind->default_host);
    while (slice_word(&rest, s->kind->one_host ? "" : ", \t\r\n", &word)) {
        struct host *host = &s->hosts[s->host_count];

        if (s->host_count == HOSTS_MOST)
            return err_set(err, ERR_PERM, "more than %d servers in %s", HOSTS_MOST, s->kind->hosts);
        host->name = arena_strndup(s->arena, word.ptr, word.len);
        host->shown = without_password(s->arena, host->name);
        host->is_unix = slice_starts_with_fold(word, "unix:");
        s->host_count++;
    }
    return s->host_count ? 0 : err_set(err, ERR_PERM, "the parameter %s is missing", s->kind->hosts);
}

static int
take_templates(struct source *s, struct err *err)
{
    s->query = source_conf_text(s->conf, s->kind->query, "");
    s->base = source_conf_text(s->conf, "search_base", "");
    s->format = source_conf_text(s->conf, "result_format", "%s");
    if (s->query[0] == '\0')
        return err_set(err, ERR_PERM, "the parameter %s is missing", s->kind->query);
    if (template_check(s->query, err) < 0)
        return err_context(err, "%s", s->kind->query);
    if (template_check(s->base, err) < 0)
        return err_context(err, "search_base");
    if (template_check(s->format, err) < 0)
        return err_context(err, "result_format");
    return 0;
}

static int
take_domains(struct source *s, const struct conf *conf, struct err *err)
{
    const char *text = source_conf_text(s->conf, "domain", "");

    if (slice_trim(slice_from(text)).len == 0)
        return 0;
    s->domains = match_list_new(s->arena, conf, "domain", text, 0, err);
    return s->domains ? 0 : -1;
}

static int
take_limits(struct source *s, struct err *err)
{
    unsigned timeout;

    if (source_conf_number(s->conf, "expansion_limit", 0, 0, 1000000000, &s->expansion_limit, err) < 0 ||
        source_conf_time(s->conf, "retry_interval", 60, &s->retry_time, err) < 0 ||
        source_conf_time(s->conf, "idle_interval", 60, &s->idle_time, err) < 0 ||
        source_conf_time(s->conf, "timeout", s->kind->default_timeout, &timeout, err) < 0)
        return -1;
    s->settings = (struct driver_settings){get_setting, s->conf, timeout ? (int)timeout : 1};
    return 0;
}

static int
set_up(struct source *s, const struct conf *conf, struct err *err)
{
    char why[DRIVER_WHY_SIZE] = "";

    if ((s->kind->complete && s->kind->complete(s->conf, s->arena, err) < 0) || take_hosts(s, err) < 0 ||
        take_templates(s, err) < 0 || take_limits(s, err) < 0 || take_domains(s, conf, err) < 0)
        return err_context(err, "%s", s->name);
    s->driver = driver_load(conf, s->kind->type, err);
    if (!s->driver)
        return err_context(err, "%s", s->name);
    if (s->driver->start && s->driver->start(&s->settings, why) < 0)
        return err_set(err, ERR_PERM, "%s: %s", s->name, why);
    return 0;
}

void *
source_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    const struct source_kind *kind = about->kind;
    struct arena *arena = arena_new();
    struct source *s = ARENA_NEW(arena, struct source);

    (void)flags;
    s->arena = arena;
    s->kind = kind;
    s->name = arena_printf(arena, "%s:%s", kind->type, name);
    s->conf = source_conf_load(arena, conf, kind->type, name, all_parameters(arena, kind), &about->watch_fd, err);
    if (s->conf && set_up(s, conf, err) == 0) {
        s->watch_fd = about->watch_fd;
        return s;
    }
    if (about->watch_fd >= 0)
        close(about->watch_fd);
    arena_free(&arena);
    return NULL;
}

void
source_close(void *state)
{
    struct source *s = state;

    if (s->busy > 0)
        return; /* tasks are in it: opened anew, it leaves its memory behind */
    while (s->idle_count > 0)
        s->driver->close(s->idle[--s->idle_count].handle);
    if (s->watch_fd >= 0)
        close(s->watch_fd);
    arena_free(&s->arena);
}

/* ---- a look-up, in a thread ---- */

enum outcome { FOUND, NOTHING, FAILED };

struct job {
    struct source *source;
    struct template_parts key;
    void *handle;                  /* the connection to use; NULL: make one. Afterwards: what is to be kept */
    void *stale[CONNECTIONS_MOST]; /* to be closed */
    unsigned stale_count;
    unsigned order[HOSTS_MOST], order_count; /* hosts to try */
    bool host_tried[HOSTS_MOST], host_failed[HOSTS_MOST];
    char *host_why; /* DRIVER_WHY_SIZE for each host */
    struct buf result, query, base;
    unsigned taken;
    enum outcome outcome;
    char why[DRIVER_WHY_SIZE];
};

struct quoter {
    const struct table_driver *driver;
    void *handle;
    bool for_base;
};

static int
append_quoted(void *ctx, struct slice piece, struct buf *out)
{
    const struct quoter *q = ctx;
    char *room = buf_reserve(out, piece.len * q->driver->growth + 1);
    size_t size;

    if (q->for_base && q->driver->quote_base)
        size = q->driver->quote_base(q->handle, piece.ptr, piece.len, room);
    else
        size = q->driver->quote(q->handle, piece.ptr, piece.len, room);
    if (size == (size_t)-1)
        return -1;
    check(size <= piece.len * q->driver->growth);
    buf_added(out, size);
    return 0;
}

static int
take_value(void *ctx, const char *text, size_t len)
{
    struct job *job = ctx;
    const struct source *s = job->source;
    struct template_parts value = template_parts(slice_make(text, text ? len : 0));
    size_t before = job->result.len;

    if (memchr(text ? text : "", '\0', text ? len : 0)) {
        snprintf(job->why, sizeof(job->why), "a value has a NUL in it");
        return -1;
    }
    if (before > 0)
        buf_append_byte(&job->result, ',');
    if (value.whole.len == 0 || template_expand(s->format, &value, &job->key, NULL, &job->result) != TEMPLATE_DONE) {
        job->result.len = before;
        return 0;
    }
    job->taken++;
    if (s->expansion_limit > 0 && job->taken > s->expansion_limit) {
        snprintf(job->why, sizeof(job->why), "the result has more values than expansion_limit (%u)",
                 s->expansion_limit);
        return -1;
    }
    if (job->result.len > RESULT_LIMIT) {
        snprintf(job->why, sizeof(job->why), "the result is longer than %d bytes", RESULT_LIMIT);
        return -1;
    }
    return 0;
}

static bool
fill_templates(struct job *job)
{
    const struct source *s = job->source;
    struct quoter q = {s->driver, job->handle, false};
    struct template_quote quote = {append_quoted, &q};

    buf_clear(&job->query);
    buf_clear(&job->base);
    if (template_expand(s->query, &job->key, &job->key, &quote, &job->query) != TEMPLATE_DONE)
        return false;
    q.for_base = true;
    return template_expand(s->base, &job->key, &job->key, &quote, &job->base) == TEMPLATE_DONE;
}

/* Asks over the connection. */
static enum driver_result
ask(struct job *job)
{
    const struct source *s = job->source;
    const struct driver_sink sink = {take_value, job};
    struct driver_query query = {.base_has_key = template_has_key(s->base)};
    char why[DRIVER_WHY_SIZE] = "";
    enum driver_result result;

    buf_clear(&job->result);
    job->taken = 0;
    job->why[0] = '\0';
    if (!fill_templates(job)) {
        snprintf(job->why, sizeof(job->why), "the key can't be quoted");
        job->outcome = FAILED;
        return DRIVER_FAILED;
    }
    query.text = buf_text(&job->query);
    query.base = buf_text(&job->base);
    result = s->driver->query(job->handle, &s->settings, &query, &sink, why);
    if (job->why[0] == '\0')
        memcpy(job->why, why, sizeof(why));
    if (result == DRIVER_OK)
        job->outcome = job->result.len > 0 ? FOUND : NOTHING;
    else
        job->outcome = FAILED;
    if (result == DRIVER_LOST) {
        s->driver->close(job->handle);
        job->handle = NULL;
    }
    return result;
}

static void
note_failure(struct job *job, unsigned host)
{
    job->host_failed[host] = true;
    memcpy(job->host_why + host * DRIVER_WHY_SIZE, job->why, DRIVER_WHY_SIZE);
}

static void
try_hosts(struct job *job)
{
    const struct source *s = job->source;

    for (unsigned i = 0; i < job->order_count; i++) {
        unsigned host = job->order[i];

        job->host_tried[host] = true;
        job->why[0] = '\0';
        job->handle = s->driver->connect(&s->settings, s->hosts[host].name, job->why);
        if (job->handle && ask(job) != DRIVER_LOST)
            return;
        note_failure(job, host);
    }
}

static void
run_job(void *arg)
{
    struct job *job = arg;

    while (job->stale_count > 0)
        job->source->driver->close(job->stale[--job->stale_count]);
    job->outcome = FAILED;
    if (job->handle && ask(job) != DRIVER_LOST)
        return;
    try_hosts(job);
}

/* ---- a look-up, in the loop ---- */

static int may_wait
take_turn(struct source *s, struct err *err)
{
    usec_t deadline = loop_now() + TURN_TIME;

    while (s->busy >= CONNECTIONS_MOST)
        if (task_wait(&s->turn, deadline, err) < 0)
            return err_context(err, "%s: waiting for a free connection", s->name);
    s->busy++;
    return 0;
}

static void
take_connection(struct source *s, struct job *job)
{
    usec_t oldest = clock_monotonic() - SECONDS(s->idle_time);
    unsigned old = 0;

    while (old < s->idle_count && s->idle[old].used < oldest)
        job->stale[job->stale_count++] = s->idle[old++].handle;
    s->idle_count -= old;
    memmove(s->idle, s->idle + old, s->idle_count * sizeof(s->idle[0]));
    if (s->idle_count > 0)
        job->handle = s->idle[--s->idle_count].handle;
}

/* Hosts that rest are left out; Unix sockets come first; in each group the order is random. */
static void
choose_hosts(struct source *s, struct job *job)
{
    usec_t now = clock_monotonic();

    for (int group = 0; group < (s->kind->in_order ? 1 : 2); group++) {
        unsigned first = job->order_count;

        for (unsigned i = 0; i < s->host_count; i++)
            if (s->hosts[i].rests_until <= now && (s->kind->in_order || s->hosts[i].is_unix == (group == 0)))
                job->order[job->order_count++] = i;
        for (unsigned i = first; i + 1 < job->order_count && !s->kind->in_order; i++) {
            unsigned j = i + (unsigned)random() % (job->order_count - i), swap = job->order[i];

            job->order[i] = job->order[j];
            job->order[j] = swap;
        }
    }
}

static void
note_hosts(struct source *s, const struct job *job)
{
    for (unsigned i = 0; i < s->host_count; i++) {
        struct host *host = &s->hosts[i];
        unsigned rest;

        if (!job->host_tried[i])
            continue;
        if (!job->host_failed[i]) {
            host->failures = 0;
            continue;
        }
        memcpy(host->why, job->host_why + i * DRIVER_WHY_SIZE, DRIVER_WHY_SIZE);
        rest = host->failures < 10 ? 1U << host->failures : s->retry_time;
        host->failures++;
        host->rests_until = clock_monotonic() + SECONDS(rest < s->retry_time ? rest : s->retry_time);
        log_warning("%s: server %s: %s", s->name, host->shown, host->why);
    }
}

static void
end_turn(struct source *s, struct job *job)
{
    note_hosts(s, job);
    s->busy--;
    if (job->handle)
        s->idle[s->idle_count++] = (struct connection){job->handle, clock_monotonic()};
    task_wake_one(&s->turn);
}

static int
failure(const struct source *s, const struct job *job, struct err *err)
{
    const struct host *last = &s->hosts[0];

    if (job->why[0])
        return err_set(err, ERR_TEMP, "%s: %s", s->name, job->why);
    for (unsigned i = 1; i < s->host_count; i++)
        if (s->hosts[i].rests_until > last->rests_until)
            last = &s->hosts[i];
    return err_set(err, ERR_TEMP, "%s: no server can be reached at the moment; %s: %s", s->name, last->shown,
                   last->why);
}

/* Could there be an answer at all? */
static int may_wait
is_askable(const struct source *s, const struct template_parts *key, bool *askable, struct err *err)
{
    struct buf out = {0};
    const struct template_parts any = template_parts(slice_from("a@b"));

    *askable = text_is_utf8(key->whole) && template_expand(s->query, key, key, NULL, &out) == TEMPLATE_DONE &&
               template_expand(s->base, key, key, NULL, &out) == TEMPLATE_DONE &&
               template_expand(s->format, &any, key, NULL, &out) == TEMPLATE_DONE;
    buf_release(&out);
    if (!*askable || !s->domains)
        return 0;
    *askable = key->domain.len > 0 && key->user.len > 0;
    return *askable ? match_list_domain(s->domains, key->domain, askable, err) : 0;
}

static int may_wait
do_job(struct source *s, struct arena *arena, struct job *job, const char **value, struct err *err)
{
    if (take_turn(s, err) < 0)
        return -1;
    job->host_why = arena_alloc(arena, s->host_count * DRIVER_WHY_SIZE);
    take_connection(s, job);
    choose_hosts(s, job);
    task_run_blocking(run_job, job);
    end_turn(s, job);
    if (job->outcome == FAILED)
        return failure(s, job, err);
    if (job->outcome == FOUND)
        *value = arena_strndup(arena, job->result.ptr, job->result.len);
    return 0;
}

int may_wait
source_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct source *s = state;
    struct job *job = ARENA_NEW(arena, struct job);
    bool askable;
    int result;

    *value = NULL;
    job->source = s;
    job->key = template_parts(key);
    if (is_askable(s, &job->key, &askable, err) < 0)
        return err_context(err, "%s", s->name);
    if (!askable)
        return 0;
    result = do_job(s, arena, job, value, err);
    buf_release(&job->result);
    buf_release(&job->query);
    buf_release(&job->base);
    return result;
}
