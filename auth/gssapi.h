/* SPDX-License-Identifier: Apache-2.0 */
/* auth/gssapi.h: Kerberos tickets, by the system's library (RFC 4752). The keys are read while auth still has its privileges. */
#ifndef AUTH_GSSAPI_H
#define AUTH_GSSAPI_H

#include <stdbool.h>

#include "lib/base/compiler.h"
#include "lib/base/err.h"

/* Reads the keytab; "": the system's. ERR_PERM: there is none, or this program was built without GSSAPI. */
int gssapi_prepare(const char *keytab, struct err *) MUST_USE;

bool gssapi_is_ready(void);

#endif
