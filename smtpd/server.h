/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/server.h: what all sessions of a process share: settings, lists, restrictions, and the links to the services that
 * sessions ask. Made once before the first connection and not changed afterwards, but for the caches. */
#ifndef SMTPD_SERVER_H
#define SMTPD_SERVER_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/map.h"
#include "lib/conf/settings_smtpd.h"
#include "lib/mail/dns_client.h"
#include "lib/mail/route.h"
#include "lib/mail/submit.h"
#include "lib/run/link.h"
#include "lib/run/tls.h"
#include "lib/table/match_list.h"

struct access_list; /* restrict.h */
struct peer_cache;  /* peer.h */

/* What is done about lines that end in a bare LF; they are made proper in any case. */
enum bare_lf { BARE_LF_NORMALIZE, BARE_LF_NOTE, BARE_LF_REJECT };

enum tls_level { TLS_LEVEL_NONE, TLS_LEVEL_MAY, TLS_LEVEL_ENCRYPT };

struct server {
    struct arena *arena;
    struct smtpd_settings set;
    const char *service; /* the service's name in master.cf */

    struct match_list *mynetworks;
    struct match_list *bare_lf_exempt;
    struct match_list *limits_exempt; /* clients that anvil does not count */

    /* One for each smtpd_..._restrictions */
    struct access_list *client, *helo, *sender, *relay, *recipient, *data, *end_of_data;

    enum bare_lf bare_lf;
    enum tls_level tls_level;
    struct tls_context *tls; /* NULL: TLS can't be had */

    struct map *hosts; /* address text -> name, from the hosts file */
    struct peer_cache *peers;

    struct router *router;
    struct submitter *submitter;
    struct dns_client *dns;
    struct link *anvil; /* NULL: no counting */
};

/* Before the sandbox: reads settings, files, keys. *server lives in arena. */
struct server *server_new(struct arena *, const struct conf *, const char *service, struct err *) MUST_USE;

/* Opens the links. path(class_and_name) gives a service's socket. */
void server_connect(struct server *, const char *(*path)(const char *class_and_name));

void server_free(struct server **);

#endif
