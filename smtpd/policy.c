/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/policy.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/task.h"
#include "smtpd/restrict.h"

enum { LINE = 8192, LINES = 100, IDLE_MOST = 20 };

/* A connection that nobody uses at the moment. */
struct idle {
    struct list link;
    struct stream *stream;
    usec_t opened, since;
    int64_t requests;
};

struct policy {
    const char *text;
    const char *target; /* "unix:..." or "inet:...": for the log */
    const char *path;   /* Unix socket; NULL: inet */
    const char *host;
    unsigned port;
    usec_t timeout, retry_delay, max_idle, max_ttl;
    int64_t try_limit, request_limit;
    const char *default_action, *context;
    const char *fault; /* it can't be asked: why */
    struct list idle;
    unsigned idle_count;
};

struct policies {
    const struct smtpd_settings *set;
    struct arena *arena;
    struct map *all;
};

struct policies *
policies_new(const struct smtpd_settings *set)
{
    struct arena *arena = arena_new();
    struct policies *policies = ARENA_NEW(arena, struct policies);

    policies->set = set;
    policies->arena = arena;
    policies->all = map_new();
    return policies;
}

static void
drop_idle(struct policy *policy, struct idle *idle)
{
    list_remove(&idle->link);
    policy->idle_count--;
    stream_free(&idle->stream);
    free(idle);
}

static void
release(void *value)
{
    struct policy *policy = value;

    LIST_EACH(link, &policy->idle)
    drop_idle(policy, LIST_ENTRY(link, struct idle, link));
}

void
policies_free(struct policies **policies)
{
    struct arena *arena;

    if (!*policies)
        return;
    map_free(&(*policies)->all, release);
    arena = (*policies)->arena;
    *policies = NULL;
    arena_free(&arena);
}

/* ---- settings ---- */

/* "10s", "5m"; seconds if there is no unit. */
static bool
read_time(struct slice text, usec_t *time)
{
    static const struct {
        char unit;
        int seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
    unsigned long long number;
    int seconds = 1;

    for (size_t i = 0; i < ARRAY_LEN(units) && text.len > 0; i++)
        if (text.ptr[text.len - 1] == units[i].unit) {
            seconds = units[i].seconds;
            text.len--;
            break;
        }
    if (slice_to_u64(text, 1000000, &number) < 0)
        return false;
    *time = SECONDS((int64_t)number * seconds);
    return true;
}

static void
set_option(struct policies *policies, struct policy *policy, struct slice name, struct slice value)
{
    const char *text = arena_strndup(policies->arena, value.ptr ? value.ptr : "", value.len);
    const struct {
        const char *name;
        usec_t *time;
        int64_t *count;
    } options[] = {
        {"timeout", &policy->timeout, NULL},     {"retry_delay", &policy->retry_delay, NULL},
        {"max_idle", &policy->max_idle, NULL},   {"max_ttl", &policy->max_ttl, NULL},
        {"try_limit", NULL, &policy->try_limit}, {"request_limit", NULL, &policy->request_limit},
    };

    if (slice_equal_text(name, "default_action")) {
        policy->default_action = text;
        return;
    }
    if (slice_equal_text(name, "policy_context")) {
        policy->context = text;
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        unsigned long long count;
        if (!slice_equal_text(name, options[i].name))
            continue;
        if (options[i].time && read_time(value, options[i].time))
            return;
        if (options[i].count && slice_to_u64(value, 1000000, &count) == 0) {
            *options[i].count = (int64_t)count;
            return;
        }
    }
    policy->fault = arena_printf(policies->arena, "bad setting: %.*s", SLICE_ARG(name));
}

/* "unix:path", "inet:host:port", "host:port" */
static void
set_target(struct policies *policies, struct policy *policy, struct slice target)
{
    struct arena *arena = policies->arena;
    unsigned long long port;

    policy->target = arena_strndup(arena, target.ptr, target.len);
    if (slice_starts_with_fold(target, "unix:")) {
        policy->path = policy->target + 5;
        return;
    }
    const char *host = policy->target + (slice_starts_with_fold(target, "inet:") ? 5 : 0);
    const char *colon = strrchr(host, ':');
    if (!colon || slice_to_u64(slice_from(colon + 1), 65535, &port) < 0) {
        policy->fault = "neither unix:path nor inet:host:port";
        return;
    }
    size_t len = (size_t)(colon - host);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    policy->host = len ? arena_strndup(arena, host, len) : "localhost";
    policy->port = (unsigned)port;
}

/* "{ target, name=value, { name = value } }" */
static void
read_braces(struct policies *policies, struct policy *policy)
{
    struct slice rest = slice_from(policy->text), word, name;
    bool first = true;

    rest = slice_make(rest.ptr + 1, rest.len - 1);
    if (rest.len > 0 && rest.ptr[rest.len - 1] == '}')
        rest.len--;
    while (slice_word_braced(&rest, ", \t\r\n", &word)) {
        if (first) {
            set_target(policies, policy, word);
            first = false;
            continue;
        }
        if (word.len > 1 && word.ptr[0] == '{')
            word = slice_make(word.ptr + 1, word.len - 2);
        slice_cut(&word, '=', &name);
        set_option(policies, policy, slice_trim(name), slice_trim(word));
    }
    if (first)
        policy->fault = "no service is named";
}

void
policies_add(struct policies *policies, const char *text)
{
    const struct smtpd_settings *set = policies->set;
    struct policy *policy;

    if (map_get_text(policies->all, text))
        return;
    policy = ARENA_NEW(policies->arena, struct policy);
    *policy = (struct policy){.text = arena_strdup(policies->arena, text),
                              .timeout = set->smtpd_policy_service_timeout,
                              .retry_delay = set->smtpd_policy_service_retry_delay,
                              .max_idle = set->smtpd_policy_service_max_idle,
                              .max_ttl = set->smtpd_policy_service_max_ttl,
                              .try_limit = set->smtpd_policy_service_try_limit,
                              .request_limit = set->smtpd_policy_service_request_limit,
                              .default_action = set->smtpd_policy_service_default_action,
                              .context = set->smtpd_policy_service_policy_context};
    list_init(&policy->idle);
    if (text[0] == '{')
        read_braces(policies, policy);
    else
        set_target(policies, policy, slice_from(policy->text));
    if (!policy->target)
        policy->target = policy->text;
    if (policy->fault)
        log_warning("check_policy_service %s: %s", policy->target, policy->fault);
    map_put_text(policies->all, policy->text, policy);
}

bool
policies_need_network(const struct policies *policies)
{
    size_t position = 0;
    struct slice key;
    void *value;

    while (map_next(policies->all, &position, &key, &value))
        if (((const struct policy *)value)->host)
            return true;
    return false;
}

/* ---- the question ---- */

static void
add(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "%s=", name);
    for (const char *c = value ? value : ""; *c; c++)
        buf_append_byte(out, *c == '\n' || *c == '\r' ? '?' : *c);
    buf_append_byte(out, '\n');
}

