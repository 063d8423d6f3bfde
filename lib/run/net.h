/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/net.h: socket addresses, and making sockets. All sockets are non-blocking and close-on-exec. */
#ifndef LIB_RUN_NET_H
#define LIB_RUN_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"

struct net_addr {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
};

/* Numeric forms only: "192.0.2.1", "2001:db8::1". An IPv4-mapped IPv6 address becomes IPv4. */
int net_addr_parse(const char *text, unsigned port, struct net_addr *, struct err *) MUST_USE;
int net_addr_unix(const char *path, struct net_addr *, struct err *) MUST_USE;

/* The numeric form without port; "unknown" for a Unix socket. text holds at least INET6_ADDRSTRLEN bytes. */
void net_addr_format(const struct net_addr *, char *text, size_t size);
unsigned net_addr_port(const struct net_addr *);
bool net_addr_equal_host(const struct net_addr *, const struct net_addr *);

/* IPv4-mapped IPv6 to IPv4, in place. */
void net_addr_unmap(struct net_addr *);

/* The network of so many bits that it is in, "2001:db8:1:2::/64"; the numeric form alone where they are all of its bits. What counts as one
 * client in limits: hosts have a whole network of IPv6 addresses, NET_CLIENT_V6_BITS wide at least. text holds at least
 * NET_NETWORK_SIZE bytes. */
enum { NET_CLIENT_V4_BITS = 32, NET_CLIENT_V6_BITS = 64, NET_NETWORK_SIZE = INET6_ADDRSTRLEN + 4 };
void net_addr_network(const struct net_addr *, unsigned v4_bits, unsigned v6_bits, char *text, size_t size);

/* A connected stream socket; -1 and *err if not, its text the reason alone ("Connection refused"), to which the caller
 * adds whom it was for. For TCP sets TCP_NODELAY. bind_to may be NULL. A Unix socket whose queue is full is tried again
 * until the deadline. */
int may_wait net_connect(const struct net_addr *, const struct net_addr *bind_to, usec_t deadline,
                         struct err *) MUST_USE;

/* A listening stream socket. IPv6 sockets take IPv6 alone. For a Unix path: replaces a socket that is there (and nothing
 * else), mode is its permission bits. */
int net_listen(const struct net_addr *, int backlog, unsigned mode, struct err *) MUST_USE;

/* -1 with errno. */
int net_set_nonblocking(int fd, bool on) MUST_USE;

/* Binds a Unix socket to its path: replaces a socket that is there (and nothing else), mode is its permission bits from the
 * beginning. -1 with errno. */
int net_bind_unix(int fd, const struct net_addr *, unsigned mode) MUST_USE;

#endif
