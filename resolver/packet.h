/* SPDX-License-Identifier: Apache-2.0 */
/* resolver/packet.h: reads a DNS message (RFC 1035 section 4). It may come from anywhere: nothing in it is trusted. */
#ifndef RESOLVER_PACKET_H
#define RESOLVER_PACKET_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/mail/messages.h"

enum { PACKET_RECORDS = 100 /* the rest is left out */, PACKET_NAME = 254 /* bytes for a name as text, NUL counted */ };

/* The number of a record type ("MX": 15); 0: not one that we know. */
unsigned packet_type(const char *name);

/* The records of the type in the answer section, in their order, are added to the answer; status, and ttl (the least) are set. What
 * can't be a host name where one has to stand is left out. ERR_SYNTAX: it is no DNS message; the answer has nothing of it. */
int packet_read(struct arena *, struct slice packet, unsigned type, struct msg_dns_answer *, struct err *) MUST_USE;

/* May the text be asked for: labels of letters, digits, '-', '_' and '/', of at most 63 bytes, 253 in all. */
bool packet_is_name(const char *text);

#endif
