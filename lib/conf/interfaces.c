/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/interfaces.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/slice.h"

struct gathering {
    struct arena *arena;
    struct interfaces *into;
    size_t cap;
};

static bool
is_wanted(const struct interfaces *interfaces, int family)
{
    return (family == AF_INET && interfaces->ipv4) || (family == AF_INET6 && interfaces->ipv6);
}

static struct net_addr
from_sockaddr(const struct sockaddr *any)
{
    struct net_addr addr = {.len = any->sa_family == AF_INET ? sizeof(addr.in4) : sizeof(addr.in6)};
    memcpy(&addr.any, any, addr.len);
    if (any->sa_family == AF_INET)
        addr.in4.sin_port = 0;
    else
        addr.in6.sin6_port = 0;
    return addr;
}

bool
interfaces_contain(const struct interfaces *interfaces, const struct net_addr *addr)
{
    for (size_t i = 0; i < interfaces->count; i++)
        if (net_addr_equal_host(&interfaces->addrs[i], addr))
            return true;
    return false;
}

static void
add(struct gathering *g, const struct sockaddr *any)
{
    struct net_addr addr = from_sockaddr(any);
    if (!is_wanted(g->into, any->sa_family) || interfaces_contain(g->into, &addr))
        return;
    if (g->into->count == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 8;
        struct net_addr *larger = arena_array(g->arena, cap, sizeof(*larger));
        if (g->into->count > 0)
            memcpy(larger, g->into->addrs, g->into->count * sizeof(*larger));
        g->into->addrs = larger;
        g->cap = cap;
    }
    g->into->addrs[g->into->count++] = addr;
}

static bool
is_address(const struct ifaddrs *device)
{
    return device->ifa_addr && (device->ifa_flags & IFF_UP) &&
           (device->ifa_addr->sa_family == AF_INET || device->ifa_addr->sa_family == AF_INET6);
}

static int
add_devices(struct gathering *g, bool only_loopback, struct err *err)
{
    struct ifaddrs *devices;
    if (getifaddrs(&devices) < 0)
        return err_errno(err, "list network interfaces");
    for (struct ifaddrs *device = devices; device; device = device->ifa_next)
        if (is_address(device) && (!only_loopback || (device->ifa_flags & IFF_LOOPBACK)))
            add(g, device->ifa_addr);
    freeifaddrs(devices);
    return 0;
}

/* A name, or an address, in brackets or not. */
static int
add_host(struct gathering *g, struct slice word, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    if (word.len > 2 && *word.ptr == '[' && word.ptr[word.len - 1] == ']') {
        word = slice_make(word.ptr + 1, word.len - 2);
        if (slice_starts_with_fold(word, "ipv6:"))
            word = slice_make(word.ptr + 5, word.len - 5);
    }
    const char *host = arena_strndup(g->arena, word.ptr, word.len);
    int code = getaddrinfo(host, NULL, &hints, &found);
    if (code != 0)
        return err_set(err, ERR_PERM, "host not found: %s: %s", host, gai_strerror(code));
    for (struct addrinfo *one = found; one; one = one->ai_next)
        add(g, one->ai_addr);
    freeaddrinfo(found);
    return 0;
}

static bool
kernel_has_ipv6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static int
load_protocols(const struct conf *conf, struct interfaces *interfaces, struct err *err)
{
    struct arena *arena = arena_new();
    char *text = conf_string(conf, arena, "inet_protocols", err);
    struct slice rest = slice_from(text), word;
    int result = text ? 0 : -1;
    while (result == 0 && slice_word(&rest, ", \t\r\n", &word)) {
        bool all = slice_equal_text_fold(word, "all");
        bool v4 = slice_equal_text_fold(word, "ipv4"), v6 = slice_equal_text_fold(word, "ipv6");
        interfaces->ipv4 |= all || v4;
        interfaces->ipv6 |= all || v6;
        if (!all && !v4 && !v6)
            result = err_set(err, ERR_SYNTAX, "parameter inet_protocols: unknown protocol \"%.*s\"", SLICE_ARG(word));
    }
    /* Empty means all, too: Debian's package leaves it empty where it can't find out. */
    if (!interfaces->ipv4 && !interfaces->ipv6)
        interfaces->ipv4 = interfaces->ipv6 = true;
    if (interfaces->ipv4 && interfaces->ipv6 && !kernel_has_ipv6())
        interfaces->ipv6 = false;
    arena_free(&arena);
    return result;
}

