/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/proxy_header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/buf.h"
#include "lib/run/task.h"

enum {
    V1_MOST = 107, /* with CRLF: section 2.1 */
    V2_FIXED = 16, /* signature, version and command, family, length */
    V2_IN4 = 12,   /* addresses and ports */
    V2_IN6 = 36,
};

static const char v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* ---- version 1 ---- */

static int
v1_address(struct slice text, struct slice port, int family, struct net_addr *addr, struct err *err)
{
    char address[INET6_ADDRSTRLEN];
    unsigned long long number;
    struct net_addr any = {.any.sa_family = (sa_family_t)family};

    if (text.len == 0 || text.len >= sizeof address || slice_has_byte(text, '\0'))
        return err_set(err, ERR_SYNTAX, "bad address");
    memcpy(address, text.ptr, text.len);
    address[text.len] = '\0';
    if (inet_pton(family, address, family == AF_INET ? (void *)&any.in4.sin_addr : (void *)&any.in6.sin6_addr) != 1)
        return err_set(err, ERR_SYNTAX, "bad address");
    if (port.len == 0 || (port.len > 1 && port.ptr[0] == '0') || slice_to_u64(port, 65535, &number) < 0)
        return err_set(err, ERR_SYNTAX, "bad port");
    return net_addr_parse(address, (unsigned)number, addr, err);
}

/* line: without its end. */
static int
v1_line(struct slice line, struct proxy_header *header, struct err *err)
{
    const char *end = line.ptr + line.len;
    struct slice words[6];
    size_t count = 0;

    while (count < 6 && slice_cut(&line, ' ', &words[count]))
        count++;
    header->is_local = count >= 2 && slice_equal_text(words[1], "UNKNOWN");
    if (header->is_local)
        return 0;
    if (count != 6 || words[5].ptr + words[5].len != end)
        return err_set(err, ERR_SYNTAX, "bad protocol header");
    int family = slice_equal_text(words[1], "TCP4")   ? AF_INET
                 : slice_equal_text(words[1], "TCP6") ? AF_INET6
                                                      : AF_UNSPEC;
    if (family == AF_UNSPEC)
        return err_set(err, ERR_SYNTAX, "bad protocol type");
    if (v1_address(words[2], words[4], family, &header->client, err) < 0)
        return -1;
    return v1_address(words[3], words[5], family, &header->server, err);
}

static int
v1_decode(struct slice bytes, struct proxy_header *header, size_t *used, struct err *err)
{
    struct slice start = slice_make(bytes.ptr, bytes.len < V1_MOST ? bytes.len : V1_MOST);
    const char *end = memchr(start.ptr, '\n', start.len);

    if (memcmp(start.ptr, "PROXY ", start.len < 6 ? start.len : 6) != 0)
        return err_set(err, ERR_SYNTAX, "missing protocol header");
    if (!end)
        return start.len < V1_MOST ? 0 : err_set(err, ERR_SYNTAX, "no end of the protocol header");
    *used = (size_t)(end - start.ptr) + 1;
    if (*used < 2 || end[-1] != '\r')
        return err_set(err, ERR_SYNTAX, "bad end of the protocol header");
    return v1_line(slice_make(start.ptr, *used - 2), header, err) < 0 ? -1 : 1;
}

/* ---- version 2 ---- */

static void
v2_in4(const unsigned char *address, const unsigned char *port, struct net_addr *addr)
{
    memset(addr, 0, sizeof *addr);
    addr->len = sizeof addr->in4;
    addr->in4.sin_family = AF_INET;
    memcpy(&addr->in4.sin_addr, address, 4);
    memcpy(&addr->in4.sin_port, port, 2);
}

static void
v2_in6(const unsigned char *address, const unsigned char *port, struct net_addr *addr)
{
    memset(addr, 0, sizeof *addr);
    addr->len = sizeof addr->in6;
    addr->in6.sin6_family = AF_INET6;
    memcpy(&addr->in6.sin6_addr, address, 16);
    memcpy(&addr->in6.sin6_port, port, 2);
    net_addr_unmap(addr);
}

static int
v2_addresses(const unsigned char *at, size_t len, unsigned family, struct proxy_header *header, struct err *err)
{
    switch (family) {
    case 0x11: /* TCP over IPv4 */
        if (len < V2_IN4)
            return err_set(err, ERR_SYNTAX, "short address field");
        v2_in4(at, at + 8, &header->client);
        v2_in4(at + 4, at + 10, &header->server);
        return 0;
    case 0x21: /* TCP over IPv6 */
        if (len < V2_IN6)
            return err_set(err, ERR_SYNTAX, "short address field");
        v2_in6(at, at + 32, &header->client);
        v2_in6(at + 16, at + 34, &header->server);
        return 0;
    case 0x00: /* the proxy does not know */ header->is_local = true; return 0;
    default: return err_set(err, ERR_SYNTAX, "unsupported network protocol");
    }
}

static int
v2_decode(struct slice bytes, struct proxy_header *header, size_t *used, struct err *err)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;

    if (bytes.len < V2_FIXED)
        return 0;
    size_t len = (size_t)(at[14] << 8 | at[15]);
    if (at[12] >> 4 != 2 || (at[12] & 15) > 1)
        return err_set(err, ERR_SYNTAX, "unsupported version or command");
    if (V2_FIXED + len > PROXY_HEADER_MOST)
        return err_set(err, ERR_SYNTAX, "protocol header is too long");
    if (bytes.len < V2_FIXED + len)
        return 0;
    *used = V2_FIXED + len;
    header->is_local = (at[12] & 15) == 0;
    if (header->is_local)
        return 1;
    return v2_addresses(at + V2_FIXED, len, at[13], header, err) < 0 ? -1 : 1;
}

int
proxy_header_decode(struct slice bytes, struct proxy_header *header, size_t *used, struct err *err)
{
    size_t first = bytes.len < sizeof v2_signature ? bytes.len : sizeof v2_signature;

    memset(header, 0, sizeof *header);
    if (bytes.len == 0)
        return 0;
    return memcmp(bytes.ptr, v2_signature, first) == 0 ? v2_decode(bytes, header, used, err)
                                                       : v1_decode(bytes, header, used, err);
}

/* ---- reading ---- */

/* Looks at what has come and takes only what belongs to the header: TLS may follow it in the same packet. */
static int
take(int fd, struct buf *seen, struct proxy_header *header, struct err *err)
{
    size_t before = seen->len, used = 0;
    char *room = buf_reserve(seen, PROXY_HEADER_MOST - before);
    ssize_t n = recv(fd, room, PROXY_HEADER_MOST - before, MSG_PEEK);

    if (n == 0)
        return err_set(err, ERR_CLOSED, "EOF");
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : err_errno(err, "recv");
    buf_added(seen, (size_t)n);
    int result = proxy_header_decode(buf_slice(seen), header, &used, err);
    if (result < 0)
        return -1;
    size_t mine = result > 0 ? used - before : (size_t)n;
    if (recv(fd, room, mine, 0) != (ssize_t)mine)
        return err_set(err, ERR_IO, "bytes that were there are gone");
    return result;
}

int
proxy_header_read(int fd, usec_t deadline, struct proxy_header *header, struct err *err)
{
    struct buf seen = {0};
    struct task_fd tfd;
    int result;

    task_fd_init(&tfd, fd);
    while ((result = take(fd, &seen, header, err)) == 0)
        if (task_fd_wait_read(&tfd, deadline, err) < 0) {
            result = -1;
            break;
        }
    task_fd_release(&tfd);
    buf_release(&seen);
    return result < 0 ? -1 : 0;
}
