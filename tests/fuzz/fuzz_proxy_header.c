/* SPDX-License-Identifier: Apache-2.0 */
/* A PROXY header: nothing beyond what is used counts, all of its beginnings ask for more, and addresses are of the families they say. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/run/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void
check_address(const struct net_addr *addr)
{
    char text[INET6_ADDRSTRLEN];
    struct net_addr again;
    struct err err;

    check(addr->any.sa_family == AF_INET || addr->any.sa_family == AF_INET6);
    net_addr_format(addr, text, sizeof text);
    check(net_addr_parse(text, net_addr_port(addr), &again, &err) == 0);
    check(net_addr_equal_host(addr, &again));
}

/* In memory of its own, so that a read behind its end shows. */
static int
decode(const uint8_t *bytes, size_t len, struct proxy_header *header, size_t *used)
{
    struct err err;
    char *copy = malloc(len ? len : 1);

    check(copy);
    memcpy(copy, bytes, len);
    int result = proxy_header_decode(slice_make(copy, len), header, used, &err);
    free(copy);
    return result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct proxy_header header, again;
    size_t used = 0, used_again = 0;

    if (decode(bytes, len, &header, &used) <= 0)
        return 0;
    check(used > 0 && used <= len && used <= PROXY_HEADER_MOST);
    check(decode(bytes, used, &again, &used_again) == 1 && used_again == used);
    check(memcmp(&header, &again, sizeof header) == 0);
    for (size_t shorter = 0; shorter < used; shorter = shorter < 64 || shorter == used - 1 ? shorter + 1 : used - 1)
        check(decode(bytes, shorter, &again, &used_again) == 0);
    if (!header.is_local) {
        check_address(&header.client);
        check_address(&header.server);
    }
    return 0;
}
