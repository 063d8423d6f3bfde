/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/server_names.h: which certificate a TLS server shows to a client that asks for a name (SNI): tables such as
 * tls_server_sni_maps, whose values are keys with their chains as postmap -F stores them. A name is looked up in small letters as it
 * is, then the domains above it with their dot (".example.com"). What is not found gets the certificate that everybody gets;
 * a table that fails, or a key that can't be used, ends the handshake.
 *
 * The contexts that are made are kept by what the tables gave, not by name: names are the clients' to invent. */
#ifndef LIB_TABLE_SERVER_NAMES_H
#define LIB_TABLE_SERVER_NAMES_H

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/conf.h"
#include "lib/run/tls.h"

/* Has settings, which are complete otherwise and whose texts live as long as arena, ask the tables in text, the value of this
 * parameter; nothing is done where there are none. No handshake may follow the arena's end. */
int server_names_use(struct arena *, const struct conf *, const char *parameter, const char *text,
                     struct tls_settings *settings, struct err *) MUST_USE;

#endif
