/* SPDX-License-Identifier: Apache-2.0 */
/* resolver(8): looks names up in the DNS for the other daemons. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/mail/log_events.h"
#include "lib/mail/messages.h"
#include "lib/run/file_watch.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "resolver/dns.h"
#include "resolver/hosts_file.h"
#include "resolver/idna.h"
#include "resolver/packet.h"

static struct resolver_settings settings;
static struct hosts_file *hosts;

/* ---- a request under way ---- */

/* Of a request that asks for several types, all questions are asked at once. It is answered when the last answer has come or the
 * time is over; it goes when nobody will call any more. */
struct lookup {
    struct link_request *request; /* NULL: answered */
    struct arena *arena;          /* the request's, while there is one */
    struct msg_dns_answer answer;
    struct loop_timer timer;
    unsigned outstanding;
    bool some_failed, some_missing; /* of several; missing: the name exists without such records */
    bool all_secure;
};

/* One of its questions. */
struct part {
    struct lookup *lookup;
    unsigned type;
};

static void
finish(struct lookup *l)
{
    loop_timer_clear(&l->timer);
    link_reply(l->request, &type_dns_answer, &l->answer, slice_make(NULL, 0), NULL, 0);
    l->request = NULL;
    l->arena = NULL;
}

static void
on_time_over(void *arg)
{
    struct lookup *l = arg;

    l->answer = (struct msg_dns_answer){.status = DNS_FAIL, .reason = "timed out"};
    finish(l);
}

static void
fail(struct lookup *l, const char *reason)
{
    l->some_failed = true;
    l->answer.reason = arena_strdup(l->arena, reason);
}

/* What was found counts; what failed is never taken for "no". */
static void
conclude(struct lookup *l)
{
    l->answer.secure = l->all_secure;
    if (l->answer.record_count > 0)
        l->answer.status = DNS_FOUND;
    else if (l->some_failed)
        l->answer.status = DNS_FAIL;
    else
        l->answer.status = l->some_missing ? DNS_NODATA : DNS_NXDOMAIN;
    if (!l->answer.reason)
        l->answer.reason = "";
    finish(l);
}

static void
take(struct lookup *l, unsigned type, const struct dns_result *result)
{
    struct err err;

    if (result->bogus)
        fail(l, result->why && *result->why ? result->why : "DNSSEC validation failed");
    else if (result->rcode != 0 && result->rcode != 3)
        fail(l, result->rcode == 2 ? "server failure" : "refused or malformed");
    else if (result->rcode == 0 && packet_read(l->arena, result->packet, type, &l->answer, &err) < 0)
        fail(l, err.text);
    else if (result->rcode == 0 && l->answer.status == DNS_FAIL)
        fail(l, "server failure");
    else {
        /* Of answers alone: who can make one of two questions fail must not make the other's answer look unsigned. */
        l->all_secure &= result->secure;
        l->some_missing |= result->rcode == 0 && l->answer.status == DNS_NODATA;
    }
}

static void
on_result(void *arg, const struct dns_result *result)
{
    struct part *part = arg;
    struct lookup *l = part->lookup;

    if (l->request)
        take(l, part->type, result);
    free(part);
    l->outstanding--;
    if (l->outstanding > 0)
        return;
    if (l->request)
        conclude(l);
    free(l);
}

static void
ask(struct lookup *l, const char *name, unsigned type)
{
    struct part *part = malloc(sizeof(*part));
    struct err err;

    if (!part)
        fatal("out of memory");
    *part = (struct part){l, type};
    l->outstanding++;
    if (dns_ask(name, type, on_result, part, &err) == 0)
        return;
    free(part);
    l->outstanding--;
    fail(l, err.text);
}

/* ---- requests ---- */

static void
answer_at_once(struct link_request *request, struct msg_dns_answer *answer)
{
    if (!answer->reason)
        answer->reason = "";
    link_reply(request, &type_dns_answer, answer, slice_make(NULL, 0), NULL, 0);
}

static void
ask_all(struct link_request *request, const char *name, const unsigned *types, unsigned count)
{
    struct lookup *l = calloc(1, sizeof(*l));

    if (!l)
        fatal("out of memory");
    *l = (struct lookup){.request = request, .arena = link_request_arena(request), .all_secure = true};
    l->outstanding = 1; /* ours, so that an answer that comes at once does not end it too early */
    loop_timer_set(&l->timer, loop_now() + settings.resolver_timeout, on_time_over, l);
    for (unsigned i = 0; i < count; i++)
        ask(l, name, types[i]);
    l->outstanding--;
    if (l->outstanding > 0)
        return;
    conclude(l);
    free(l);
}

static void
on_query(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_dns_query *query = in->message;
    bool is_host = strcmp(query->type, "HOST") == 0, is_pair = is_host || strcmp(query->type, "ADDR") == 0;
    unsigned types[2] = {packet_type(is_pair ? "A" : query->type), packet_type("AAAA")};
    struct msg_dns_answer answer = {.status = DNS_INVALID, .reason = "not a domain name"};

    (void)ctx;
    if (types[0] == 0)
        answer.reason = "unknown type";
    const char *name = idna_to_ascii(link_request_arena(request), query->name);
    if (types[0] == 0 || !name || !packet_is_name(name)) {
        answer_at_once(request, &answer);
        return;
    }
    answer = (struct msg_dns_answer){.reason = ""};
    if (is_host && hosts_file_addresses(hosts, link_request_arena(request), name, &answer))
        answer_at_once(request, &answer);
    else
        ask_all(request, name, types, is_pair ? 2 : 1);
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    static const struct link_handler handlers[] = {{&type_dns_query, false, on_query}};

    (void)peer;
    (void)socket;
    link_accept(fd, handlers, ARRAY_LEN(handlers), NULL, NULL);
}

/* ---- the system's own settings ---- */

#define LOOK_TIME SECONDS(2)

static const char hosts_path[] = "/etc/hosts", servers_path[] = "/etc/resolv.conf";

static struct file_watch *system_files;
static struct loop_timer look_timer;

/* A host may get its network long after the mail system has started. A new process reads what there is then. */
static void
look_at_system(void *arg)
{
    (void)arg;
    if (file_watch_changed(system_files)) {
        log_restarting("/etc/resolv.conf or /etc/hosts");
        service_retire();
    } else {
        loop_timer_set(&look_timer, loop_now() + LOOK_TIME, look_at_system, NULL);
    }
}

/* Begins before anything is read, so that no change is missed. */
static void
watch_system(void)
{
    system_files = file_watch_new();
    if (!*settings.resolver_nameservers)
        file_watch_add(system_files, servers_path);
    file_watch_add(system_files, hosts_path);
    look_at_system(NULL);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct arena *arena = arena_new(); /* for the life of the process */

    (void)sandbox;
    if (resolver_settings_load(&settings, conf, arena, err) < 0)
        return -1;
    if (idna_prepare(settings.enable_idna2003_compatibility, err) < 0)
        return -1;
    watch_system();
    hosts = hosts_file_load(arena, hosts_path);
    return dns_prepare(&settings, conf_is_set(conf, "resolver_trust_anchor_file"), err);
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "resolver",
        .prepare = prepare,
        .serve = serve,
        .overlaps = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_CONNECT | SANDBOX_ACCEPT | SANDBOX_LINKS},
    };
    return service_main(argc, argv, &service);
}
