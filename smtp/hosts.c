/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/hosts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "lib/run/loop.h"
#include "smtp/client.h"

enum {
    MX_LIMIT = 50,    /* records of a domain that are looked at */
    HOST_LIMIT = 100, /* addresses of a domain */
};

static const usec_t LOOKUP_LIMIT = SECONDS(60); /* the resolver gives up before that */

/* Addresses being gathered. */
struct search {
    const struct client *client;
    struct arena *arena;
    struct host_list *found;
    bool failed; /* a look-up failed for now: what was found is not all */
    bool mx_is_insecure;
};

/* ---- one look-up ---- */

static int
failed_lookup(struct failure *failure, struct arena *arena, const char *name, const char *type, int status)
{
    static const struct {
        const char *dsn, *why;
    } texts[] = {
        [DNS_NODATA] = {"5.4.4", "Host found but no data record of requested type"},
        [DNS_NXDOMAIN] = {"5.4.4", "Host not found"},
        [DNS_FAIL] = {"4.4.3", "Host not found, try again"},
    };

    if (status == DNS_INVALID)
        return failure_set(failure, arena, "5.4.4", "Name service error for %s: invalid host or domain name", name);
    return failure_set(failure, arena, texts[status].dsn,
                       "Host or domain name not found. Name service error for name=%s type=%s: %s", name, type,
                       texts[status].why);
}

/* A failure to ask is a failure of the name service. */
static void
ask(const struct search *search, const char *name, const char *type, struct msg_dns_answer *answer)
{
    struct err err;

    if (dns_lookup(search->client->dns, search->arena, name, type, loop_now() + LOOKUP_LIMIT, answer, &err) < 0)
        *answer = (struct msg_dns_answer){.status = DNS_FAIL, .reason = arena_strdup(search->arena, err.text)};
}

/* ---- addresses of hosts ---- */

static bool
family_is_on(const struct client *client, const struct net_addr *addr)
{
    return addr->any.sa_family == AF_INET ? client->interfaces.ipv4 : client->interfaces.ipv6;
}

static void
add_address(struct search *search, struct host host, const char *numeric, unsigned port)
{
    struct host_list *found = search->found;

    if (found->count == HOST_LIMIT || net_addr_parse(numeric, port, &host.addr, NULL) < 0 ||
        !family_is_on(search->client, &host.addr))
        return;
    for (size_t i = 0; i < found->count; i++)
        if (net_addr_equal_host(&found->hosts[i].addr, &host.addr))
            return;
    found->hosts[found->count++] = host;
}

/* "A", "AAAA", both at once ("ADDR"), or both as the system finds them ("HOST"). */
static const char *
address_type(const struct client *client)
{
    if (client->native_lookup)
        return "HOST";
    if (client->interfaces.ipv4 && client->interfaces.ipv6)
        return "ADDR";
    return client->interfaces.ipv4 ? "A" : "AAAA";
}

static const char *
shown_type(const char *type)
{
    return strcmp(type, "ADDR") == 0 || strcmp(type, "HOST") == 0 ? "A" : type;
}

/* The addresses of a host; *failure is filled if there are none. */
static void
add_host(struct search *search, const char *name, unsigned port, unsigned preference, struct failure *failure)
{
    const char *type = address_type(search->client);
    struct msg_dns_answer answer;
    size_t before = search->found->count;

    ask(search, name, type, &answer);
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.record_count; i++) {
        const struct dns_record *record = &answer.records[i];
        struct host host = {.name = name,
                            .preference = preference,
                            .canonical = strcasecmp(record->name, name) == 0 ? NULL : record->name,
                            .is_secure = answer.secure,
                            .is_of_insecure_mx = search->mx_is_insecure};
        add_address(search, host, record->data, port);
    }
    search->failed |= answer.status == DNS_FAIL;
    if (search->found->count == before)
        failed_lookup(failure, search->arena, name, shown_type(type),
                      answer.status == DNS_FOUND ? DNS_NODATA : (int)answer.status);
}

/* ---- domains ---- */

static bool
is_self(const void *ctx, const struct net_addr *addr)
{
    const struct client *client = ctx;

    return interfaces_contain(&client->interfaces, addr) || interfaces_contain(&client->proxies, addr);
}

static uint32_t
random_below(uint32_t n)
{
    uint32_t number;

    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        number = (uint32_t)clock_monotonic();
    return number % n;
}

static bool
is_null_mx(const struct msg_dns_answer *answer)
{
    for (size_t i = 0; i < answer->record_count; i++)
        if (*answer->records[i].data && strcmp(answer->records[i].data, ".") != 0)
            return false;
    return answer->record_count > 0;
}

static int
compare_preference(const void *left, const void *right)
{
    const struct dns_record *a = left, *b = right;

    return (a->preference > b->preference) - (a->preference < b->preference);
}

