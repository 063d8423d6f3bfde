/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/destination.h: a next hop, as transport tables and relayhost write it. Pure.
 *
 *   domain, domain:port         SMTP: by MX records; LMTP: the host itself
 *   [host], [host]:port         no MX look-up
 *   [192.0.2.1], [IPv6:2001:db8::1], [2001:db8::1]:port
 *   inet:...                    any of these
 *   unix:path                   LMTP only */
#ifndef SMTP_DESTINATION_H
#define SMTP_DESTINATION_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum destination_kind { DESTINATION_DOMAIN, DESTINATION_HOST, DESTINATION_ADDRESS, DESTINATION_UNIX };

struct destination {
    enum destination_kind kind;
    const char *name; /* domain, host, numeric address or path */
    unsigned port;
    bool is_default_port;
};

/* ERR_SYNTAX: it is none of the above. */
int destination_parse(struct arena *, struct slice text, unsigned default_port, bool lmtp, struct destination *,
                      struct err *) MUST_USE;

/* A number, or one of the few names that mail knows ("smtp", "submission"...): -1 if it is neither. */
int destination_port(struct slice text);

#endif
