/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/dns.h"

#include <stdio.h>
#include <stdlib.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/loop.h"

static struct ub_ctx *context;

enum { CLASS_IN = 1, TYPE_A = 1 };

static int
set(const char *option, const char *value, struct err *err)
{
    int code = ub_ctx_set_option(context, option, value);

    return code ? err_set(err, ERR_PERM, "libunbound: %s %s: %s", option, value, ub_strerror(code)) : 0;
}

static int
set_number(const char *option, int64_t number, struct err *err)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)number);
    return set(option, text, err);
}

/* A small process: one thread, few buffers, the cache that is configured. */
static int
set_options(const struct resolver_settings *settings, const char *trust_anchor, struct err *err)
{
    static const struct {
        const char *option, *value;
    } options[] = {
        {"msg-cache-slabs:", "1"},
        {"rrset-cache-slabs:", "1"},
        {"infra-cache-slabs:", "1"},
        {"key-cache-slabs:", "1"},
        {"infra-cache-numhosts:", "2000"},
        {"key-cache-size:", "262144"},
        {"neg-cache-size:", "65536"},
        {"outgoing-range:", "512"},
        {"num-queries-per-thread:", "1024"},
        {"outgoing-num-tcp:", "8"},
        {"incoming-num-tcp:", "0"},
        {"do-not-query-localhost:", "no"}, /* a server on this machine is the usual case */
        {"unblock-lan-zones:", "yes"},     /* so are names of private addresses */
        {"insecure-lan-zones:", "yes"},
        {"cache-max-negative-ttl:", "300"}, /* new domains get mail soon */
    };

    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (set(options[i].option, options[i].value, err) < 0)
            return -1;
    if (set("module-config:", *trust_anchor ? "validator iterator" : "iterator", err) < 0)
        return -1;
    /* A message is an index of record sets, which are the larger part. */
    if (set_number("msg-cache-size:", settings->resolver_cache_size / 3, err) < 0)
        return -1;
    return set_number("rrset-cache-size:", settings->resolver_cache_size - settings->resolver_cache_size / 3, err);
}

static int
set_servers(const struct resolver_settings *settings, struct err *err)
{
    struct slice rest = slice_from(settings->resolver_nameservers), word;
    char server[128];
    bool some = false;
    int code;

    while (slice_word(&rest, ", \t\r\n", &word)) {
        snprintf(server, sizeof(server), "%.*s", SLICE_ARG(word));
        if ((code = ub_ctx_set_fwd(context, server)))
            return err_set(err, ERR_PERM, "parameter resolver_nameservers: %s: %s", server, ub_strerror(code));
        some = true;
    }
    /* Without such a file, or without a server in it, we ask from the root down. */
    if (!some && (code = ub_ctx_resolvconf(context, NULL)) && code != UB_READFILE)
        return err_set(err, ERR_PERM, "/etc/resolv.conf: %s", ub_strerror(code));
    return 0;
}

static int
set_trust(const char *file, struct err *err)
{
    int code = *file ? ub_ctx_add_ta_file(context, file) : 0;

    return code ? err_set(err, ERR_PERM, "parameter resolver_trust_anchor_file: %s: %s", file, ub_strerror(code)) : 0;
}

/* libunbound answers names below "test." by itself, with "no such name"; private networks do use it. */
static int
open_zones(struct err *err)
{
    int code = ub_ctx_zone_add(context, "test.", "transparent");

    return code ? err_set(err, ERR_PERM, "libunbound: %s", ub_strerror(code)) : 0;
}

static void
ignore(void *arg, int rcode, void *packet, int len, int secure, char *why, int limited)
{
    (void)arg;
    (void)rcode;
    (void)packet;
    (void)len;
    (void)secure;
    (void)why;
    (void)limited;
}

int
dns_prepare(const struct resolver_settings *settings, bool is_required, struct err *err)
{
    const char *trust_anchor = settings->resolver_trust_anchor_file;
    int code;

    if (!is_required && *trust_anchor && access(trust_anchor, R_OK) != 0) {
        log_warning(
            "smtp_dns_support_level is dnssec, but there is no %s (package dns-root-data): nothing is validated",
            trust_anchor);
        trust_anchor = "";
    }
    context = ub_ctx_create_event(loop_base());
    if (!context)
        return err_set(err, ERR_TEMP, "libunbound: no context");
    ub_ctx_debuglevel(context, 0);
    if (set_options(settings, trust_anchor, err) < 0 || set_servers(settings, err) < 0 ||
        set_trust(trust_anchor, err) < 0 || open_zones(err) < 0)
        return -1;
    /* The first question, which is answered at once, makes it read and open all that it needs. */
    code = ub_resolve_event(context, "localhost", TYPE_A, CLASS_IN, NULL, ignore, NULL);
    return code ? err_set(err, ERR_TEMP, "libunbound: %s", ub_strerror(code)) : 0;
}

/* ---- questions ---- */

struct question {
    void (*done)(void *arg, const struct dns_result *);
    void *arg;
};

enum { SEC_BOGUS = 1, SEC_SECURE = 2 };

static void
on_answer(void *arg, int rcode, void *packet, int len, int security, char *why, int limited)
{
    struct question *question = arg;
    struct dns_result result = {
        .rcode = rcode, .secure = security == SEC_SECURE, .bogus = security == SEC_BOGUS, .why = why};

    (void)limited;
    if (rcode == 0 && packet && len > 0)
        result.packet = slice_make(packet, (size_t)len);
    question->done(question->arg, &result);
    free(question);
}

int
dns_ask(const char *name, unsigned type, void (*done)(void *arg, const struct dns_result *), void *arg, struct err *err)
{
    struct question *question = malloc(sizeof(*question));
    int code;

    if (!question)
        fatal("out of memory");
    *question = (struct question){done, arg};
    code = ub_resolve_event(context, name, (int)type, CLASS_IN, question, on_answer, NULL);
    if (code == 0)
        return 0;
    free(question);
    return err_set(err, ERR_TEMP, "libunbound: %s", ub_strerror(code));
}
