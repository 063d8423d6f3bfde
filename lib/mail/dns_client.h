/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/dns_client.h: asks the resolver daemon. A failure is temporary and never means "no such name". */
#ifndef LIB_MAIL_DNS_CLIENT_H
#define LIB_MAIL_DNS_CLIENT_H

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/mail/messages.h"

struct dns_client;

struct dns_client *dns_client_new(const char *path);
void dns_client_free(struct dns_client **);

/* type: "MX", "A", "AAAA", "PTR" (name: as in reverse DNS), "TXT", "TLSA", "SRV"; "ADDR": A and AAAA records in one answer; "HOST": the
 * same, but what /etc/hosts says goes before the DNS. The answer, its records in the order that DNS gave, lives in the arena.
 * -1: the resolver can't be reached, or the deadline passed: as DNS_FAIL. */
int may_wait dns_lookup(struct dns_client *, struct arena *, const char *name, const char *type, usec_t deadline,
                        struct msg_dns_answer *, struct err *) MUST_USE;

#endif
