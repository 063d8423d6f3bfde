/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/peer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/run/loop.h"
#include "smtpd/server.h"

enum { CACHE_ENTRIES = 4096, HOSTS_LIMIT = 1 << 20, REVERSE_NAME_SIZE = 80 };

#define LOOKUP_TIME      SECONDS(10) /* for a client that waits for its greeting */
#define CACHE_TIME       SECONDS(300)
#define CACHE_TIME_FAILS SECONDS(30)

/* ---- the cache ---- */

struct known {
    char *name, *reverse_name;
    enum name_status name_status, reverse_status;
    usec_t until;
};

struct peer_cache {
    struct map *known; /* address text -> struct known */
};

static void
known_free(void *value)
{
    struct known *known = value;

    free(known->name);
    free(known->reverse_name);
    free(known);
}

struct peer_cache *
peer_cache_new(void)
{
    struct peer_cache *cache = calloc(1, sizeof *cache);

    if (!cache)
        fatal("out of memory");
    cache->known = map_new();
    return cache;
}

void
peer_cache_free(struct peer_cache **cache)
{
    if (!*cache)
        return;
    map_free(&(*cache)->known, known_free);
    free(*cache);
    *cache = NULL;
}

static bool
cache_get(const struct peer_cache *cache, struct arena *arena, struct peer *peer)
{
    const struct known *known = map_get_text(cache->known, peer->address);

    if (!known || known->until < loop_now())
        return false;
    peer->name = arena_strdup(arena, known->name);
    peer->reverse_name = arena_strdup(arena, known->reverse_name);
    peer->name_status = known->name_status;
    peer->reverse_status = known->reverse_status;
    return true;
}

static void
cache_put(struct peer_cache *cache, const struct peer *peer)
{
    struct known *known = calloc(1, sizeof *known), *before;
    bool fails = peer->name_status == NAME_TEMP || peer->reverse_status == NAME_TEMP;

    if (!known)
        fatal("out of memory");
    if (map_count(cache->known) >= CACHE_ENTRIES) {
        map_free(&cache->known, known_free);
        cache->known = map_new();
    }
    known->name = text_copy(peer->name);
    known->reverse_name = text_copy(peer->reverse_name);
    known->name_status = peer->name_status;
    known->reverse_status = peer->reverse_status;
    known->until = loop_now() + (fails ? CACHE_TIME_FAILS : CACHE_TIME);
    before = map_put_text(cache->known, peer->address, known);
    if (before)
        known_free(before);
}

/* ---- the hosts file ---- */

static void
add_host(struct arena *arena, struct map *hosts, struct slice line)
{
    struct slice word, name;
    struct net_addr addr;
    struct err err;
    char text[INET6_ADDRSTRLEN];

    const char *comment = line.len ? memchr(line.ptr, '#', line.len) : NULL;
    if (comment)
        line.len = (size_t)(comment - line.ptr);
    if (!slice_word(&line, " \t\r", &word) || word.len >= sizeof text || !slice_word(&line, " \t\r", &name))
        return;
    if (!addr_is_hostname(name))
        return;
    memcpy(text, word.ptr, word.len);
    text[word.len] = '\0';
    if (net_addr_parse(text, 0, &addr, &err) < 0)
        return;
    net_addr_format(&addr, text, sizeof text);
    if (!map_get_text(hosts, text))
        map_put_text(hosts, text, arena_strndup(arena, name.ptr, name.len));
}

struct map *
peer_read_hosts(struct arena *arena, const char *path)
{
    struct map *hosts = map_new();
    struct buf text = {0};
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return hosts;
    while (text.len < HOSTS_LIMIT && (got = read(fd, buf_reserve(&text, 8192), 8192)) > 0)
        buf_added(&text, (size_t)got);
    close(fd);
    struct slice rest = buf_slice(&text), line;
    while (slice_cut(&rest, '\n', &line))
        add_host(arena, hosts, line);
    buf_release(&text);
    return hosts;
}

/* ---- DNS ---- */

