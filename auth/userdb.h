/* SPDX-License-Identifier: Apache-2.0 */
/* auth/userdb.h: whose files a user's mail is: for local users as local(8) delivers it, for virtual ones as virtual(8) does. */
#ifndef AUTH_USERDB_H
#define AUTH_USERDB_H

#include "auth/server.h"

/* Fills in uid, gid, home, mail; *found false: the user has no mailbox here. -1: can't be told now. */
int may_wait userdb_find(struct server *, struct arena *, const char *user, struct auth_ticket *, bool *found,
                         struct err *) MUST_USE;

#endif