static void
add_number(struct buf *out, const char *name, int64_t number)
{
    buf_printf(out, "%s=%lld\n", name, (long long)number);
}

static void
add_client(struct session *s, struct buf *out)
{
    add(out, "client_address", s->peer.address);
    add(out, "client_name", s->peer.name);
    add(out, "client_port", arena_printf(s->cmd, "%u", s->peer.port));
    add(out, "reverse_client_name", s->peer.reverse_name);
    add(out, "server_address", s->server_address);
    add(out, "server_port", arena_printf(s->cmd, "%u", s->server_port));
}

static void
add_message(struct access_check *check, struct buf *out)
{
    struct session *s = check->session;
    const struct transaction *t = s->transaction;
    bool whole = strcmp(s->where, "END-OF-MESSAGE") == 0;

    add(out, "sender", check->sender);
    add(out, "recipient", check->recipient);
    add_number(out, "recipient_count",
               t && (whole || strcmp(s->where, "DATA") == 0 || t->in_bdat) ? t->recipient_count : 0);
    add(out, "queue_id", t && t->queue_id[0] ? t->queue_id : "");
    add(out, "instance", session_instance(s));
    add_number(out, "size", !t ? 0 : whole ? t->size : t->declared_size);
}

static void
add_login(struct session *s, struct buf *out)
{
    add(out, "sasl_method", s->sasl_method);
    add(out, "sasl_username", s->sasl_username);
    add(out, "sasl_sender", s->transaction ? s->transaction->sasl_sender : "");
}

static void
add_tls(struct session *s, struct buf *out)
{
    struct tls_info tls = {.protocol = "", .cipher = "", .peer_subject = "", .peer_issuer = ""};
    bool is_tls = stream_is_tls(s->stream);

    if (is_tls)
        stream_tls_info(s->stream, &tls);
    bool trusted = is_tls && tls.peer_is_trusted;
    add(out, "ccert_subject", trusted ? tls.peer_subject : "");
    add(out, "ccert_issuer", trusted ? tls.peer_issuer : "");
    add(out, "ccert_fingerprint", is_tls ? session_fingerprint(s, false) : "");
    add(out, "ccert_pubkey_fingerprint", is_tls ? session_fingerprint(s, true) : "");
    add(out, "encryption_protocol", tls.protocol);
    add(out, "encryption_cipher", tls.cipher);
    add_number(out, "encryption_keysize", tls.algorithm_bits);
}

static void
make_question(struct access_check *check, const struct policy *policy, struct buf *out)
{
    struct session *s = check->session;

    add(out, "request", "smtpd_access_policy");
    add(out, "protocol_state", strncmp(s->where, "DATA", 4) == 0 ? "DATA" : s->where);
    add(out, "protocol_name", s->protocol);
    add(out, "helo_name", check->helo);
    add_client(s, out);
    add_message(check, out);
    add_login(s, out);
    add_tls(s, out);
    add(out, "etrn_domain", check->etrn);
    add(out, "stress", "");
    add(out, "policy_context", policy->context);
    add(out, "compatibility_level", s->server->set.compatibility_level);
    add(out, "mail_version", s->server->set.mail_version);
    buf_append_byte(out, '\n');
}

