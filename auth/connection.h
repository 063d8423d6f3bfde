/* SPDX-License-Identifier: Apache-2.0 */
/* auth/connection.h: a client of Dovecot's authentication protocol. Its lines are read by one task; each AUTH becomes a request
 * with a task of its own, which writes its answers itself. Answers are short and the socket's buffer is large: a client that does
 * not read them is cut off. */
#ifndef AUTH_CONNECTION_H
#define AUTH_CONNECTION_H

#include "auth/server.h"
#include "lib/base/slice.h"

struct connection;

/* Serves it to its end. */
void may_wait connection_serve(struct server *, int fd);

/* Writes a line, of which no part is a secret. */
void connection_say(struct connection *, const char *fmt, ...) PRINTF_LIKE(2, 3);

struct request;
void connection_forget(struct connection *, struct request *);

#endif