/* Addresses of the MX hosts, the best first, as far as the limits go. */
static void
add_mx_hosts(struct search *search, struct msg_dns_answer *answer, unsigned port, struct failure *failure)
{
    qsort(answer->records, answer->record_count, sizeof(*answer->records), compare_preference);
    for (size_t i = 0; i < answer->record_count && i < MX_LIMIT; i++) {
        const struct dns_record *mx = &answer->records[i];
        if (*mx->data && strcmp(mx->data, ".") != 0)
            add_host(search, mx->data, port, (unsigned)mx->preference, failure);
    }
}

/* None of the MX hosts has an address. */
static int
no_mx_address(const struct search *search, const char *domain, struct failure *failure)
{
    bool defer = search->failed || search->client->set.smtp_defer_if_no_mx_address_found;

    return failure_set(failure, search->arena, defer ? "4.4.3" : "5.4.3",
                       "no MX host for %s has a valid address record", domain);
}

/* Only where mail goes to the port on which we may listen ourselves. */
static int
drop_self(const struct search *search, const struct destination *to, struct failure *failure)
{
    struct host_list *found = search->found;

    if (to->port != search->client->port || !hosts_drop_from_self(found, is_self, search->client) || found->count > 0)
        return 0;
    return failure_set(failure, search->arena, "5.4.6", "mail for %s loops back to myself", to->name);
}

static int
find_by_mx(struct search *search, const struct destination *to, struct failure *failure)
{
    struct msg_dns_answer answer;

    ask(search, to->name, "MX", &answer);
    if (answer.status == DNS_FOUND && is_null_mx(&answer))
        return failure_set(failure, search->arena, "5.1.10", "Domain %s does not accept mail (nullMX)", to->name);
    if (answer.status == DNS_FOUND) {
        search->mx_is_insecure = !answer.secure;
        add_mx_hosts(search, &answer, to->port, failure);
        if (search->found->count == 0)
            return no_mx_address(search, to->name, failure);
    } else if (answer.status == DNS_NODATA ||
               (answer.status == DNS_FAIL && search->client->set.ignore_mx_lookup_error)) {
        search->mx_is_insecure = answer.status == DNS_FAIL; /* there may be others */
        add_host(search, to->name, to->port, 0, failure);   /* RFC 5321 section 5.1: the implicit MX */
        if (search->found->count == 0)
            return -1;
    } else {
        return failed_lookup(failure, search->arena, to->name, "MX", (int)answer.status);
    }
    return 0;
}

static enum host_family
preferred_family(const struct client *client)
{
    if (strcasecmp(client->set.smtp_address_preference, "ipv4") == 0)
        return HOST_IPV4;
    return strcasecmp(client->set.smtp_address_preference, "ipv6") == 0 ? HOST_IPV6 : HOST_ANY;
}

static int
find_host(struct search *search, const struct destination *to, struct failure *failure)
{
    add_host(search, to->name, to->port, 0, failure);
    return search->found->count > 0 ? 0 : -1;
}

static int
find_address(struct search *search, const struct destination *to, struct failure *failure)
{
    add_address(search, (struct host){.name = to->name}, to->name, to->port);
    if (search->found->count > 0)
        return 0;
    return failure_set(failure, search->arena, "5.4.4",
                       "network address %s is of a protocol that inet_protocols switches off", to->name);
}

static int
find_unix(struct search *search, const struct destination *to, struct failure *failure)
{
    struct host *host = &search->found->hosts[0];
    struct err err;

    host->name = to->name;
    if (net_addr_unix(to->name, &host->addr, &err) < 0)
        return failure_set(failure, search->arena, "4.3.5", "%s", err.text);
    search->found->count = 1;
    return 0;
}

int may_wait
hosts_find(const struct client *client, struct arena *arena, const struct destination *to, struct host_list *found,
           struct failure *failure)
{
    struct search search = {.client = client, .arena = arena, .found = found};
    bool single = to->kind == DESTINATION_ADDRESS || to->kind == DESTINATION_UNIX;
    int result;

    *found = (struct host_list){.hosts = arena_array(arena, single ? 1 : HOST_LIMIT, sizeof(struct host))};
    switch (to->kind) {
    case DESTINATION_UNIX: return find_unix(&search, to, failure);
    case DESTINATION_ADDRESS: return find_address(&search, to, failure);
    case DESTINATION_HOST: result = find_host(&search, to, failure); break;
    default: result = client->with_dns ? find_by_mx(&search, to, failure) : find_host(&search, to, failure); break;
    }
    if (result < 0)
        return -1;
    hosts_order(found, client->set.smtp_randomize_addresses, preferred_family(client), random_below);
    return to->kind == DESTINATION_DOMAIN && client->with_dns ? drop_self(&search, to, failure) : 0;
}