void
peer_reverse_name(const struct net_addr *addr, char *text, size_t size)
{
    const unsigned char *b = addr->any.sa_family == AF_INET ? (const unsigned char *)&addr->in4.sin_addr
                                                            : (const unsigned char *)&addr->in6.sin6_addr;
    size_t used = 0;

    if (addr->any.sa_family == AF_INET) {
        snprintf(text, size, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
        return;
    }
    for (int i = 15; i >= 0; i--)
        used += (size_t)snprintf(text + used, size - used, "%x.%x.", b[i] & 15U, b[i] >> 4U);
    snprintf(text + used, size - used, "ip6.arpa");
}

static enum name_status
status_of(int result, const struct msg_dns_answer *answer)
{
    if (result < 0 || answer->status == DNS_FAIL)
        return NAME_TEMP;
    return answer->status == DNS_FOUND ? NAME_FOUND : NAME_PERM;
}

/* The first name that the address has in DNS. */
static enum name_status may_wait
find_reverse_name(struct server *server, struct arena *arena, const struct net_addr *addr, const char **name)
{
    struct msg_dns_answer answer;
    char question[REVERSE_NAME_SIZE];
    struct err err;

    peer_reverse_name(addr, question, sizeof question);
    int result = dns_lookup(server->dns, arena, question, "PTR", loop_now() + LOOKUP_TIME, &answer, &err);
    enum name_status status = status_of(result, &answer);
    if (status != NAME_FOUND)
        return status;
    for (size_t i = 0; i < answer.record_count; i++) {
        struct slice data = slice_from(answer.records[i].data);
        if (strcmp(answer.records[i].type, "PTR") != 0)
            continue;
        if (data.len > 0 && data.ptr[data.len - 1] == '.')
            data.len--;
        if (addr_is_hostname(data) && !text_has_8bit(data)) {
            *name = arena_strndup(arena, data.ptr, data.len);
            return NAME_FOUND;
        }
    }
    return NAME_PERM;
}

/* Does the name have the address? */
static enum name_status may_wait
confirm(struct server *server, struct arena *arena, const struct net_addr *addr, const struct peer *peer)
{
    const char *type = addr->any.sa_family == AF_INET ? "A" : "AAAA";
    struct msg_dns_answer answer;
    struct net_addr found;
    struct err err;

    int result = dns_lookup(server->dns, arena, peer->reverse_name, type, loop_now() + LOOKUP_TIME, &answer, &err);
    enum name_status status = status_of(result, &answer);
    for (size_t i = 0; status == NAME_FOUND && i < answer.record_count; i++)
        if (strcmp(answer.records[i].type, type) == 0 && net_addr_parse(answer.records[i].data, 0, &found, &err) == 0 &&
            net_addr_equal_host(&found, addr))
            return NAME_FOUND;
    log_warning("hostname %s does not resolve to address %s%s", peer->reverse_name, peer->address,
                status == NAME_TEMP   ? ": Temporary failure in name resolution"
                : status == NAME_PERM ? ": Name or service not known"
                                      : "");
    return status == NAME_TEMP ? NAME_TEMP : NAME_PERM;
}

static void may_wait
ask_dns(struct server *server, struct arena *arena, const struct net_addr *addr, struct peer *peer)
{
    struct arena *scratch = arena_new();
    const char *name;

    peer->reverse_status = peer->name_status = find_reverse_name(server, scratch, addr, &name);
    if (peer->reverse_status == NAME_FOUND) {
        peer->reverse_name = arena_strdup(arena, name);
        peer->name_status = confirm(server, scratch, addr, peer);
        if (peer->name_status == NAME_FOUND)
            peer->name = peer->reverse_name;
    }
    arena_free(&scratch);
}

/* ---- all of it ---- */

void may_wait
peer_lookup(struct server *server, struct arena *arena, const struct net_addr *given, struct peer *peer)
{
    struct net_addr addr = *given;
    char text[INET6_ADDRSTRLEN];

    *peer = (struct peer){.name = "unknown",
                          .reverse_name = "unknown",
                          .name_status = NAME_PERM,
                          .reverse_status = NAME_PERM,
                          .address = "unknown",
                          .rfc_address = "unknown"};
    net_addr_unmap(&addr);
    peer->family = addr.any.sa_family;
    if (peer->family != AF_INET && peer->family != AF_INET6)
        return;
    net_addr_format(&addr, text, sizeof text);
    peer->address = arena_strdup(arena, text);
    peer->rfc_address = peer->family == AF_INET6 ? arena_printf(arena, "IPv6:%s", text) : peer->address;
    peer->port = net_addr_port(&addr);
    if (!server->set.smtpd_peername_lookup)
        return;
    const char *host = server->hosts ? map_get_text(server->hosts, text) : NULL;
    if (host) {
        peer->name = peer->reverse_name = host;
        peer->name_status = peer->reverse_status = NAME_FOUND;
    } else if (!cache_get(server->peers, arena, peer)) {
        ask_dns(server, arena, &addr, peer);
        cache_put(server->peers, peer);
    }
}
