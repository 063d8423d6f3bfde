/* SPDX-License-Identifier: Apache-2.0 */
/* comsat(8): "user@offset" in a datagram to this host. Nobody may be listening. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "local/local.h"

enum { BIFF_PORT = 512, MESSAGE_LIMIT = 300 };

void
biff_notify(const char *user, int64_t position)
{
    static int fd = -1;
    const struct sockaddr_in comsat = {
        .sin_family = AF_INET, .sin_port = htons(BIFF_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char message[MESSAGE_LIMIT];
    int len = snprintf(message, sizeof message, "%s@%lld", user, (long long)position);

    if (fd < 0)
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && len < MESSAGE_LIMIT)
        (void)!sendto(fd, message, (size_t)len, MSG_NOSIGNAL, (const struct sockaddr *)&comsat, sizeof comsat);
}
