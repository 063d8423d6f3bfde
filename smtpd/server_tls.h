/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/server_tls.h: the server's TLS settings: certificates, what clients are asked, which certificate a server name gets. */
#ifndef SMTPD_SERVER_TLS_H
#define SMTPD_SERVER_TLS_H

#include "smtpd/server.h"

/* Reads keys, while that is allowed. A key that does not work costs TLS, not the service, unless TLS is a must. */
int server_load_tls(struct server *, struct err *) MUST_USE;

/* Has a certificate been renewed? Then a new process has to take over. */
bool server_tls_has_changed(struct server *);

#endif