/* ---- asking ---- */

static int may_wait
find_address(struct session *s, const struct policy *policy, usec_t deadline, struct net_addr *addr, struct err *err)
{
    struct msg_dns_answer answer;

    if (policy->path)
        return net_addr_unix(policy->path, addr, err);
    if (net_addr_parse(policy->host, policy->port, addr, err) == 0)
        return 0;
    if (strcmp(policy->host, "localhost") == 0)
        return net_addr_parse("127.0.0.1", policy->port, addr, err);
    if (dns_lookup(s->server->dns, s->cmd, policy->host, "HOST", deadline, &answer, err) < 0)
        return -1;
    if (answer.status != DNS_FOUND || answer.record_count == 0)
        return err_set(err, ERR_TEMP, "host not found: %s", policy->host);
    return net_addr_parse(answer.records[0].data, policy->port, addr, err);
}

/* One that is idle, or a new one. NULL: can't connect. */
static struct idle *may_wait
take_connection(struct session *s, struct policy *policy, usec_t deadline, struct err *err)
{
    struct net_addr addr;
    struct idle *idle;

    while (!list_is_empty(&policy->idle)) {
        idle = LIST_ENTRY(policy->idle.next, struct idle, link);
        if (loop_now() - idle->since < policy->max_idle && loop_now() - idle->opened < policy->max_ttl &&
            stream_is_idle_alive(idle->stream)) {
            list_remove(&idle->link);
            policy->idle_count--;
            return idle;
        }
        drop_idle(policy, idle);
    }
    if (find_address(s, policy, deadline, &addr, err) < 0)
        return NULL;
    int fd = net_connect(&addr, NULL, deadline, err);
    if (fd < 0)
        return NULL;
    idle = calloc(1, sizeof *idle);
    if (!idle) {
        close(fd);
        err_set(err, ERR_TEMP, "out of memory");
        return NULL;
    }
    idle->stream = stream_new(fd);
    idle->opened = loop_now();
    return idle;
}

static void
give_back(struct policy *policy, struct idle *idle, bool good)
{
    idle->requests++;
    idle->since = loop_now();
    policy->idle_count++;
    list_prepend(&policy->idle, &idle->link);
    if (!good || policy->idle_count > IDLE_MOST || (policy->request_limit && idle->requests >= policy->request_limit))
        drop_idle(policy, idle);
}

/* Reads up to the empty line; *action gets what stands behind "action=". */
static int may_wait
read_answer(struct session *s, struct stream *stream, const char **action, struct err *err)
{
    enum stream_line_end ending;
    struct slice line;

    *action = NULL;
    for (unsigned lines = 0; lines < LINES; lines++) {
        if (stream_read_line(stream, LINE, &line, &ending, err) < 0)
            return -1;
        if (ending == STREAM_LINE_CUT)
            return err_set(err, ERR_SYNTAX, "line too long in answer");
        if (line.len == 0)
            return *action ? 0 : err_set(err, ERR_SYNTAX, "no action in answer");
        if (memchr(line.ptr, '\0', line.len))
            return err_set(err, ERR_SYNTAX, "NUL in answer");
        if (slice_starts_with_fold(line, "action="))
            *action = arena_strndup(s->cmd, line.ptr + 7, line.len - 7);
    }
    return err_set(err, ERR_SYNTAX, "answer too long");
}

static int may_wait
ask_once(struct access_check *check, struct policy *policy, const char **action, struct err *err)
{
    struct session *s = check->session;
    usec_t deadline = loop_now() + policy->timeout;
    struct buf question = {0};
    struct idle *idle = take_connection(s, policy, deadline, err);

    if (!idle)
        return -1;
    make_question(check, policy, &question);
    stream_set_deadline(idle->stream, deadline);
    stream_write(idle->stream, question.ptr, question.len);
    buf_release(&question);
    int result = read_answer(s, idle->stream, action, err);
    give_back(policy, idle, result == 0);
    return result;
}

const char *may_wait
policy_ask(struct access_check *check, const char *text)
{
    struct session *s = check->session;
    struct policy *policy = map_get_text(s->server->policies->all, text);
    const char *action = NULL;
    struct err err;

    if (!policy || policy->fault) {
        log_warning("check_policy_service %s: %s", text, policy ? policy->fault : "not named in main.cf");
        return "451 4.3.5 Server configuration problem";
    }
    for (int64_t tries = 0; tries == 0 || tries < policy->try_limit; tries++) {
        if (tries > 0 && task_sleep(policy->retry_delay, &err) < 0)
            break;
        if (ask_once(check, policy, &action, &err) == 0)
            return action;
        log_warning("problem talking to server %s: %s", policy->target, err.text);
        if (err.kind == ERR_CANCELLED || err.kind == ERR_TIMEOUT)
            break;
    }
    return policy->default_action;
}
