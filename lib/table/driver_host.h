/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/driver_host.h: how hosts are written in the configuration of SQL tables. Code in a header, because modules share none
 * otherwise. */
#ifndef LIB_TABLE_DRIVER_HOST_H
#define LIB_TABLE_DRIVER_HOST_H

#include <stdio.h>
#include <string.h>

struct driver_host {
    char name[256], port[32]; /* "" : not given */
};

/* "host", "inet:host:port", "[::1]:3306". */
static inline struct driver_host
driver_host_split(const char *text)
{
    struct driver_host host = {0};
    const char *colon, *end;

    if (strncmp(text, "inet:", 5) == 0)
        text += 5;
    colon = strrchr(text, ':');
    end = text[0] == '[' ? strchr(text, ']') : NULL;
    if (end) {
        snprintf(host.name, sizeof(host.name), "%.*s", (int)(end - text - 1), text + 1);
        snprintf(host.port, sizeof(host.port), "%s", end[1] == ':' ? end + 2 : "");
    } else if (colon && colon == strchr(text, ':')) {
        snprintf(host.name, sizeof(host.name), "%.*s", (int)(colon - text), text);
        snprintf(host.port, sizeof(host.port), "%s", colon + 1);
    } else {
        snprintf(host.name, sizeof(host.name), "%s", text);
    }
    return host;
}

#endif
