/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/server.h: what all sessions of a process share: settings, lists, restrictions, and the links to the services that
 * sessions ask. Made once before the first connection and not changed afterwards, but for the caches. */
#ifndef SMTPD_SERVER_H
#define SMTPD_SERVER_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/conf/interfaces.h"
#include "lib/conf/settings_smtpd.h"
#include "lib/mail/auth_client.h"
#include "lib/mail/dns_client.h"
#include "lib/mail/route.h"
#include "lib/mail/submit.h"
#include "lib/run/file_watch.h"
#include "lib/run/link.h"
#include "lib/run/tls.h"
#include "lib/table/maps.h"
#include "lib/table/match_list.h"

struct access_list;   /* restrict.h */
struct local_clients; /* local_client.h */
struct peer_cache;    /* peer.h */
struct policies;      /* policy.h */

/* The tables that know which addresses exist, and those that turn one address into another. */
struct user_tables {
    struct maps *local, *virtual_mailbox, *relay;
    struct maps *virtual_alias, *canonical, *sender_canonical, *recipient_canonical;
};

/* What is done about lines that end in a bare LF; they are made proper in any case. */
enum bare_lf { BARE_LF_NORMALIZE, BARE_LF_NOTE, BARE_LF_REJECT };

enum tls_level { TLS_LEVEL_NONE, TLS_LEVEL_MAY, TLS_LEVEL_ENCRYPT };

struct server {
    struct arena *arena;
    struct smtpd_settings set;
    const struct conf *conf;
    const char *service; /* the service's name in master.cf */
    bool stand_alone;    /* for a user of this machine, without the other daemons: postdrop.h */
    struct list sessions;

    struct interfaces interfaces; /* inet_interfaces */
    struct interfaces proxies;    /* proxy_interfaces */
    struct match_list *mynetworks, *mx_backup_networks;
    struct match_list *xforward_hosts, *xclient_hosts, *verp_clients;
    unsigned submit_flags; /* receive_override_options: for cleanup */
    bool accepts_unlisted; /* and of those: no_unknown_recipient_checks */
    struct match_list *bare_lf_exempt;
    struct match_list *limits_exempt; /* clients that anvil does not count */

    /* One for each smtpd_..._restrictions */
    struct access_list *client, *helo, *sender, *relay, *recipient, *data, *end_of_data, *etrn;
    struct access_list *new_relay; /* what smtpd_relay_restrictions would be without compatibility_level; NULL: it is */
    struct map *classes;           /* smtpd_restriction_classes: name -> struct access_list */
    struct map *tables;            /* of access restrictions: "type:name" -> struct table */
    struct policies *policies;
    struct user_tables users;
    struct maps *rbl_replies;
    struct maps *command_filter; /* NULL: none */
    struct maps *reject_footers; /* NULL: none */
    struct maps *ehlo_discards;  /* by the client's address; NULL: none */
    struct match_list *logged_permits;
    bool reply_bytes[256];  /* smtpd_expansion_filter: what values in replies about DNS lists may have */
    bool access_subdomains; /* "domain" in an access table matches what is below it, too */

    enum bare_lf bare_lf;
    enum tls_level tls_level;
    struct tls_context *tls; /* NULL: TLS can't be had */
    struct tls_settings tls_settings;
    struct file_watch *tls_files;

    struct map *hosts; /* address text -> name, from the hosts file */
    struct peer_cache *peers;

    int queue_fd; /* the queue directory, for queue_minfree */

    unsigned instances; /* made so far: session_instance() */

    struct auth_client *auth; /* NULL: nobody can log in */
    bool auth_is_remote;      /* it needs a socket of the network */
    struct match_list *auth_exceptions, *auth_filter;
    struct maps *login_owners, *relay_certificates;

    struct local_clients *local_clients;

    struct router *router;
    struct submitter *submitter;
    struct dns_client *dns;
    struct link *anvil; /* NULL: no counting */
    struct link *flush; /* NULL: no ETRN */
};

/* Before the sandbox: reads settings, files, keys. *server lives in arena; the conf must live as long. */
struct server *server_new(struct arena *, const struct conf *, const char *service, struct err *) MUST_USE;

/* For a session that is run by hand (sendmail -bs): no restrictions, tables, logins or TLS, and no links. As mail_owner's process
 * it is a server like any other. */
struct server *server_new_by_hand(struct arena *, const struct conf *, const char *service, struct err *) MUST_USE;

/* Opens the links. path(class_and_name) gives a service's socket. */
void server_connect(struct server *, const char *(*path)(const char *class_and_name));

void server_free(struct server **);

#endif
