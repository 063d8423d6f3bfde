/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/header_addr.h: the addresses in the value of a header such as To: (RFC 5322 section 3.4 with its obsolete
 * forms, and what sloppy programs write), in their places, so that one can be exchanged while everything around it, names,
 * comments, groups, line breaks, stays as it is. Also what stands on the right of canonical, virtual and alias tables.
 *
 * One pass from left to right: time and memory grow with the text's length only. Nothing is an error: what can't be part of
 * an address is passed over. Comments may nest; an unclosed quote, comment or bracket ends with the text. Two words with a
 * blank between and no comma ("joe smith") are two addresses. */
#ifndef LIB_MAIL_HEADER_ADDR_H
#define LIB_MAIL_HEADER_ADDR_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"

struct header_addr {
    size_t start, end; /* bytes of the text that are the address; between < and > if there are */
    const char *raw;   /* raw form (lib/mail/addr.h), in the arena; "" for <> */
    bool has_domain;   /* an '@' that is not quoted; a local part may hold others */
    bool needs_comma;  /* nothing but blanks or comments divides it from the address before it */
};

/* Zero-fill, then set text and token_limit (0: none). */
struct header_addr_scan {
    struct slice text;
    unsigned token_limit;
    size_t at;
    size_t words_end; /* up to here no '<' or ':' makes a name of the words */
    unsigned tokens;
    bool after_address, is_cut; /* is_cut: the limit was reached at `at` */
};

/* The next address; false at the end. */
bool header_addr_next(struct arena *, struct header_addr_scan *, struct header_addr *);

/* The text with addresses exchanged: news[i] for found[i], in raw form; NULL: as it is. Appended to out. */
struct buf;
void header_addr_replace(struct arena *, struct slice text, const struct header_addr *found, const char *const *news,
                         unsigned count, struct buf *out);

#endif
