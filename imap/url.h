/* SPDX-License-Identifier: Apache-2.0 */
/* imap/url.h: URLs of messages on this server (RFC 5092, relative ones): "/INBOX;UIDVALIDITY=7/;UID=20/;SECTION=1.2", and
 * ";UID=20" in the selected mailbox. */
#ifndef IMAP_URL_H
#define IMAP_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"

struct imap_url {
    struct slice mailbox;  /* decoded; "" : the selected one */
    uint32_t uid_validity; /* 0: any */
    uint32_t uid;
    struct slice section;
    uint64_t offset, length;
};

/* False: it is none, or one of another kind. Results lie in the arena. */
bool imap_url_parse(struct arena *, struct slice text, struct imap_url *);

/* The bytes of a message that the section names ("", "1.2", "HEADER", "1.TEXT", "2.MIME"); false: there are none. */
bool imap_url_section(struct arena *, struct slice message, struct slice section, struct slice *bytes);

#endif
