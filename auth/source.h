/* SPDX-License-Identifier: Apache-2.0 */
/* auth/source.h: where users and their passwords are found: auth_sources, one after the other; the first that knows the user
 * decides. A source that can't be asked makes the whole answer "not now", never "no". */
#ifndef AUTH_SOURCE_H
#define AUTH_SOURCE_H

#include "auth/request.h"
#include "lib/mail/password.h"

/* Takes the name that the client gives: lower case, with smtpd_sasl_local_domain where it has none. False: no name. */
bool source_set_user(struct request *, struct slice user);

/* The password of a user. Takes as long when there is no such user. */
enum verdict may_wait source_check(struct request *, struct slice user, struct slice password);

/* A user who has shown otherwise who he is. */
enum verdict may_wait source_accept(struct request *, struct slice user);

/* The SCRAM keys of request->user; *exists false: of nobody. */
enum verdict may_wait source_scram_keys(struct request *, const char *digest, struct scram_keys *, bool *exists);

/* The stored password of request->user, in its arena; ptr NULL: of nobody, or only a hash is stored. */
enum verdict may_wait source_plain(struct request *, struct slice *password);

/* Logs that a source can't be asked. */
enum verdict source_failed(const char *source, const struct err *);

#endif
