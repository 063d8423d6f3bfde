/* SPDX-License-Identifier: Apache-2.0 */
/* imap/status.h: STATUS, which LIST ... RETURN (STATUS (...)) has too (RFC 5819). */
#ifndef IMAP_STATUS_H
#define IMAP_STATUS_H

#include "imap/session.h"

enum { STATUS_ITEMS = 11 };
extern const char *const status_names[STATUS_ITEMS];

/* "(MESSAGES UNSEEN)" as bits of status_names. */
int may_wait status_items(struct session *, unsigned *items) MUST_USE;
/* Writes the untagged response. */
int may_wait status_tell(struct session *, const char *name, unsigned items, struct err *) MUST_USE;

#endif
