/* SPDX-License-Identifier: Apache-2.0 */
/* auth/server.h: what all requests share: settings, where users are found, the counts of failures. */
#ifndef AUTH_SERVER_H
#define AUTH_SERVER_H

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/map.h"
#include "lib/conf/settings_auth.h"
#include "lib/mail/auth_ticket.h"
#include "lib/table/maps.h"
#include "lib/table/match_list.h"
#include "lib/table/user_table.h"

struct failures; /* failures.h */

/* auth_sources: in this order. */
enum source_kind { SOURCE_USERS, SOURCE_PAM, SOURCE_SASLAUTHD, SOURCE_TABLE };
struct source {
    enum source_kind kind;
    const char *name;     /* as in main.cf */
    const char *argument; /* PAM's service, saslauthd's socket; "" */
    struct maps *maps;    /* SOURCE_TABLE */
};

struct server {
    struct arena *arena;
    struct auth_settings set;
    const struct conf *conf;

    struct source *sources;
    unsigned source_count;
    struct user_table *users; /* NULL: none */
    const char *sample;  /* the first record that was found: what is done for users that do not exist; NULL: none yet */
    struct maps *tokens; /* auth_token_maps */

    /* Where mailboxes lie. */
    struct match_list *local_domains, *virtual_domains;
    struct maps *mailboxes, *uids, *gids;

    unsigned char ticket_key[AUTH_KEY_SIZE];
    unsigned char pretend_key[AUTH_KEY_SIZE]; /* for users that do not exist */
    struct failures *failures;
};

/* Before the sandbox. *server lives in arena. */
struct server *server_new(struct arena *, const struct conf *, struct err *) MUST_USE;
void server_free(struct server **);

bool server_has_source(const struct server *, enum source_kind);

#endif
