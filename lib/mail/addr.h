/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/addr.h: mail addresses of the envelope. Two forms: external, as RFC 5321 writes it between < and >, and raw,
 * the local part with its quoting undone, '@', the domain: what tables and queue files hold. */
#ifndef LIB_MAIL_ADDR_H
#define LIB_MAIL_ADDR_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Parses a path as it stands in MAIL FROM or RCPT TO, with or without <>; a source route is dropped (RFC 5321 section
 * 4.1.1.3). strict: RFC 5321 only; else also what sloppy clients send (blanks inside <>, no brackets), as strict_rfc821_envelopes=no.
 * *raw is "" for <>. utf8: SMTPUTF8 was asked for. -1: ERR_SYNTAX. *rest gets what follows the path. */
int addr_parse_path(struct arena *, struct slice text, bool strict, bool utf8, const char **raw, struct slice *rest,
                    struct err *) MUST_USE;

/* The local part and domain of a raw address; the last '@' counts. domain is empty if there is none. */
void addr_split(const char *raw, struct slice *local, struct slice *domain);

/* External form, without <>: the local part quoted where it must be. "" stays "". */
const char *addr_quote(struct arena *, const char *raw);

/* Is it a domain name or an address literal that SMTP takes? */
bool addr_is_hostname(struct slice);
bool addr_is_literal(struct slice); /* [192.0.2.1], [IPv6:2001:db8::1] */
/* A site as ETRN and `postqueue -s` name it: a literal, or a name without a dot at its end that is no number. */
bool addr_is_site(struct slice);

#endif
