/* SPDX-License-Identifier: Apache-2.0 */
/* imap/sort.h: SORT's keys (RFC 5256, DISPLAY of RFC 5957), and the base subject, which THREAD needs too. */
#ifndef IMAP_SORT_H
#define IMAP_SORT_H

#include "imap/session.h"
#include "lib/mail/mime.h"

enum sort_kind {
    SORT_ARRIVAL,
    SORT_CC,
    SORT_DATE,
    SORT_FROM,
    SORT_SIZE,
    SORT_SUBJECT,
    SORT_TO,
    SORT_DISPLAYFROM,
    SORT_DISPLAYTO
};

struct sort_key {
    enum sort_kind kind;
    bool reverse;
};

int sort_take_keys(struct session *, struct sort_key **, size_t *count) MUST_USE;

/* Orders uids. */
int may_wait sort_run(struct session *, const struct sort_key *, size_t key_count, uint32_t *uids, size_t count,
                      struct err *) MUST_USE;

/* RFC 5256 section 2.1, folded for comparing; *is_reply: something like "Re:" or "Fwd:" was taken off. In the arena. */
struct slice sort_base_subject(struct arena *, struct slice subject, bool *is_reply);

/* A field's first address, folded: its local part, or with display its name (else the address). In the arena. */
struct slice sort_address(struct arena *, struct slice header, const char *field, bool display);

/* The Date field's time in UTC; where it has none, when the message arrived. */
int64_t sort_sent_date(struct folder *, struct folder_message *, const struct index_cached *);

#endif
