/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/proxy_client.h: tables that are asked in proxymap(8): those of a type that may block, and "proxy:...".
 *
 * All tables of a process share one link, which is connected at the first look-up. What was answered is remembered for a
 * second, found or not, so that what several steps of a message's way ask is asked once; errors never are. A server that
 * can't be reached, or does not answer in time, is ERR_TEMP. */
#ifndef LIB_TABLE_PROXY_CLIENT_H
#define LIB_TABLE_PROXY_CLIENT_H

#include "lib/table/table_type.h"

/* Before the first table is opened. The paths of the sockets of proxymap and proxywrite, as seen from this process later
 * on (chrooted or not); kept as copies. Makes table_set_proxy() know us. */
void proxy_client_init(const char *proxymap_path, const char *proxywrite_path);

/* The same for a command, whose directory is not the queue's. */
int proxy_client_init_command(const struct conf *, struct err *) MUST_USE;

/* Ends the links, for tests. */
void proxy_client_release(void);

extern const struct table_ops table_proxy_handle;

#endif