int
interfaces_parse(const struct conf *conf, struct arena *arena, const char *list, struct interfaces *interfaces,
                 struct err *err)
{
    struct gathering g = {.arena = arena, .into = interfaces};
    struct slice rest = slice_from(list), word;
    bool some = false;

    *interfaces = (struct interfaces){.count = 0};
    if (load_protocols(conf, interfaces, err) < 0)
        return -1;
    while (slice_word(&rest, ", \t\r\n", &word)) {
        bool all = slice_equal_text_fold(word, "all");
        bool loopback = slice_equal_text_fold(word, "loopback-only");
        some = true;
        interfaces->all |= all;
        if (all || loopback ? add_devices(&g, loopback, err) < 0 : add_host(&g, word, err) < 0)
            return -1;
    }
    if (some && interfaces->count == 0)
        return err_set(err, ERR_PERM, "no address in \"%s\" is of a protocol in inet_protocols", list);
    return 0;
}

int
interfaces_load(const struct conf *conf, struct arena *arena, struct interfaces *interfaces, struct err *err)
{
    char *list = conf_string(conf, arena, "inet_interfaces", err);
    if (!list)
        return -1;
    if (interfaces_parse(conf, arena, list, interfaces, err) < 0)
        return err_context(err, "parameter inet_interfaces");
    return 0;
}

/* --- mynetworks --- */

static unsigned
mask_length(const struct sockaddr *mask)
{
    unsigned bits = 0;
    const unsigned char *bytes =
        mask->sa_family == AF_INET6
            ? ((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr.s6_addr
            : (const unsigned char *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
    size_t size = mask->sa_family == AF_INET6 ? 16 : 4;
    for (size_t i = 0; i < size; i++)
        bits += (unsigned)__builtin_popcount(bytes[i]);
    return bits;
}

static unsigned
class_length(const struct net_addr *addr)
{
    unsigned char first = *(const unsigned char *)&addr->in4.sin_addr;
    return first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 4;
}

static void
append_network(struct buf *out, const struct net_addr *addr, unsigned bits)
{
    struct net_addr net = *addr;
    bool v6 = addr->any.sa_family == AF_INET6;
    unsigned char *bytes = v6 ? net.in6.sin6_addr.s6_addr : (unsigned char *)&net.in4.sin_addr;
    for (unsigned i = 0; i < (v6 ? 16u : 4u); i++) {
        unsigned keep = bits > 8 * i ? bits - 8 * i : 0;
        if (keep < 8)
            bytes[i] = (unsigned char)(bytes[i] & (0xff00u >> keep));
    }
    char text[INET6_ADDRSTRLEN], network[INET6_ADDRSTRLEN + 16];
    inet_ntop(v6 ? AF_INET6 : AF_INET, bytes, text, sizeof(text));
    snprintf(network, sizeof(network), v6 ? "[%s]/%u " : "%s/%u ", text, bits);
    if (!strstr(buf_text(out), network))
        buf_append_text(out, network);
}

static void
append_device(struct buf *out, const struct ifaddrs *device, const char *style)
{
    struct net_addr addr = from_sockaddr(device->ifa_addr);
    bool v6 = addr.any.sa_family == AF_INET6;
    unsigned bits = v6 ? 128 : 32;
    if (strcmp(style, "class") == 0 && !v6)
        bits = class_length(&addr);
    else if (strcmp(style, "host") != 0 && device->ifa_netmask)
        bits = mask_length(device->ifa_netmask);
    append_network(out, &addr, bits);
}

char *
interfaces_networks(const struct conf *conf, struct arena *arena, struct err *err)
{
    struct interfaces ours;
    struct ifaddrs *devices;
    struct buf out = {0};
    const char *style = conf_string(conf, arena, "mynetworks_style", err);
    if (!style || interfaces_load(conf, arena, &ours, err) < 0)
        return NULL;
    if (getifaddrs(&devices) < 0) {
        err_errno(err, "list network interfaces");
        return NULL;
    }
    for (struct ifaddrs *device = devices; device; device = device->ifa_next) {
        if (!is_address(device))
            continue;
        struct net_addr addr = from_sockaddr(device->ifa_addr);
        if (interfaces_contain(&ours, &addr))
            append_device(&out, device, style);
    }
    freeifaddrs(devices);
    struct slice text = slice_trim(buf_slice(&out));
    char *networks = arena_strndup(arena, text.ptr ? text.ptr : "", text.len);
    buf_release(&out);
    return networks;
}
