/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/proxy_header.h: the PROXY protocol, versions 1 (text) and 2 (binary): what a proxy sends in front of a connection that it
 * passes on, to say whose it is. haproxy.org's proxy-protocol.txt. Whoever can connect to a socket where it is expected is
 * believed. */
#ifndef LIB_RUN_PROXY_HEADER_H
#define LIB_RUN_PROXY_HEADER_H

#include <stdbool.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/net.h"

/* The longest that is taken, with what a proxy adds behind the addresses (which is passed over). */
enum { PROXY_HEADER_MOST = 8192 };

struct proxy_header {
    bool is_local; /* the proxy's own connection, or one of which it knows nothing: the socket's addresses count */
    struct net_addr client, server; /* else: AF_INET or AF_INET6, both of a kind */
};

/* 1: a whole header, *used bytes long. 0: the beginning of one; all these bytes belong to it. -1 (ERR_SYNTAX): none. */
int proxy_header_decode(struct slice bytes, struct proxy_header *, size_t *used, struct err *) MUST_USE;

/* Reads one from a non-blocking socket, and nothing of what follows. -1: ERR_TIMEOUT, ERR_CLOSED, ERR_SYNTAX. */
int may_wait proxy_header_read(int fd, usec_t deadline, struct proxy_header *, struct err *) MUST_USE;

#endif
